"""Who may close and reopen a month, in the core and in the database itself; and months cut in any zone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from core import db, errors
from core.finance import checks, closing, months
from core.finance.checks import Code, Level
from core.finance.months import State
from core.finance.tables import Closing
from core.identity.access import Role
from core.periods import following_month
from tests.analytics.using import colleague, opened_at, use
from tests.factories import TESTS, make_model, make_place
from tests.finance.books import (
    an_operator,
    close,
    keeper,
    last_moment,
    last_month,
    listed,
    looked_at,
    month_before,
    offences,
    old_place,
    within,
)
from tests.identity.people import audit_rows
from tests.quota.test_gate import open_call

pytestmark = pytest.mark.usefixtures("database")
USD = 10**9


@pytest.mark.parametrize(
    "zone", ["Pacific/Kiritimati", "Pacific/Niue", "America/Santiago", "Asia/Kathmandu"]
)
def test_a_month_is_cut_in_the_tenants_zone(zone: str) -> None:
    place, model = make_place(time_zone=zone), make_model()
    month = last_month(place)
    use(place.who, model, "0.1", at=within(place, month))
    use(place.who, model, "0.2", at=last_moment(place, month))
    use(place.who, model, "0.4", at=within(place, month) - timedelta(microseconds=1))
    use(place.who, model, "0.8", at=within(place, following_month(month)))
    assert looked_at(place, month)[Code.DAILY_SUMS].level is Level.OK
    assert close(place, month).billed_nusd == 3 * USD // 10


def test_months_around_a_change_of_zone_leave_nothing_out(database_url: str) -> None:
    place, model = make_place(time_zone="Pacific/Kiritimati"), make_model()
    month = last_month(place)
    before = month_before(month)
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "insert into app.zone_changes(tenant_id, starts_on, starts_at, time_zone)"
                " values (:tenant, :day, :at, 'Pacific/Niue')"
            ),
            {"tenant": place.tenant_id, "day": month, "at": within(place, month)},
        )
    for hours in range(-30, 31, 3):
        use(place.who, model, "0.1", at=within(place, month) + timedelta(hours=hours))
    closed = [close(place, one) for one in (before, month)]
    assert [one.events for one in closed] == [10, 11]
    assert closed[0].ends_at == closed[1].begins_at
    assert offences(place) == []


def test_finance_and_admin_close_their_own_tenant_at_a_browser() -> None:
    model = make_model()
    for role in (Role.FINANCE, Role.ADMIN):
        place = make_place()
        use(place.who, model, "0.1", at=within(place, last_month(place)))
        who = keeper(place, role)
        with db.transaction(who) as session:
            closed = closing.close(session, who, place.tenant_id, last_month(place))
        assert closed.closed_by == f"user:{who.user_id}" and closed.list_nusd is None
        assert closed.billed_nusd == USD // 10
        found = listed(place, who)[last_month(place)]
        assert found.state is State.CLOSED and found.list_nusd is None


def test_members_keys_and_strangers_close_nothing() -> None:
    place, other = make_place(), make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    member = colleague(place)
    with_key = replace(keeper(place), session_id=None, key_id=db.new_id())
    for who, refusal in (
        (member, errors.Forbidden), (with_key, errors.Forbidden),
        (keeper(other), errors.NotFound),
    ):  # fmt: skip
        with pytest.raises(refusal), db.transaction(who) as session:
            closing.close(session, who, place.tenant_id, month)
        with pytest.raises(refusal), db.transaction(who) as session:
            months.of_tenant(session, who, place.tenant_id)
        with pytest.raises(refusal), db.transaction(who) as session:
            checks.rows(session, who, place.tenant_id, month, Code.OPEN_CALLS)
    assert ("month.close", "denied", f"user:{member.user_id}", place.tenant_id) in audit_rows(
        f"tenant:{place.tenant_id}"
    )
    assert listed(place)[month].state is State.OPEN


def test_only_operators_reopen() -> None:
    place = make_place()
    month = last_month(place)
    use(place.who, make_model(), at=within(place, month))
    close(place, month)
    who = keeper(place, Role.ADMIN)
    with pytest.raises(errors.Forbidden), db.transaction(who) as session:
        closing.reopen(session, who, place.tenant_id, month, "please")
    assert listed(place)[month].state is State.CLOSED
    operator = an_operator()
    with db.transaction(operator) as session:
        reopened = closing.reopen(session, operator, place.tenant_id, month, "wrong model")
    assert reopened.reopened_by == f"operator:{operator.user_id}"


def test_the_database_itself_writes_no_forged_closing() -> None:
    place, other, model = old_place(), old_place(), make_model()
    month = last_month(place)
    use(place.who, model, "0.1", at=within(place, month))
    who = keeper(place)

    def record(month: date, begins: datetime, ends: datetime, tenant_id: UUID) -> None:
        with db.transaction(who) as session:
            session.execute(
                text("select verbs.record_closing(:t, :c, :m, :b, :e, '{}', 'x')"),
                {"t": tenant_id, "c": db.new_id(), "m": month, "b": begins, "e": ends},
            )

    begins, ends = within(place, month), within(place, following_month(month))
    for wrong in (
        (begins + timedelta(microseconds=1), ends), (begins, ends - timedelta(microseconds=1)),
        (begins, ends + timedelta(days=1)), (begins - timedelta(days=1), ends),
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match="not the bounds"):
            record(month, *wrong, place.tenant_id)
    now_begins, now_ends = ends, within(place, following_month(following_month(month)))
    with pytest.raises(DBAPIError, match="not come to rest"):
        record(following_month(month), now_begins, now_ends, place.tenant_id)
    opened_at(open_call(place, model), begins)
    with pytest.raises(DBAPIError, match="not come to rest"):
        record(month, begins, ends, place.tenant_id)
    record(month_before(month), within(place, month_before(month)), begins, other.tenant_id)
    with db.transaction(TESTS) as session:
        tenant_ids = session.scalars(
            select(Closing.tenant_id).where(
                Closing.tenant_id.in_([place.tenant_id, other.tenant_id])
            )
        ).all()
    assert tenant_ids == [place.tenant_id]  # the web role writes for the tenant it is bound to
