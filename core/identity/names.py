"""What people type as names and e-mails, cleaned or refused. Never repairs a doubtful address."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from core import clock, errors

_EMAIL = re.compile(r"[a-z0-9._%+'-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_EMAIL_LENGTH_MAX = 254


def email(text: str) -> str:
    """The address in lower case, without surrounding space. Raises errors.BadInput."""
    cleaned = text.strip().lower()
    if len(cleaned) > _EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(cleaned):
        raise errors.BadInput("That is not an e-mail address.", param="email")
    return cleaned


def name(text: str, param: str, *, length_max: int, empty: bool = False) -> str:
    """A one-line name without control characters. Raises errors.BadInput naming `param`."""
    cleaned = text.strip()
    if not cleaned and not empty:
        raise errors.BadInput(f"The {param} is missing.", param=param)
    if len(cleaned) > length_max:
        raise errors.BadInput(f"The {param} is longer than {length_max} characters.", param=param)
    if not is_line(cleaned):
        raise errors.BadInput(f"The {param} has characters that cannot be shown.", param=param)
    return cleaned


def is_line(text: str) -> bool:
    """Whether the text has no control characters, line separators or lone surrogates."""
    return not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in text)


def printable(text: str, *, length_max: int) -> str:
    """What a stranger's client says about itself, without what cannot be shown, cut."""
    return "".join(c for c in text if c.isprintable())[:length_max]


def future(at: datetime | None, param: str) -> datetime | None:
    """A moment with a zone that is still to come, or none. Raises errors.BadInput."""
    if at is None:
        return None
    if at.tzinfo is None or at <= clock.now():
        raise errors.BadInput(f"The {param} must be a moment in the future.", param=param)
    return at
