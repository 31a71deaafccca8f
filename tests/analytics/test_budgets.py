"""core/analytics/budgets.py"""

from __future__ import annotations

import pytest

from core import db
from core.analytics import budgets
from core.analytics.budgets import MonthUse
from core.identity import keys
from core.identity.access import Principal
from core.identity.limits import LimitName, Subject, set_limit
from core.identity.zones import Calendar
from core.periods import month_of
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import colleague, use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


def _month(who: Principal) -> MonthUse:
    with db.transaction(who) as session:
        return budgets.this_month(session, who)


def test_nothing_used_shows_the_plans_limits() -> None:
    place = make_place(plan="starter", time_zone="Europe/Berlin")
    month, calendar = _month(place.who), Calendar.of_zone("Europe/Berlin")
    assert month.month == month_of(calendar.today())
    assert month.resets_at == calendar.bounds(month.month)[1]
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
        uses = budgets.key_uses(session, place.who, place.tenant_id)
    assert uses[issued.key_id].spent_nusd == call.hold_nusd
    assert uses[issued.key_id].last_used_at is not None


def test_an_operator_sees_what_the_keys_of_one_tenant_did() -> None:
    places = [make_place(), make_place()]
    issued = []
    for place in places:
        with db.transaction(place.who) as session:
            issued.append(keys.issue(session, place.who, "ci").key_id)
    with db.transaction(TESTS) as session:
        assert set(budgets.key_uses(session, TESTS, places[0].tenant_id)) == {issued[0]}
    with db.transaction(places[1].who) as session:
        assert not budgets.key_uses(session, places[1].who, places[0].tenant_id)


def test_only_an_admin_sees_what_colleagues_keys_did() -> None:
    place = make_place(role="admin")
    member = colleague(place)
    with db.transaction(member) as session:
        issued = keys.issue(session, member, "mine")
    other = colleague(place)
    for who, seen in ((place.who, {issued.key_id}), (member, {issued.key_id}), (other, set())):
        with db.transaction(who) as session:
            assert set(budgets.key_uses(session, who, place.tenant_id)) == seen
