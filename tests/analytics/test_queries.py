"""core/analytics/queries.py on usage made through the gate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from core import db, errors
from core.analytics import queries, usage
from core.analytics.periods import Period, last_days, today
from core.analytics.queries import CallRow
from core.identity.access import Principal, Role
from core.identity.limits import LimitName, Subject, set_limit
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import TESTS, Place, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


def _totals(who: Principal, days: int = 30) -> usage.Totals:
    with db.transaction(who) as session:
        return usage.totals(queries.daily(session, who, last_days(days, today(who.time_zone))))


def _calls(who: Principal, **selected: object) -> tuple[CallRow, ...]:
    with db.transaction(who) as session:
        period = last_days(30, today(who.time_zone))
        return queries.calls(session, who, period, **selected)  # type: ignore[arg-type]


def _busy_place() -> tuple[Place, Principal, str, str]:
    """A tenant with an admin and a member, two models, and a call corrected upwards."""
    place = make_place(role="admin")
    member = colleague(place)
    dear, cheap = make_model(), make_model()
    use(place.who, dear, "0.5", days_ago=3)
    use(member, cheap, "0.0000001", days_ago=2)
    use(member, dear, "0.25", source="api")
    correct(use(member, cheap, cost=cost_of("0.001", lookup=True), days_ago=1), "0.0015")
    return place, member, dear, cheap


def test_days_events_and_the_ledger_come_to_the_same_sum() -> None:
    place, *_ = _busy_place()
    with db.transaction(place.who) as session:
        of_days, of_events, of_entries = session.execute(
            text(
                "select (select sum(billed_nusd) from app.usage_daily),"
                " (select sum(billed_nusd) from app.usage_events),"
                " (select -sum(amount_nusd) from app.entries where kind in ('capture', 'adjust'))"
            )
        ).one()
        period = last_days(30, today(place.who.time_zone))
        sums = queries.call_sums(session, place.who, period)
    assert of_days == of_events == of_entries == 751_500_100
    assert _totals(place.who).cost_nusd == sums.cost_nusd == 751_500_100
    assert (_totals(place.who).requests, sums.calls) == (4, 4)


def test_the_rows_add_up_to_the_figures_also_after_a_correction() -> None:
    place, *_ = _busy_place()
    rows, sums = _calls(place.who), _totals(place.who)
    assert sum(row.cost_nusd for row in rows) == sums.cost_nusd
    assert sum(row.prompt_tokens + row.completion_tokens for row in rows) == sums.tokens
    assert len(rows) == sums.requests
    corrected = next(row for row in rows if row.cost_nusd == 1_500_000)
    assert (corrected.cost_source, corrected.final) == ("provider", True)


def test_a_member_sees_their_own_calls_only() -> None:
    place, member, dear, _ = _busy_place()
    assert {row.user_id for row in _calls(member)} == {member.user_id}
    assert _totals(member).cost_nusd == 251_500_100
    asked_for_another = _calls(member, person_id=place.user_id)
    assert {row.user_id for row in asked_for_another} == {member.user_id}
    with db.transaction(member) as session:
        period = last_days(30, today("UTC"))
        sums = queries.call_sums(session, member, period, model=dear, person_id=place.user_id)
    assert (sums.calls, sums.cost_nusd) == (1, 250_000_000)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.FINANCE])
def test_admins_and_finance_see_the_whole_tenant(role: Role) -> None:
    place, member, *_ = _busy_place()
    whole = colleague(place, role)
    assert _totals(whole).cost_nusd == 751_500_100
    assert {row.user_id for row in _calls(whole)} == {place.user_id, member.user_id}
    assert {row.user_id for row in _calls(whole, person_id=member.user_id)} == {member.user_id}


def test_another_tenants_rows_never_show() -> None:
    place, _, dear, _ = _busy_place()
    stranger = make_place(role="admin").who
    assert _totals(stranger) == usage.Totals(0, 0, 0, 0)
    assert _calls(stranger) == _calls(stranger, person_id=place.user_id) == ()
    assert _calls(stranger, model=dear) == ()
    with db.transaction(stranger) as session:
        assert queries.people(session, stranger, last_days(30, today("UTC"))) == ()


def test_row_security_holds_even_for_a_forged_principal() -> None:
    place, *_ = _busy_place()
    stranger = make_place(role="admin").who
    forged = replace(place.who, user_id=stranger.user_id)
    with db.transaction(stranger) as session:  # bound to the stranger's tenant
        assert queries.calls(session, forged, last_days(30, today("UTC"))) == ()


def test_an_estimate_is_shown_as_not_final() -> None:
    place = make_place()
    use(place.who, make_model(), cost=cost_of("0.001", lookup=True))
    (row,) = _calls(place.who)
    assert (row.cost_source, row.final) == ("estimate", False)


def test_pages_of_calls_neither_repeat_nor_skip_one() -> None:
    place = make_place()
    model = make_model()
    moment = datetime.now(UTC) - timedelta(hours=1)
    for _ in range(5):  # all at the same moment: the order must not depend on the time alone
        use(place.who, model, at=moment)
    seen: list[CallRow] = []
    while page := _calls(place.who, limit=2, before=seen[-1].cursor if seen else None):
        seen += page
    assert len({row.call_id for row in seen}) == len(seen) == 5


def test_a_model_picked_narrows_rows_and_sum_alike() -> None:
    place, _, _, cheap = _busy_place()
    rows = _calls(place.who, model=cheap)
    with db.transaction(place.who) as session:
        sums = queries.call_sums(session, place.who, last_days(30, today("UTC")), model=cheap)
    assert {row.model for row in rows} == {cheap}
    assert sum(row.cost_nusd for row in rows) == sums.cost_nusd == 1_500_100
    assert sums.calls == 2


def test_a_day_is_the_tenants_own() -> None:
    zone = "Pacific/Auckland"
    place = make_place(time_zone=zone)
    midnight = datetime.now(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    use(place.who, make_model(), "0.01", at=midnight - timedelta(seconds=1))
    use(place.who, make_model(), "0.02", at=midnight)
    for day, cost_nusd in ((midnight.date(), 20_000_000),
                           (midnight.date() - timedelta(days=1), 10_000_000)):  # fmt: skip
        period = Period(day, day)
        with db.transaction(place.who) as session:
            assert usage.totals(queries.daily(session, place.who, period)).cost_nusd == cost_nusd
            assert queries.call_sums(session, place.who, period).cost_nusd == cost_nusd


def test_people_add_up_to_the_tenant_and_name_their_costliest_model() -> None:
    place, member, dear, _ = _busy_place()
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, place.tenant_id, Subject.USER, member.user_id,
            LimitName.MONTHLY_NUSD, 1_000_000_000,
        )  # fmt: skip
    with db.transaction(place.who) as session:
        rows = queries.people(session, place.who, last_days(30, today("UTC")))
    assert [row.name for row in rows] == ["Ada", "Grace"]
    assert sum(row.cost_nusd for row in rows) == _totals(place.who).cost_nusd
    grace = rows[1]
    assert (grace.top_model, grace.requests, grace.budget_nusd) == (dear, 3, 1_000_000_000)
    assert grace.month_nusd == 251_500_100
    assert rows[0].budget_nusd is None


def test_a_member_gets_no_list_of_people() -> None:
    place = make_place()
    with pytest.raises(errors.Forbidden), db.transaction(place.who) as session:
        queries.people(session, place.who, last_days(30, today("UTC")))


def test_a_call_that_still_runs_is_not_counted_yet() -> None:
    place = make_place()
    gate.open_call(
        standing.of_member(place.who, make_model()), Ask("api", "test", prompt_tokens_guess=10)
    )
    assert _calls(place.who) == ()
    assert _totals(place.who).requests == 0
