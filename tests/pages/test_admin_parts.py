"""The parts of pages/admin.py that show what was used and done: consumers, conversations, jobs, health,
the audit log; and who reaches which part of whose tenant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from core import db, jobs
from core.alerts.rules import DEAR_CONVERSATION_NUSD
from core.analytics import figures, parameters
from core.finance import exports
from core.identity import tenants
from core.identity.access import Role
from core.money import NANO_PER_USD
from tests.analytics.using import use
from tests.factories import make_model
from tests.identity.people import SYSTEM, a_user, audit_rows, join, sign_in
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]
OF_TENANT = ["Members", "Limits", "API keys", "Models", "Conversations", "Settings", "Audit"]
OF_OPERATOR = [
    "Tenants", "People", "Consumers", "Models", "Conversations", "Offers", "Stripe", "Jobs", "Health",
    "Invariants", "Audit",
]  # fmt: skip


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


def _named(tenant_id: UUID) -> str:
    name = f"Acme {uuid4().hex[:8]}"
    with db.transaction(SYSTEM) as session:
        tenants.rename(session, SYSTEM, tenant_id, name)
    return name


def _rows(app: AppTest, column: str) -> list[dict[str, Any]]:
    return [
        {str(name): value for name, value in row.items()}
        for table in app.dataframe
        if column in table.value
        for row in table.value.to_dict("records")
    ]


def _said(app: AppTest) -> str:
    shown = (*app.header, *app.markdown, *app.caption, *app.warning, *app.success, *app.toast)
    return "\n".join(element.value for element in shown)


def _press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


@pytest.mark.parametrize("role", list(Role))
def test_the_page_is_offered_to_admins_alone(person: Make, open_page: Open, role: Role) -> None:
    app = open_page(person(role))
    if role is Role.ADMIN:
        app.switch_page("admin.py").run()
        assert app.segmented_control("part").options == OF_TENANT
    else:
        with pytest.raises(ValueError, match="Could not find a navigation page"):
            app.switch_page("admin.py")


@pytest.mark.parametrize("part", sorted(set(OF_OPERATOR) - set(OF_TENANT)))
def test_an_operators_part_is_not_reached_by_its_name(
    person: Make, open_page: Open, part: str
) -> None:
    app = open_page(person(Role.ADMIN), "admin.py", part=part)
    assert not app.exception
    assert app.segmented_control("part").value == "Members"
    assert app.segmented_control("part").options == OF_TENANT
    assert len(_rows(app, "role")) == 1


@pytest.mark.parametrize("part", OF_TENANT)
def test_another_tenant_in_the_address_changes_nothing(
    person: Make, open_page: Open, part: str
) -> None:
    mine, other = person(Role.ADMIN), person(Role.ADMIN)
    name, model = _named(other.principal.tenant_id), make_model()
    use(other.principal, model, "11", conversation_id=uuid4())
    seen = []
    for asked in ({}, {"tenant": str(other.principal.tenant_id)}, {"tenant": name}):
        app = open_page(mine, "admin.py", part=part, **asked)
        assert not app.exception
        drawn = _said(app) + "".join(table.value.to_csv() for table in app.dataframe)
        for theirs in (name, other.principal.email, str(other.principal.tenant_id)):
            assert theirs not in drawn
        assert "$11" not in drawn
        seen.append([table.value.shape for table in app.dataframe])
    assert seen[1:] == [seen[0], seen[0]]


def test_an_operator_has_every_part(operator: Person, open_page: Open) -> None:
    assert (
        open_page(operator, "admin.py", part="Jobs").segmented_control("part").options
        == OF_OPERATOR
    )


@pytest.mark.parametrize("kind", ["Tenants", "People", "Models"])
def test_a_consumers_line_opens_usage_that_adds_up_to_it(
    operator: Person, person: Make, open_page: Open, kind: str
) -> None:
    who, model = (
        person(credit_nusd=10_000 * NANO_PER_USD, plan="enterprise").principal,
        make_model(),
    )
    use(who, make_model(), "0.5")
    use(who, model, "3000.000000001")  # dear enough to be among the first
    app = open_page(operator, "admin.py", part="Consumers")
    assert not app.exception
    name = {"Tenants": _name_of(who.tenant_id), "People": who.email, "Models": model}[kind]
    tables = [table.value for table in app.dataframe if "margin" in table.value]
    shown = tables[["Tenants", "People", "Models"].index(kind)]
    names = {name, f"{name} ({who.tenant_id.hex[-6:]})"}  # tests make several of one name
    mine = [row for row in shown.to_dict("records") if row["name"] in names]
    billed = {"Models": 3_000_000_000_001}.get(kind, 3_000_500_000_001)
    opened = [_total(operator, str(row["usage"])) for row in mine]
    assert (billed, 2 if kind != "Models" else 1) in opened
    for row, (nusd, requests) in zip(mine, opened, strict=True):
        assert (row["cost"], row["requests"]) == (nusd / NANO_PER_USD, requests)


def test_a_tenants_month_opens_usage_that_adds_up_to_it(
    operator: Person, person: Make, open_page: Open
) -> None:
    who = person(time_zone="Pacific/Auckland").principal
    name = _named(who.tenant_id)
    use(who, make_model(), "0.123456789")
    app = open_page(operator, "admin.py")
    (row,) = [row for row in _rows(app, "usage") if row["name"] == name]
    assert (row["spent"], row["requests"]) == (0.123456789, 1)
    assert _total(operator, str(row["usage"])) == (123_456_789, 1)


def _name_of(tenant_id: UUID) -> str:
    with db.transaction(SYSTEM) as session:
        found = tenants.every_tenant(session, SYSTEM)
    return next(entry.name for entry in found if entry.tenant_id == tenant_id)


def _total(operator: Person, address: str) -> tuple[int, int]:
    """What the Usage page shows at an address: billed nano-USD and requests."""
    split = urlsplit(address)
    assert split.path == "usage"
    selection = parameters.read(parse_qs(split.query), datetime.now(UTC).date())
    with db.transaction(operator.operator) as session:
        found = figures.totals(session, operator.operator, selection)
    return found.billed_nusd, found.requests


def test_conversations_are_metadata_and_the_dear_are_marked(
    operator: Person, person: Make, open_page: Open
) -> None:
    admin = person(Role.ADMIN, credit_nusd=100 * NANO_PER_USD)
    member = person(tenant_id=admin.principal.tenant_id).principal
    name, model = _named(member.tenant_id), make_model()
    dear = uuid4()
    with db.transaction(member) as session:
        session.execute(
            text("insert into app.conversations(tenant_id, conversation_id, user_id, title)"
                 " values (:tenant, :conversation, :user, 'Layoffs in May')"),
            {"tenant": member.tenant_id, "conversation": dear, "user": member.user_id},
        )  # fmt: skip
    use(member, model, "10.000000001", conversation_id=dear)
    use(member, model, "10", conversation_id=uuid4())
    assert DEAR_CONVERSATION_NUSD == 10 * NANO_PER_USD
    app = open_page(admin, "admin.py", part="Conversations")
    assert not app.exception
    rows = _rows(app, "person")
    assert {(row["person"], row["model"], row["cost"], row["state"]) for row in rows} == {
        (member.email, model, "$10.000000001", "Over $10"), (member.email, model, "$10", ""),
    }  # fmt: skip
    assert "Layoffs" not in _said(app) + str(rows)
    app.toggle("conversations_dear").set_value(True).run()
    assert [row["cost"] for row in _rows(app, "person")] == ["$10.000000001"]
    over_all = open_page(
        operator, "admin.py", part="Conversations", conversations_dear="true",
        conversations_span="90 days",
    )  # fmt: skip
    mine = [row for row in _rows(over_all, "person") if row["person"] == member.email]
    assert [(row["tenant"], row["cost"]) for row in mine] == [(name, "$10.000000001")]


def test_a_job_that_was_given_up_is_tried_again(operator: Person, open_page: Open) -> None:
    with db.transaction(SYSTEM) as session:
        job_id = jobs.defer(session, "catalog.sync")
        session.execute(text("set local search_path = jobs"))
        session.execute(
            text("update jobs.procrastinate_jobs set status = 'failed' where id = :job"),
            {"job": job_id},
        )
    health = open_page(operator, "admin.py", part="Health")
    assert "Some were given up" in str([badge.value for badge in health.markdown])
    app = health.button("to_Jobs").click().run()
    assert app.segmented_control("part").value == "Jobs"
    app.button(f"retry_{job_id}").click().run()
    assert not app.exception
    with db.transaction(SYSTEM) as session:
        state = session.execute(
            text("select status::text from jobs.procrastinate_jobs where id = :job"),
            {"job": job_id},
        ).scalar_one()
        session.execute(text("set local search_path = jobs"))
        session.execute(text("delete from procrastinate_jobs where id = :job"), {"job": job_id})
    assert state == "todo"
    assert audit_rows(f"job:{job_id}") == [
        ("job.retry", "done", f"operator:{operator.operator.user_id}", None)
    ]


def test_health_shows_how_the_providers_do(operator: Person, person: Make, open_page: Open) -> None:
    provider, who = f"maker-{uuid4().hex[:6]}", person().principal
    with db.transaction(SYSTEM) as session:
        session.execute(
            text(
                "insert into app.providers(provider, title, sends_cost, keeps_generations,"
                " development_only, connect_ms, first_token_ms, idle_ms, total_ms)"
                " values (:name, :name, true, true, false, 1, 1, 1, 1)"
            ),
            {"name": provider},
        )
    model = make_model(provider=provider)
    for outcome in ("ok", "ok", "ok", "error"):
        use(who, model, "0.001", outcome=outcome, latency_ms=1_500, first_token_ms=250)
    app = open_page(operator, "admin.py", part="Health")
    assert not app.exception
    (row,) = [row for row in _rows(app, "success") if row["provider"] == provider]
    assert (row["calls"], row["success"]) == (4, "75.0%")
    assert (row["first"], row["whole"]) == ("0.25 s · 0.25 s · 0.25 s", "1.50 s · 1.50 s · 1.50 s")


def test_the_log_is_searched_by_act_and_by_person(
    person: Make, open_page: Open, operator: Person
) -> None:
    admin = person(Role.ADMIN)
    tenant_id, user_id = admin.principal.tenant_id, a_user()
    name = _named(tenant_id)
    join(tenant_id, user_id)
    email = sign_in(user_id).principal.email
    with db.transaction(operator.operator) as session:
        tenants.set_tenant_active(session, operator.operator, tenant_id, active=True)
    app = open_page(admin, "admin.py", part="Audit")
    every = {(row["action"], row["object"]) for row in _rows(app, "action")}
    assert {("tenant.activate", f"tenant: {name}"), ("member.add", f"user: {email}")} <= every
    app.text_input("audit_words").set_value("activate").run()
    assert {row["action"] for row in _rows(app, "action")} == {"tenant.activate"}
    app.text_input("audit_words").set_value(email.upper()).run()
    assert {row["object"] for row in _rows(app, "action")} == {f"user: {email}"}
    app.text_input("audit_words").set_value("100%").run()
    assert "Nothing was recorded that fits" in _said(app)


@pytest.mark.parametrize("is_operator", [False, True])
def test_the_log_is_exported_for_whom_it_is_shown_to(
    person: Make, operator: Person, open_page: Open, *, is_operator: bool
) -> None:
    admin = person(Role.ADMIN)
    who = operator if is_operator else admin
    app = open_page(who, "admin.py", part="Audit")
    app = _press(app, "Ask for the file")
    assert not app.exception
    actor = operator.operator if is_operator else admin.principal
    with db.transaction(actor) as session:
        asked = exports.list_exports(session, actor, actor.bound_tenant_id)[0]
    assert (asked.kind, asked.format, asked.period.days) == ("audit", "csv", 30)
    assert asked.tenant_id == actor.bound_tenant_id
    assert "is ready" in _said(app)
    assert [link.proto.url for link in app.get("link_button")] == [f"/exports/{asked.export_id}"]


def test_a_log_of_one_tenant_that_is_being_made_is_waited_for_among_its_exports(
    person: Make, operator: Person, open_page: Open
) -> None:
    tenant_id = person(Role.ADMIN).principal.tenant_id
    app = open_page(operator, "admin.py", part="Audit")
    app.selectbox("audit_tenant").set_value(tenant_id).run()
    app.selectbox("audit_format_0").set_value("xlsx").run()
    app = _press(app, "Ask for the file")
    assert "is being made" in _said(app)
    ((path, asked),) = [_way(link.proto.url) for link in app.get("link_button")]
    assert (path, asked) == ("/finance", {"part": "Exports", "tenant": str(tenant_id)})
    there = open_page(operator, "finance.py", **asked)
    assert there.selectbox("tenant").value == tenant_id


def _way(url: str) -> tuple[str, dict[str, str]]:
    """A link's page, and what its address says."""
    to = urlsplit(url)
    return to.path, {name: values[0] for name, values in parse_qs(to.query).items()}
