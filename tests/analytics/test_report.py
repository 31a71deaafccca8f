"""core/analytics/report.py"""

from __future__ import annotations

import pytest

from core import db
from core.analytics import report, usage
from core.analytics.report import Report
from core.identity.access import Principal
from tests.analytics.using import colleague, use
from tests.factories import make_model, make_place

pytestmark = pytest.mark.usefixtures("database")


def _read(who: Principal, days: int = 7) -> Report:
    with db.transaction(who) as session:
        return report.read(session, who, days)


def test_the_period_is_compared_with_the_one_before_it() -> None:
    place = make_place()
    model = make_model()
    use(place.who, model, "0.3", days_ago=1)
    use(place.who, model, "0.1", days_ago=6)
    use(place.who, model, "0.2", days_ago=7)
    use(place.who, model, "0.7", days_ago=200)
    found = _read(place.who)
    assert (found.now.cost_nusd, found.before.cost_nusd) == (400_000_000, 200_000_000)
    assert usage.change(found.now.cost_nusd, found.before.cost_nusd) == 1.0


def test_the_outlook_begins_with_what_this_month_cost() -> None:
    place = make_place(plan="pro")
    use(place.who, make_model(), "0.3")
    use(place.who, make_model(), "0.9", days_ago=45)
    found = _read(place.who, days=90)
    assert found.outlook().spent_nusd == 300_000_000
    assert found.now.cost_nusd == 1_200_000_000


def test_a_member_gets_neither_people_nor_the_teams_budget() -> None:
    place = make_place(role="admin", plan="pro")
    member = colleague(place)
    use(place.who, make_model(), "0.3")
    whole, own = _read(place.who), _read(member)
    assert [row.user_id for row in whole.people] == [place.user_id]
    assert (whole.budget.scope, own.budget.scope) == ("tenant", "user")
    assert own.people == ()
    assert own.is_empty
    assert not whole.is_empty
