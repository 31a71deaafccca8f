"""The monthly partitions of the usage events, made ahead of time. Never drops one."""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, jobs
from core.db import System

MONTHS_AHEAD = 3


def ensure(session: Session, first: date, last: date) -> int:
    """Make the partitions of the months from `first` to `last`; returns how many were missing."""
    made, month = 0, first.replace(day=1)
    while month <= last:
        made += bool(
            session.scalar(text("select app.ensure_usage_partition(:month)"), {"month": month})
        )
        month = following(month)
    return made


def ensure_ahead(session: Session) -> int:
    """Make those of this month and the next three; returns how many were missing."""
    this = datetime.now(UTC).date().replace(day=1)
    last = this
    for _ in range(MONTHS_AHEAD):
        last = following(last)
    return ensure(session, this, last)


def following(month: date) -> date:
    """The first day of the month after that of `month`."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


@jobs.periodic("10 1 * * *", "metering.partitions")
def _ensure_ahead() -> None:
    with db.transaction(System("partitions")) as session:
        ensure_ahead(session)
