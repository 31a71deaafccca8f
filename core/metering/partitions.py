"""The monthly partitions of the usage events, made ahead of time. Never drops one."""

from __future__ import annotations

from datetime import date

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import clock, db, jobs
from core.db import System
from core.jobs import Queue
from core.periods import following_month

MONTHS_AHEAD = 3


def ensure(session: Session, first: date, last: date) -> int:
    """Make the partitions of the months from `first` to `last`; returns how many were missing."""
    made, month = 0, first.replace(day=1)
    while month <= last:
        made += bool(
            session.scalar(text("select app.ensure_usage_partition(:month)"), {"month": month})
        )
        month = following_month(month)
    return made


def ensure_ahead(session: Session) -> int:
    """Make those of this month and the next three; returns how many were missing."""
    this = clock.now().date().replace(day=1)
    last = this
    for _ in range(MONTHS_AHEAD):
        last = following_month(last)
    return ensure(session, this, last)


@jobs.periodic("10 1 * * *", "metering.partitions", Queue.LONG)
def _ensure_ahead() -> None:
    with db.transaction(System("partitions")) as session:
        ensure_ahead(session)
