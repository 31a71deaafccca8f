"""pages/usage.py, run by Streamlit on usage made through the gate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from core import db
from core.analytics.periods import month_of, today
from core.identity.access import Role
from core.identity.limits import LimitName, Subject, set_limit
from core.money import exact, show
from tests.analytics.using import correct, cost_of, use
from tests.factories import TESTS, make_model
from tests.pages.conftest import Person

Make = Callable[..., Person]
Open = Callable[..., AppTest]


# A column that only this table has.
_MARKS = {"calls": "outcome", "models": "colour", "members": "trend"}


def _frame(app: AppTest, place: str) -> list[dict[str, object]]:
    """The rows of one of the page's tables."""
    found = next(table.value for table in app.dataframe if _MARKS[place] in table.value)
    return found.to_dict("records")


def _metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def _said(app: AppTest) -> str:
    return "\n".join([element.value for element in (*app.markdown, *app.caption)])


def _bars(app: AppTest) -> list[str]:
    return [bar.proto.text for bar in app.get("progress")]


@pytest.fixture
def team(person: Make) -> tuple[Person, Person, str]:
    """An admin and a member of one tenant, and the model both used."""
    admin = person(Role.ADMIN, time_zone="Europe/Berlin")
    member = person(tenant_id=admin.principal.tenant_id)
    model = make_model()
    use(admin.principal, model, "0.2")
    use(member.principal, model, "0.05", days_ago=2)
    correct(use(member.principal, model, cost=cost_of("0.001", lookup=True)), "0.0015")
    return admin, member, model


def test_the_cards_the_rows_and_the_sum_are_one_figure(
    team: tuple[Person, Person, str], open_page: Open
) -> None:
    admin, _, model = team
    app = open_page(admin, "usage.py")
    assert not app.exception
    assert _metrics(app)["Cost"] == show(251_500_000)
    assert _metrics(app)["Requests"] == "3"
    rows = _frame(app, "calls")
    assert sorted(str(row["cost"]) for row in rows) == ["$0.0015", "$0.05", "$0.2"]
    assert [row["cost"] for row in _frame(app, "models")] == [show(251_500_000)]
    assert f"3 calls · 450 tokens · \\${exact(251_500_000)} in all" in _said(app)
    assert {row["model"] for row in rows} == {model}


def test_a_member_sees_their_own_use_and_no_list_of_people(
    team: tuple[Person, Person, str], open_page: Open
) -> None:
    _, member, _ = team
    app = open_page(member, "usage.py")
    assert _metrics(app)["Cost"] == show(51_500_000)
    assert len(_frame(app, "calls")) == 2
    assert "**Members**" not in _said(app)
    assert "Your own use" in _said(app)
    assert not [box for box in app.selectbox if box.label == "Member"]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.FINANCE])
def test_admins_and_finance_see_everyone(
    team: tuple[Person, Person, str], person: Make, open_page: Open, role: Role
) -> None:
    admin, _, _ = team
    whole = person(role, tenant_id=admin.principal.tenant_id)
    app = open_page(whole, "usage.py")
    assert _metrics(app)["Cost"] == show(251_500_000)
    assert [row["requests"] for row in _frame(app, "members")] == [1, 2]


def test_a_colleague_can_be_picked_and_the_sum_follows(
    team: tuple[Person, Person, str], open_page: Open
) -> None:
    admin, member, _ = team
    app = open_page(admin, "usage.py")
    app.selectbox("calls_person").set_value(member.principal.user_id).run()
    assert len(_frame(app, "calls")) == 2
    assert f"\\${exact(51_500_000)} in all" in _said(app)


def test_another_tenants_figures_never_show(
    team: tuple[Person, Person, str], person: Make, open_page: Open
) -> None:
    admin, _, model = team
    open_page(admin, "usage.py")  # its figures are cached now
    app = open_page(person(Role.ADMIN), "usage.py")
    assert not app.metric
    assert not app.dataframe
    assert model not in _said(app)


def test_what_a_person_saw_as_admin_is_not_shown_to_them_as_a_member(
    team: tuple[Person, Person, str], open_page: Open
) -> None:
    admin, _, _ = team
    open_page(admin, "usage.py")
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.memberships set role = 'member' where user_id = :user"),
            {"user": admin.principal.user_id},
        )
    app = open_page(admin, "usage.py")
    assert _metrics(app)["Cost"] == show(200_000_000)


def test_an_empty_page_says_what_to_do_first(person: Make, open_page: Open) -> None:
    app = open_page(person(), "usage.py")
    assert not app.exception
    assert "Nothing was used yet" in _said(app)
    assert "Ask a first question in Chat" in _said(app)


def test_older_use_is_in_longer_periods_only(person: Make, open_page: Open) -> None:
    who = person()
    use(who.principal, make_model(), "0.02", days_ago=20)
    app = open_page(who, "usage.py")
    assert _metrics(app)["Requests"] == "1"
    app.segmented_control("span").set_value("7 days").run()
    assert not app.exception
    assert _metrics(app)["Requests"] == "0"
    assert "Choose a longer one" in _said(app)


def test_the_period_is_in_the_address(person: Make, open_page: Open) -> None:
    who = person()
    use(who.principal, make_model(), "0.02", days_ago=60)
    app = open_page(who, "usage.py", span="90 days")
    assert app.segmented_control("span").value == "90 days"


def test_pages_of_calls_go_back_and_forth(person: Make, open_page: Open) -> None:
    who = person(credit_nusd=10_000_000_000, plan="enterprise")
    model = make_model()
    for _ in range(27):
        use(who.principal, model, "0.001")
    app = open_page(who, "usage.py")
    assert len(_frame(app, "calls")) == 25
    app.button("calls_older").click().run()
    assert len(_frame(app, "calls")) == 2
    assert app.button("calls_older").disabled
    app.button("calls_newer").click().run()
    assert len(_frame(app, "calls")) == 25


def test_a_budget_that_will_not_last_is_called_so(person: Make, open_page: Open) -> None:
    who = person(Role.ADMIN, credit_nusd=10_000_000_000)
    use(who.principal, make_model(), "0.9")
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, who.principal.tenant_id, Subject.TENANT, who.principal.tenant_id,
            LimitName.MONTHLY_NUSD, 900_000_001,
        )  # fmt: skip
    app = open_page(who, "usage.py")
    budget = next(bar for bar in _bars(app) if "forecast" in bar)
    assert budget.startswith("\\$0.9000 of \\$0.9000 spent")
    day = today("UTC")
    expected = "On track" if day == month_of(day).last else "Over budget by month end"
    assert expected in _said(app)


def test_nobody_sees_it_without_signing_in(open_alone: Callable[[str], AppTest]) -> None:
    app = open_alone("usage.py")
    assert not app.metric
    assert "Please sign in" in app.info[0].value
