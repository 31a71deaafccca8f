"""The place where a page of rows ended, as text for an address. Opaque to whoever carries it; what
comes back is believed only where it has the shape of what was given out."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta

import orjson

from core import errors

_LENGTH_MAX = 300
_LARGEST = 2**63 - 1  # of a BIGINT
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def pack(*parts: str | int) -> str:
    """The parts as one word that an address can carry."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def unpack(word: str, *kinds: type[str] | type[int]) -> list[str | int]:
    """The parts of a word, one of each kind. Raises errors.BadInput for anything else."""
    try:
        padded = word[:_LENGTH_MAX] + "=" * (-len(word) % 4)
        parts = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != [*kinds]:
        raise refused()
    if any(isinstance(part, int) and abs(part) > _LARGEST for part in parts):
        raise refused()
    return parts


def refused() -> errors.BadInput:
    """What is raised for a place that was not given out."""
    return errors.BadInput("This place in the list is not known. Begin at the top.", param="after")


def of_moment(at: datetime) -> int:
    """A moment as microseconds since 1970, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """The moment so many microseconds after 1970. Raises errors.BadInput beyond the calendar."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise refused() from None
