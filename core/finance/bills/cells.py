"""Reads the cells of an uploaded bill: amounts, counts, moments, names. Whatever is not written as one
is refused, and nothing is ever worked out: what looks like a formula is text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from core.catalog.activity import bill_usd

_AMOUNT = re.compile(r"\$?([0-9]{1,12}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?)", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,12}", re.ASCII)
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].{1,40})?", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 2020, 9_000
NAME_CHARS_MAX = 200


class BadCell(ValueError):
    """What is wrong with a cell, to be said behind its row and column."""


def amount(text: str) -> Decimal:
    """USD, exactly as written ('0.0012', '$1.5', '7.9e-07'). Raises BadCell."""
    written = _AMOUNT.fullmatch(text)
    found = bill_usd(written[1]) if written else None
    if found is None:
        raise BadCell("is not an amount in USD, such as 0.0123")
    return found


def count(text: str) -> int:
    """A whole number; an empty cell is none. Raises BadCell."""
    if text and not _COUNT.fullmatch(text):
        raise BadCell("is not a whole number")
    return int(text or 0)


def moment(text: str) -> datetime:
    """A date, or a date and time; in UTC where no zone is named. Raises BadCell."""
    try:
        written = _MOMENT.fullmatch(text.removesuffix(" UTC"))
        found = datetime.fromisoformat(written[0]) if written else None
    except ValueError:
        found = None
    if found is None or not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise BadCell("is not a date such as 2026-10-31 or 2026-10-31 18:54:30")
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def name(text: str) -> str:
    """A short name or id. Raises BadCell."""
    if not text or len(text) > NAME_CHARS_MAX or not text.isprintable():
        raise BadCell(f"is not a name of 1 to {NAME_CHARS_MAX} letters")
    return text
