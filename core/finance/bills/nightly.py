"""Reads OpenRouter's activity and compares it with our books: every night, and on demand.

Without the management key it does nothing. What the provider does not tell today is read another night:
it keeps thirty days.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import structlog
from sqlalchemy import select

from core import clock, db, errors, jobs, telemetry
from core.catalog import activity
from core.catalog.activity import ActivityRow
from core.catalog.registry import OPENROUTER
from core.db import System
from core.finance.bills import comparison, received
from core.finance.bills.comparison import DayCheck
from core.finance.bills.rows import DayRow
from core.finance.tables import ProviderBill
from core.identity import audit
from core.identity.access import Actor, require_operator
from core.jobs import Queue
from core.periods import Period
from core.settings import Settings, current

_BILLS = System("provider_bill")
log = structlog.get_logger(__name__)


def run(settings: Settings, who: Actor) -> tuple[DayCheck, ...]:
    """Read all that the provider still tells and compare each of its days, and yesterday.

    Opens its own transactions. Raises errors.Unavailable without a key, and as activity.read does; then
    nothing is changed.
    """
    require_operator(who)
    rows = activity.read(settings.openrouter_base_url, _key(settings))
    yesterday = clock.now().date() - timedelta(days=1)
    rows = tuple(row for row in rows if row.day <= yesterday)
    # How far back it goes is the provider's to say: what it does not list there is not nothing.
    first = min((row.day for row in rows), default=yesterday)
    oldest = yesterday - timedelta(days=activity.DAYS_KEPT - 1)
    return _compare(who, rows, Period(max(first, oldest), yesterday).each_day())


def run_day(settings: Settings, who: Actor, day: date) -> DayCheck:
    """Compare one closed UTC day with the bill: asked for anew where it can be, else as last read.

    Raises errors.BadInput for a day that is not over, errors.NotFound where no bill is known, and as
    activity.read does.
    """
    require_operator(who)
    comparison.require_closed(day)
    oldest = clock.now().date() - timedelta(days=activity.DAYS_KEPT)
    if settings.openrouter_management_key is not None and day >= oldest:
        rows = activity.read(settings.openrouter_base_url, _key(settings), day=day)
        return _compare(who, rows, [day])[0]
    with db.transaction(who) as session:
        if not comparison.has_bill(session, OPENROUTER, day):
            raise errors.NotFound(
                f"No bill of {day} is known: set OPENROUTER_MANAGEMENT_KEY (it reaches back"
                f" {activity.DAYS_KEPT} days), or upload the provider's activity file.",
                param="day",
            )
        return comparison.compare(session, OPENROUTER, day)


def is_configured(settings: Settings) -> bool:
    """Whether the provider can be asked."""
    return settings.openrouter_management_key is not None


def _compare(who: Actor, rows: Iterable[ActivityRow], days: list[date]) -> tuple[DayCheck, ...]:
    kept = [DayRow(r.day, r.model, r.requests, r.tokens, r.cost_usd) for r in rows]
    listed = {row.day for row in kept}
    with db.transaction(who) as session:
        comparison.lock(session)
        uploaded = set(
            session.scalars(
                select(ProviderBill.day).where(
                    ProviderBill.provider == OPENROUTER, ProviderBill.day.in_(days),
                    ProviderBill.came_by == "upload",
                )
            )
        )  # fmt: skip
        # Days the provider says nothing of cost nothing, except where a file said otherwise.
        told = [day for day in days if day in listed or day not in uploaded]
        received.replace_days(
            session, OPENROUTER, told, (row for row in kept if row.day in set(told)), "activity"
        )
        checks = comparison.compare_all(session, OPENROUTER, days)
        audit.record(
            session, who, "provider_bill.compare", f"provider:{OPENROUTER}",
            after={
                "first_day": days[0].isoformat(), "last_day": days[-1].isoformat(),
                "differing": sum(check.differs for check in checks),
            },
        )  # fmt: skip
    return checks


def _key(settings: Settings) -> str:
    if settings.openrouter_management_key is None:
        raise errors.Unavailable(
            "There is no OPENROUTER_MANAGEMENT_KEY, so the provider cannot be asked."
        )
    return settings.openrouter_management_key.get_secret_value()


@jobs.periodic("10 4 * * *", "finance.provider_bill", Queue.LONG)
def _nightly() -> None:
    if not is_configured(current()):
        return
    try:
        checks = run(current(), _BILLS)
    except errors.Refusal as refusal:
        telemetry.alarm("provider_bill_unread", provider=OPENROUTER, code=refusal.code)
        raise
    log.info("provider_bill.compared", count=len(checks))
