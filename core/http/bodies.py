"""Reads a request's body: bounded, and as strict JSON. Refuses what two parsers could read in two
ways: duplicate keys, NaN, lone surrogates, NUL, numbers that do not fit, deep nesting.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import contextmanager

import orjson
from starlette.requests import Request

from core.errors import BadInput, Busy, TooLarge
from core.http import sizes

LENGTH_MAX = 20 * 1024 * 1024
IN_FLIGHT_MAX = 192 * 1024 * 1024
EACH_IN_FLIGHT_MAX = 2 * LENGTH_MAX
_PATIENCE_S = 60
_AGAIN_S = 5
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


_in_flight: Counter[Hashable] = Counter()


class Share:
    """The bytes that one caller's request has in memory, counted among its own and everybody's."""

    def __init__(self, whose: Hashable) -> None:
        self._whose, self.length = whose, 0

    def add(self, length: int) -> None:
        """Count so many more. Raises errors.Busy where that is too much."""
        mine, all_of_it = _in_flight[self._whose] + length, _in_flight.total() + length
        if mine > EACH_IN_FLIGHT_MAX or all_of_it > IN_FLIGHT_MAX:
            raise Busy(
                "Too many large requests at once. Please try again in a moment.",
                retry_after_s=_AGAIN_S,
            )
        _in_flight[self._whose] += length
        self.length += length

    def give_back(self) -> None:
        """Count none of it any more."""
        _in_flight[self._whose] -= self.length
        if _in_flight[self._whose] <= 0:
            del _in_flight[self._whose]


@contextmanager
def in_flight(whose: Hashable) -> Iterator[Share]:
    """Count what is read within the block, until its end. On the event loop only."""
    share = Share(whose)
    try:
        yield share
    finally:
        share.give_back()


async def read(request: Request, share: Share, *, length_max: int) -> bytes:
    """The whole body. Raises TooLarge as soon as that is known; BadInput when it does not end; Busy
    where too much is in memory already."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 12 or int(declared) > length_max):
        raise _too_large(length_max)
    pieces: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(_PATIENCE_S):
            async for piece in _pieces(request):
                length += len(piece)
                if length > length_max:
                    raise _too_large(length_max)
                share.add(len(piece))
                pieces.append(piece)
    except TimeoutError:
        raise BadInput(f"The body did not arrive within {_PATIENCE_S} seconds.") from None
    return b"".join(pieces)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    has_more = True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadInput("The body ended early.")
        yield message.get("body", b"")
        has_more = message.get("more_body", False)


def parse(raw: bytes) -> dict[str, object]:
    """The JSON object in a body. Raises BadInput saying what is wrong, never showing content."""
    sizes.check(raw)
    try:
        parsed = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant,
            parse_float=_finite,
        )  # fmt: skip
        # Lone surrogates, huge integers and deep nesting can be read, but not written again.
        canonical = orjson.dumps(parsed)
    except UnicodeDecodeError:
        raise BadInput("The body is not UTF-8.") from None
    except RecursionError:
        raise BadInput("The body is nested too deeply.") from None
    except (ValueError, TypeError):
        raise BadInput("The body is not valid JSON.") from None
    if not isinstance(parsed, dict):
        raise BadInput("The body must be a JSON object.")
    if b"\\u0000" in canonical and _NUL.search(canonical):
        raise BadInput("The body contains a NUL character, which cannot be stored or sent.")
    return parsed


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_rest = Counter(name for name, _ in pairs).most_common(1)
        raise BadInput(f"The key {shown(twice)} appears twice.", param=shown(twice))
    return found


def shown(name: str) -> str:
    """A stranger's field name as it may be repeated in an answer: short, and always encodable."""
    return "".join(c if c.isprintable() else "?" for c in name[:60])


def _no_constant(name: str) -> object:
    raise BadInput(f"{name} is not JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadInput("A number in the body is too large.")
    return number


def _too_large(length_max: int) -> TooLarge:
    size = f"{length_max // 1024**2} MB" if length_max >= 1024**2 else f"{length_max} bytes"
    return TooLarge(f"The body is larger than {size}.")
