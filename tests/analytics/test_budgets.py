"""core/analytics/budgets.py"""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from core import db
from core.analytics import budgets
from core.analytics.budgets import MonthUse
from core.analytics.periods import month_of, today
from core.identity import keys
from core.identity.access import Principal
from core.identity.limits import LimitName, Subject, set_limit
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import colleague, use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")
NOON = date(2026, 3, 11)


def _month(who: Principal) -> MonthUse:
    with db.transaction(who) as session:
        return budgets.this_month(session, who)


def test_nothing_used_shows_the_plans_limits() -> None:
    place = make_place(plan="starter", time_zone="Europe/Berlin")
    month = _month(place.who)
    assert month.month == month_of(today("Europe/Berlin"))
    assert month.resets_at.timestamp() == month.month.bounds("Europe/Berlin")[1].timestamp()
    assert (month.per_minute, month.per_hour) == (20, 100)
    messages = month.find("tenant", LimitName.MONTHLY_MESSAGES)
    assert (messages.counted, messages.maximum) == (0, 1_000)
    assert month.find("user", LimitName.MONTHLY_MESSAGES).maximum is None


def test_what_a_running_call_holds_is_counted_beside_what_is_settled() -> None:
    place = make_place(plan="pro")
    model = make_model()
    use(place.who, model, "0.01")
    call = gate.open_call(
        standing.of_member(place.who, model), Ask("api", "test", prompt_tokens_guess=100)
    )
    spend = _month(place.who).find("tenant", LimitName.MONTHLY_NUSD)
    assert (spend.used, spend.held) == (10_000_000, call.hold_nusd)
    assert spend.counted == 10_000_000 + call.hold_nusd


def test_the_tenants_use_includes_colleagues_and_ones_own_does_not() -> None:
    place = make_place(plan="pro")
    use(colleague(place), make_model(), "0.5")
    use(place.who, make_model(), "0.25")
    month = _month(place.who)
    assert month.find("user", LimitName.MONTHLY_NUSD).used == 250_000_000
    assert month.find("tenant", LimitName.MONTHLY_NUSD).used == 750_000_000


def test_who_sees_only_their_own_use_is_measured_by_their_own_budget() -> None:
    place = make_place(plan="pro")
    assert budgets.budget_of(_month(place.who), whole_tenant=False).maximum is None
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, place.tenant_id, Subject.USER, place.user_id,
            LimitName.MONTHLY_NUSD, 5,
        )  # fmt: skip
    month = _month(place.who)
    assert budgets.budget_of(month, whole_tenant=False).maximum == 5
    assert budgets.budget_of(month, whole_tenant=True).scope == "tenant"


def test_a_keys_spend_is_its_own() -> None:
    place = make_place()
    with db.transaction(place.who) as session:
        issued = keys.issue(session, place.who, "ci")
    use(place.who, make_model(), "0.5")
    call = gate.open_call(
        standing.of_key(issued.secret, make_model()), Ask("api", "test", prompt_tokens_guess=9)
    )
    with db.transaction(place.who) as session:
        uses = budgets.key_uses(session, place.who)
    assert uses[issued.key_id].spent_nusd == call.hold_nusd
    assert uses[issued.key_id].last_used_at is not None


def test_only_an_admin_sees_what_colleagues_keys_did() -> None:
    place = make_place(role="admin")
    member = colleague(place)
    with db.transaction(member) as session:
        issued = keys.issue(session, member, "mine")
    other = colleague(place)
    for who, seen in ((place.who, {issued.key_id}), (member, {issued.key_id}), (other, set())):
        with db.transaction(who) as session:
            assert set(budgets.key_uses(session, who)) == seen


def test_the_forecast_adds_the_recent_mean_for_each_day_left() -> None:
    week = [(NOON - timedelta(days=n), 70) for n in range(1, 8)]
    older = [(NOON - timedelta(days=20), 9_999)]
    found = budgets.outlook(500, [*older, *week, (NOON, 1)], NOON, 1_900)
    assert found.forecast_nusd == 500 + 20 * 70
    assert found.on_track
    assert not budgets.outlook(501, week, NOON, 1_900).on_track


def test_use_that_began_lately_is_not_thinned_by_the_days_before_it() -> None:
    began = [(NOON - timedelta(days=2), 60), (NOON - timedelta(days=1), 0)]
    assert budgets.outlook(60, began, NOON, None).forecast_nusd == 60 + 20 * 30


def test_the_first_day_of_all_stands_for_itself() -> None:
    assert budgets.outlook(40, [(NOON, 40)], NOON, None).forecast_nusd == 40 + 20 * 40


def test_without_use_or_budget_the_month_is_on_track() -> None:
    found = budgets.outlook(0, [], NOON, None)
    assert (found.forecast_nusd, found.on_track) == (0, True)


def test_the_last_day_of_a_month_has_no_days_left() -> None:
    last = month_of(NOON).last
    assert budgets.outlook(7, [(last, 5)], last, 7).forecast_nusd == 7
