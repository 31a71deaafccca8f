"""Months with usage for the tests of closing: calls opened then, in any zone, and who keeps the books."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

from sqlalchemy import text

from core import db, invariants
from core.finance import checks, closing, months
from core.finance.checks import Check, Code
from core.finance.closing import Closed
from core.finance.months import Month
from core.identity import zones
from core.identity.access import Operator, Principal, Role
from core.identity.zones import Calendar
from core.periods import following_month
from core.quota.gate import OpenCall
from tests.analytics.using import colleague, cost_of, use
from tests.factories import TESTS, Place, make_place
from tests.identity.people import a_user

FINANCE_CODES = {"closed_month", "adjustment_dated"}


def old_place(**terms: str) -> Place:
    """A tenant that was made three years ago."""
    place = make_place(**terms)  # type: ignore[arg-type]
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "update app.tenants set created_at = now() - interval '3 years'"
                " where tenant_id = :tenant"
            ),
            {"tenant": place.tenant_id},
        )
    return place


def calendar_of(place: Place) -> Calendar:
    with db.transaction(TESTS) as session:
        return zones.calendar_of(session, place.tenant_id)


def last_month(place: Place) -> date:
    """The first day of the tenant's month before the current one."""
    return month_before(calendar_of(place).today())


def month_before(day: date) -> date:
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


def within(place: Place, month: date) -> datetime:
    """The first moment of a month of the tenant."""
    return calendar_of(place).start_of(month)


def last_moment(place: Place, month: date) -> datetime:
    return calendar_of(place).start_of(following_month(month)) - timedelta(microseconds=1)


def guessed(place: Place, model: str, at: datetime, usd: str = "0.02") -> OpenCall:
    """A call of that moment whose cost is an estimate until the provider is asked."""
    return use(place.who, model, at=at, cost=cost_of(usd, lookup=True))


def keeper(place: Place, role: Role = Role.FINANCE) -> Principal:
    """Somebody who may close the tenant's months, at a browser."""
    return replace(colleague(place, role), session_id=db.new_id())


def an_operator() -> Operator:
    return Operator(a_user(), "op@example.com", "Op")


def close(place: Place, month: date, **named: bool) -> Closed:
    """Close a month as the System."""
    with db.transaction(TESTS) as session:
        return closing.close(session, TESTS, place.tenant_id, month, **named)


def sums(place: Place, month: date) -> tuple[int, int]:
    """Events of a month as they are now, and what they bill."""
    begins, ends = within(place, month), within(place, following_month(month))
    with db.transaction(TESTS) as session:
        row = session.execute(
            text(
                "select count(*), coalesce(sum(billed_nusd), 0)::bigint from app.usage_events"
                " where tenant_id = :tenant and occurred_at >= :begins and occurred_at < :ends"
            ),
            {"tenant": place.tenant_id, "begins": begins, "ends": ends},
        ).one()
        return row[0], row[1]


def offences(place: Place) -> list[str]:
    """What the invariants of closed months find of this tenant."""
    with db.transaction(TESTS) as session:
        found = []
        for name in FINANCE_CODES:
            rows = session.connection().exec_driver_sql(invariants.queries()[name])
            found += [row[0] for row in rows]
        theirs = session.scalars(
            text("select call_id::text from app.calls where tenant_id = :tenant"),
            {"tenant": place.tenant_id},
        )
        names = {str(place.tenant_id), *theirs}
    return [detail for detail in found if any(name in detail for name in names)]


def looked_at(place: Place, month: date, *, accept: bool = False) -> dict[Code, Check]:
    """What stands against closing a month."""
    with db.transaction(TESTS) as session:
        found = checks.read(session, TESTS, place.tenant_id, month, accept_unreconciled=accept)
    assert [check.code for check in found.found] == list(Code)
    return {check.code: check for check in found.found}


def rows(place: Place, month: date, code: Code) -> tuple[checks.Row, ...]:
    with db.transaction(TESTS) as session:
        return checks.rows(session, TESTS, place.tenant_id, month, code)


def listed(place: Place, who: Principal | None = None) -> dict[date, Month]:
    with db.transaction(who or TESTS) as session:
        return {row.month: row for row in months.of_tenant(session, who or TESTS, place.tenant_id)}


def reopen(place: Place, month: date, reason: str = "a bill came late") -> Closed:
    with db.transaction(TESTS) as session:
        return closing.reopen(session, TESTS, place.tenant_id, month, reason)
