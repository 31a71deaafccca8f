"""core/analytics/people.py on usage made through the gate."""

from __future__ import annotations

import pytest

from core import db, errors
from core.analytics import figures, people
from core.analytics.selection import Selection
from core.identity import zones
from core.identity.access import Role
from core.identity.limits import LimitName, Subject, set_limit
from core.periods import last_days
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize("role", [Role.ADMIN, Role.FINANCE])
def test_people_add_up_to_the_tenant_and_name_their_costliest_model(role: Role) -> None:
    place = make_place(role=role)
    member, dear, cheap = colleague(place), make_model(), make_model()
    use(place.who, cheap, "0.3")
    use(member, dear, "0.2")
    use(member, cheap, "0.05", days_ago=3)
    correct(use(member, cheap, cost=cost_of("0.001", lookup=True)), "0.0015001")
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, place.tenant_id, Subject.USER, member.user_id,
            LimitName.MONTHLY_NUSD, 1_000_000_000,
        )  # fmt: skip
    with db.transaction(place.who) as session:
        period = last_days(30, zones.calendar_of(session, place.tenant_id).today())
        ada, grace = people.of_period(session, place.who, period)
        whole = figures.totals(session, place.who, Selection(period))
    assert (ada.name, grace.name) == ("Ada", "Grace")
    assert ada.cost_nusd + grace.cost_nusd == whole.billed_nusd == 551_500_100
    assert (grace.top_model, grace.requests, grace.budget_nusd) == (dear, 3, 1_000_000_000)
    assert grace.trend_nusd[-1] == 201_500_100
    assert grace.trend_nusd[-4] == 50_000_000
    assert (ada.budget_nusd, ada.month_nusd) == (None, 300_000_000)


def test_a_member_gets_no_list_of_people() -> None:
    place = make_place()
    with db.transaction(place.who) as session:
        period = last_days(30, zones.calendar_of(session, place.tenant_id).today())
        with pytest.raises(errors.Forbidden):
            people.of_period(session, place.who, period)
