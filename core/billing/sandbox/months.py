"""When a period that began at an anchor ends: the same day of a later month, or its last day."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta

from core.billing.sandbox.refusals import Obj

_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


def period_end(anchor_s: int, recurring: Obj, periods: int) -> int:
    """The end of the n-th period after the anchor, in unix seconds."""
    count = recurring["interval_count"] * periods
    at = datetime.fromtimestamp(anchor_s, UTC)
    if recurring["interval"] in _DAYS:
        days = timedelta(days=_DAYS[recurring["interval"]] * count)
        return int((at + days).timestamp())
    month = at.month - 1 + _MONTHS[recurring["interval"]] * count
    year, month = at.year + month // 12, month % 12 + 1
    day = min(at.day, monthrange(year, month)[1])
    return int(at.replace(year=year, month=month, day=day).timestamp())
