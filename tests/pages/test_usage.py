"""pages/usage.py, run by Streamlit on usage made through the gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from core import db
from core.analytics.details import Key, Order
from core.identity import zones
from core.identity.access import Role
from core.identity.limits import LimitName, Subject, set_limit
from core.money import NANO_PER_USD, exact, show
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import correct, cost_of, use
from tests.factories import TESTS, make_model
from tests.pages.conftest import Person

Make = Callable[..., Person]
Open = Callable[..., AppTest]
Team = tuple[Person, Person, str]

# A column that only this table has.
_MARKS = {"calls": "outcome", "changes": "difference", "members": "trend", "talks": "open"}
WHOLE, MEMBERS = 251_500_000, 51_500_000


def rows_of(app: AppTest, place: str) -> list[dict[str, Any]]:
    """The rows of one of the page's tables."""
    found = next(table.value for table in app.dataframe if _MARKS[place] in table.value)
    return list(found.to_dict("records"))


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def said(app: AppTest) -> str:
    return "\n".join([element.value for element in (*app.markdown, *app.caption)])


def sum_of(app: AppTest) -> int:
    """The cost that stands above the rows, to the last digit."""
    line = next(line.value for line in app.markdown if " in all" in line.value)
    amount = line.partition("**\\$")[2].partition("**")[0]
    return int(Decimal(amount) * NANO_PER_USD)


def figures(app: AppTest) -> dict[str, Any]:
    """The charts by the beginning of their description, as Plotly draws them."""
    return {
        chart.proto.alt: json.loads(chart.proto.spec) for chart in app.get("plotly_chart")
    }  # fmt: skip


def figure(app: AppTest, alt: str) -> Any:
    return next(found for name, found in figures(app).items() if name.startswith(alt))


@pytest.fixture
def team(person: Make) -> Team:
    """An admin and a member of one tenant, and the model both used."""
    admin = person(Role.ADMIN, time_zone="Europe/Berlin")
    member = person(tenant_id=admin.principal.tenant_id)
    model = make_model()
    use(admin.principal, model, "0.2")
    use(member.principal, model, "0.05", days_ago=2)
    correct(use(member.principal, model, cost=cost_of("0.001", lookup=True)), "0.0015")
    return admin, member, model


def today_of(who: Person) -> date:
    with db.transaction(who.principal) as session:
        return zones.calendar_of(session, who.principal.tenant_id).today()


def test_the_cards_the_rows_and_the_sum_are_one_figure(team: Team, open_page: Open) -> None:
    admin, _, model = team
    app = open_page(admin, "usage.py")
    assert not app.exception
    assert metrics(app)["Cost"] == show(WHOLE)
    assert metrics(app)["Requests"] == "3"
    rows = rows_of(app, "calls")
    costs = sorted(Decimal(str(row["cost"]).replace("$", "")) for row in rows)
    assert [str(cost) for cost in costs] == ["0.0005", "0.001", "0.05", "0.2"]
    assert sum(costs) * NANO_PER_USD == sum_of(app) == WHOLE
    assert {row["outcome"] for row in rows} == {"Complete", "Correction"}
    assert {row["model"] for row in rows} == {model}


def test_the_page_says_whose_use_it_is_and_in_which_zone(team: Team, open_page: Open) -> None:
    admin, member, _ = team
    assert f"Everyone in **{admin.principal.tenant_name}**" in said(open_page(admin, "usage.py"))
    own = said(open_page(member, "usage.py"))
    assert "**Your own use**" in own
    assert "Europe/Berlin" in own


def test_a_member_sees_their_own_use_and_nothing_of_others(team: Team, open_page: Open) -> None:
    admin, member, _ = team
    app = open_page(member, "usage.py")
    assert metrics(app)["Cost"] == show(MEMBERS)
    assert sum_of(app) == MEMBERS
    assert "**Members**" not in said(app)
    app = open_page(member, "usage.py", user=str(admin.principal.user_id))
    assert not app.exception
    assert "Nothing was used here" in said(app)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.FINANCE])
def test_admins_and_finance_see_everyone(
    team: Team, person: Make, open_page: Open, role: Role
) -> None:
    whole = person(role, tenant_id=team[0].principal.tenant_id)
    app = open_page(whole, "usage.py")
    assert metrics(app)["Cost"] == show(WHOLE)
    assert [row["requests"] for row in rows_of(app, "members")] == [1, 2]


def test_an_operator_without_a_team_sees_all_tenants_or_one(
    team: Team, person: Make, open_page: Open
) -> None:
    other = person(Role.ADMIN)
    use(other.principal, make_model(), "0.3")
    operator = person(operator=True)
    with db.transaction(TESTS) as session:
        session.execute(
            text("delete from app.memberships where user_id = :user"),
            {"user": operator.principal.user_id},
        )
    app = open_page(operator, "usage.py")
    assert not app.exception
    assert "**all tenants**" in said(app)
    app = open_page(operator, "usage.py", tenant=str(team[0].principal.tenant_id))
    assert metrics(app)["Cost"] == show(WHOLE)
    assert sum_of(app) == WHOLE


def test_another_tenants_figures_never_show(team: Team, person: Make, open_page: Open) -> None:
    admin, _, model = team
    open_page(admin, "usage.py")  # its figures are cached now
    stranger = person(Role.ADMIN)
    for query in ({}, {"tenant": str(admin.principal.tenant_id)}, {"model": model},
                  {"open": "by_group", "open_model": model}):  # fmt: skip
        app = open_page(stranger, "usage.py", **query)
        assert not app.exception
        assert not app.metric
        assert not app.get("plotly_chart")
        assert show(WHOLE) not in said(app)


def test_what_a_person_saw_as_admin_is_not_shown_to_them_as_a_member(
    team: Team, open_page: Open
) -> None:
    admin, _, _ = team
    open_page(admin, "usage.py")
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.memberships set role = 'member' where user_id = :user"),
            {"user": admin.principal.user_id},
        )
    app = open_page(admin, "usage.py")
    assert metrics(app)["Cost"] == show(200_000_000)


def test_an_empty_page_says_what_to_do_first(person: Make, open_page: Open) -> None:
    app = open_page(person(), "usage.py")
    assert not app.exception
    assert "Nothing was used here" in said(app)
    app.button("usage_year").click().run()
    assert app.query_params["span"] == "12m"


def test_a_value_that_does_not_exist_is_an_empty_period_with_the_way_out(
    team: Team, open_page: Open
) -> None:
    app = open_page(team[0], "usage.py", model="no/such", span="7d")
    assert not app.exception
    assert "with these filters" in said(app)
    app.button("usage_without_model").click().run()
    assert metrics(app)["Requests"] == "3"
    assert app.query_params == {"span": "7d"}


@pytest.mark.parametrize(
    "query",
    [
        {"span": "a thousand years"},
        {"from": "2026-05-01", "to": "2026-04-01"},
        {"from": "0001-01-01", "to": "9999-12-31"},
        {"from": "2026-02-30", "to": "2026-03-01"},
        {"user": "' or 1=1 --"},
        {"group_by": "password"},
        {"span": "90d", "rollup": "hour"},
        {"sort": "secret"},
        {"sort": ["cost", "time"]},
        {"changes": "' or 1=1 --"},
        {"changes": ""},
        {"changes": ["rise", "fall"]},
        {"open": "cost", "open_from": "2026-05-01"},
        {"open": "cost", "open_rest": "model-0"},
        {"open": "hours", "open_slot": "8-30"},
        {"model": [f"m{number}" for number in range(200)]},
    ],
)
def test_a_forged_address_is_refused_with_a_way_back(
    query: Mapping[str, Any], team: Team, open_page: Open
) -> None:
    app = open_page(team[0], "usage.py", **query)
    assert not app.exception
    (warning,) = app.warning
    assert "This address cannot be shown" in warning.value
    assert not app.metric
    app.button("usage_start_over").click().run()
    assert metrics(app)["Cost"] == show(WHOLE)
    assert not app.query_params


def test_ten_thousand_filters_are_no_error_and_show_nothing_of_others(
    team: Team, open_page: Open
) -> None:
    """Streamlit drops an address of more than a thousand parameters; then it is the default view."""
    app = open_page(team[1], "usage.py", model=[f"m{number}" for number in range(10_000)])
    assert not app.exception
    assert metrics(app)["Cost"] == show(MEMBERS)


def test_the_choices_are_in_the_address(team: Team, open_page: Open) -> None:
    app = open_page(team[0], "usage.py")
    app.segmented_control("usage_span").set_value("this_month").run()
    app.selectbox("usage_group").set_value("user").run()
    app.selectbox("usage_grain").set_value("week").run()
    assert app.query_params == {
        "span": "this_month", "group_by": "user", "rollup": "week",
    }  # fmt: skip
    assert "**Cost by person per week**" in said(app)


def test_a_longer_period_leaves_the_hours(team: Team, open_page: Open) -> None:
    app = open_page(team[0], "usage.py", rollup="hour")
    app.segmented_control("usage_span").set_value("90d").run()
    assert not app.warning
    assert app.query_params == {"span": "90d"}


def test_every_bar_opens_rows_that_add_up_to_it(team: Team, open_page: Open) -> None:
    admin = team[0]
    use(admin.principal, make_model(), "0.000000007")
    query = {"group_by": "user"}
    (bars,) = figure(open_page(admin, "usage.py", **query), "Cost by person, the dearest")["data"]
    shown = {key: words.partition("<b>$")[2].partition("<")[0] for words, key in bars["customdata"]}
    assert shown == {
        str(admin.principal.user_id): exact(200_000_007),
        str(team[1].principal.user_id): exact(MEMBERS),
    }
    for key, amount in shown.items():
        app = open_page(admin, "usage.py", **query, open="by_group", open_user=key)
        assert exact(sum_of(app)) == amount


@pytest.mark.parametrize("grain", ["hour", "day", "week", "month"])
def test_every_step_of_an_area_opens_rows_that_add_up_to_it(
    grain: str, team: Team, open_page: Open
) -> None:
    """Each point names a value and a step, which the address then carries as days or an hour."""
    admin, _, model = team
    app = open_page(admin, "usage.py", rollup=grain)
    (area,) = figure(app, f"Cost by model per {grain}")["data"]
    points = [point for point in area["customdata"] if not point[0].endswith("<b>$0</b>")]
    assert points
    total = 0
    for words, key, begin in points:
        assert key == model
        query = {"open": "cost", "open_model": key} | days_of(grain, begin, admin)
        found = sum_of(open_page(admin, "usage.py", rollup=grain, **query))
        assert f"<b>${exact(found)}</b>" in words
        total += found
    assert total == WHOLE


def days_of(grain: str, begin: str, who: Person) -> dict[str, str]:
    """The words of an address for a step, within the last 30 days."""
    first = date.fromisoformat(begin[:10])
    if grain == "hour":
        return {"open_from": begin[:10], "open_to": begin[:10], "open_hour": begin[:13]}
    end = {"day": first, "week": first + timedelta(days=6)}.get(
        grain, (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    )
    today = today_of(who)
    return {
        "open_from": str(max(first, today - timedelta(days=29))), "open_to": str(min(end, today)),
    }  # fmt: skip


def test_what_is_summed_up_as_other_opens_into_its_rows(person: Make, open_page: Open) -> None:
    who = person(Role.ADMIN, plan="enterprise")
    for number in range(10):
        use(who.principal, make_model(), f"0.{number + 1:03}")
    app = open_page(who, "usage.py")
    *_, rest = figure(app, "Cost by model per day")["data"]
    assert rest["name"] == "Other"
    assert {key for _, key, _ in rest["customdata"]} == {""}
    app = open_page(who, "usage.py", open="cost", open_rest="model-8")
    assert sum_of(app) == 3_000_000
    assert {row["cost"] for row in rows_of(app, "calls")} == {"$0.001", "$0.002"}


def test_a_rise_is_told_by_person_and_opens_into_its_models(person: Make, open_page: Open) -> None:
    admin = person(Role.ADMIN, plan="enterprise")
    colleague = person(tenant_id=admin.principal.tenant_id)
    dear, cheap = make_model(), make_model()
    use(admin.principal, cheap, "0.02", days_ago=10)
    use(admin.principal, cheap, "0.01")
    use(colleague.principal, cheap, "0.005", days_ago=10)
    use(colleague.principal, dear, "0.1")
    app = open_page(admin, "usage.py", span="7d", group_by="user")
    first, second = rows_of(app, "changes")
    assert (first["cost"], first["before"], first["difference"]) == ("$0.1", "$0.005", "+$0.095")
    assert (second["difference"], second["percent"]) == ("-$0.01", "-50.0%")
    app = open_page(
        admin, "usage.py", span="7d", group_by="user", open="changes",
        open_user=str(colleague.principal.user_id),
    )  # fmt: skip
    within = [table.value for table in app.dataframe if "model" in table.value]
    parts = next(frame for frame in within if "difference" in frame).to_dict("records")
    assert [(row["model"], row["difference"]) for row in parts] == [
        (dear, "+$0.1"), (cheap, "-$0.005"),
    ]  # fmt: skip


def _moved(person: Make) -> tuple[Person, dict[str, str]]:
    """An admin whose week was dear on one model, cheaper than before on another, dearer on a third."""
    admin = person(Role.ADMIN, plan="enterprise")
    models = {name: make_model() for name in ("dear", "fallen", "risen")}
    for name, before, now in (
        ("dear", "0.3", "0.3"), ("fallen", "0.2", "0.1"), ("risen", "0.01", "0.05"),
    ):  # fmt: skip
        use(admin.principal, models[name], before, days_ago=10)
        use(admin.principal, models[name], now)
    return admin, models


def _order_of(app: AppTest, models: Mapping[str, str]) -> list[str]:
    names = {model: name for name, model in models.items()}
    return [names[row["model"]] for row in rows_of(app, "changes")]


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ({}, ["risen", "dear", "fallen"]),
        ({"changes": "rise"}, ["risen", "dear", "fallen"]),
        ({"changes": "fall"}, ["fallen", "dear", "risen"]),
        ({"changes": "cost"}, ["dear", "fallen", "risen"]),
    ],
)
def test_the_address_says_the_order_of_what_changed(
    person: Make, open_page: Open, query: dict[str, str], order: list[str]
) -> None:
    admin, models = _moved(person)
    app = open_page(admin, "usage.py", span="7d", **query)
    assert not app.exception
    assert _order_of(app, models) == order


def test_both_orders_that_are_chosen_are_in_the_address_and_stay_with_the_view(
    person: Make, open_page: Open
) -> None:
    admin, models = _moved(person)
    app = open_page(admin, "usage.py", span="7d")
    app.segmented_control("usage_changes_sort").set_value("fall").run()
    assert app.query_params == {"span": "7d", "changes": "fall"}
    assert _order_of(app, models) == ["fallen", "dear", "risen"]
    app.selectbox("usage_sort").set_value(Order(Key.COST)).run()
    app.selectbox("usage_group").set_value("source").run()
    app.selectbox("usage_group").set_value("model").run()
    assert app.query_params == {"span": "7d", "changes": "fall", "sort": "cost"}
    sent = open_page(admin, "usage.py", **app.query_params)
    for shown in (app, sent):
        assert _order_of(shown, models) == ["fallen", "dear", "risen"]
        assert [row["cost"] for row in rows_of(shown, "calls")] == ["$0.3", "$0.1", "$0.05"]
        assert shown.segmented_control("usage_changes_sort").value == "fall"
    app.segmented_control("usage_changes_sort").set_value("rise").run()
    app.selectbox("usage_sort").set_value(Order()).run()
    assert app.query_params == {"span": "7d"}


def test_an_opened_view_keeps_both_orders(person: Make, open_page: Open) -> None:
    admin, models = _moved(person)
    query = {"span": "7d", "changes": "cost", "sort": "cost-up"}
    app = open_page(admin, "usage.py", **query, open="changes", open_model=models["dear"])
    assert _order_of(app, models) == ["dear", "fallen", "risen"]
    app.button("usage_show_all").click().run()
    assert app.query_params == query
    app = open_page(admin, "usage.py", **query, open="changes", open_model=models["dear"])
    app.button("usage_keep").click().run()
    assert app.query_params == query | {"model": models["dear"]}


def test_another_order_of_what_changed_leaves_the_page_of_the_rows(
    person: Make, open_page: Open
) -> None:
    who = person(credit_nusd=10_000_000_000, plan="enterprise")
    model = make_model()
    for number in range(27):
        use(who.principal, model, f"0.{number + 1:03}")
    app = open_page(who, "usage.py", sort="cost")
    app.button("usage_next").click().run()
    app.segmented_control("usage_changes_sort").set_value("cost").run()
    assert [row["cost"] for row in rows_of(app, "calls")] == ["$0.002", "$0.001"]
    sent = open_page(who, "usage.py", **app.query_params)
    assert [row["cost"] for row in rows_of(sent, "calls")][:2] == ["$0.027", "$0.026"]


def test_estimates_are_marked_and_counted(team: Team, open_page: Open) -> None:
    admin, _, model = team
    use(admin.principal, model, cost=cost_of("0.003", lookup=True))
    app = open_page(admin, "usage.py")
    assert "Of this, 1 call is an estimate" in said(app)
    marked = [row["cost"] for row in rows_of(app, "calls") if str(row["cost"]).startswith("≈")]
    assert marked == ["≈ $0.003"]


def test_pages_of_calls_go_back_and_forth_in_their_order(person: Make, open_page: Open) -> None:
    who = person(credit_nusd=10_000_000_000, plan="enterprise")
    model = make_model()
    for number in range(27):
        use(who.principal, model, f"0.{number + 1:03}")
    app = open_page(who, "usage.py", sort="cost")
    assert [row["cost"] for row in rows_of(app, "calls")][:2] == ["$0.027", "$0.026"]
    app.button("usage_next").click().run()
    assert [row["cost"] for row in rows_of(app, "calls")] == ["$0.002", "$0.001"]
    assert app.button("usage_next").disabled
    app.button("usage_back").click().run()
    assert len(rows_of(app, "calls")) == 25


def test_the_quota_says_what_is_used_and_when_it_starts_anew(person: Make, open_page: Open) -> None:
    who = person(Role.ADMIN, credit_nusd=10_000_000_000)
    use(who.principal, make_model(), "0.9")
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, who.principal.tenant_id, Subject.TENANT, who.principal.tenant_id,
            LimitName.MONTHLY_NUSD, 1_800_000_000,
        )  # fmt: skip
    app = open_page(who, "usage.py")
    bars = [bar.proto.text for bar in app.get("progress")]
    assert "Team spend: \\$0.9000 of \\$1.80 (50%)" in bars
    assert "Starts anew on" in said(app)
    assert "\\$0.9000 of \\$1.80 spent" in said(app)


@pytest.fixture
def passed(person: Make) -> Person:
    """An admin whose team and own budgets were used to 443 %."""
    who = person(Role.ADMIN, plan="enterprise", credit_nusd=10_000_000_000)
    tenant_id, user_id = who.principal.tenant_id, who.principal.user_id
    use(who.principal, make_model(), "4.43")
    with db.transaction(TESTS) as session:
        for subject, subject_id in ((Subject.TENANT, tenant_id), (Subject.USER, user_id)):
            set_limit(
                session, TESTS, tenant_id, subject, subject_id, LimitName.MONTHLY_NUSD,
                1_000_000_000,
            )  # fmt: skip
    return who


def test_a_limit_that_was_passed_is_red_and_says_by_how_much(
    passed: Person, open_page: Open
) -> None:
    app = open_page(passed, "usage.py")
    words = said(app)
    for whose in ("Your", "Team"):
        assert f":red[:material/error:] {whose} spend: \\$4.43, 443 % of \\$1.00" in words
    assert not [bar for bar in app.get("progress") if "spend" in bar.proto.text]
    assert "Over budget: 443 % spent" in words
    (row,) = rows_of(app, "members")
    assert (row["used"], row["over"]) == (None, 4.43)


def test_what_running_calls_reserve_counts_against_a_persons_budget(
    person: Make, open_page: Open
) -> None:
    who = person(Role.ADMIN, plan="enterprise", credit_nusd=10_000_000_000)
    model = make_model()
    use(who.principal, model, "0.5")
    call = gate.open_call(standing.of_member(who.principal, model), Ask("chat", "test", 10))
    with db.transaction(TESTS) as session:
        set_limit(
            session, TESTS, who.principal.tenant_id, Subject.USER, who.principal.user_id,
            LimitName.MONTHLY_NUSD, 1_000_000_000,
        )  # fmt: skip
    (row,) = rows_of(open_page(who, "usage.py"), "members")
    assert row["used"] == (500_000_000 + call.hold_nusd) // 10_000_000 / 100


def test_a_filter_narrows_cards_charts_and_rows_alike(team: Team, open_page: Open) -> None:
    admin, member, _ = team
    app = open_page(admin, "usage.py", user=str(member.principal.user_id))
    assert metrics(app)["Cost"] == show(MEMBERS)
    assert figure(app, "Cost by model, the dearest")["data"][0]["text"] == [show(MEMBERS)]
    assert sum_of(app) == MEMBERS


def test_an_unknown_user_is_nobody(team: Team, open_page: Open) -> None:
    app = open_page(team[0], "usage.py", user=str(uuid4()))
    assert not app.exception
    assert "Nothing was used here" in said(app)


def test_nobody_sees_it_without_signing_in(open_alone: Callable[[str], AppTest]) -> None:
    app = open_alone("usage.py")
    assert not app.metric
    assert "Please sign in" in app.info[0].value
