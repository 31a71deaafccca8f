"""pages/admin.py, run by Streamlit, for operators: every act of theirs is audited."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from core import db, errors
from core.billing import ledger
from core.identity import limits, passwords, sessions, tenants
from core.identity.access import Role
from core.identity.limits import Subject
from core.quota import standing
from tests.analytics.using import use
from tests.factories import make_model
from tests.identity.people import PASSWORD, SYSTEM, an_email, audit_rows
from tests.pages.conftest import MAIN, Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


@pytest.fixture
def place(person: Make) -> tuple[UUID, str, Person]:
    """A tenant with a name of its own, and its admin."""
    admin = person(Role.ADMIN)
    name = f"Acme {uuid4().hex[:8]}"
    with db.transaction(SYSTEM) as session:
        session.execute(
            text("update app.tenants set name = :name where tenant_id = :tenant"),
            {"name": name, "tenant": admin.principal.tenant_id},
        )
    return admin.principal.tenant_id, name, admin


def _opened(open_page: Open, operator: Person, tenant_id: UUID) -> AppTest:
    app = open_page(operator, "admin.py")
    return app.selectbox("tenant").set_value(tenant_id).run()


def _press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def _grant(app: AppTest) -> AppTest:
    """The form of the tenant; what waits for a second operator has buttons of the same name."""
    return next(b for b in app.button if b.label == "Grant" and b.form_id).click().run()


def _row(app: AppTest, name: str) -> dict[str, object]:
    table = next(t.value for t in app.dataframe if "balance" in t.value)
    return next(row for row in table.to_dict("records") if row["name"] == name)


def _said(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.warning, *app.success, *app.error, *app.toast)
    return "\n".join(element.value for element in shown)


def _posted(tenant_id: UUID) -> int:
    with db.transaction(SYSTEM) as session:
        return ledger.wallet(session, tenant_id).posted_nusd


@pytest.mark.parametrize("role", [Role.MEMBER, Role.FINANCE])
def test_no_role_but_an_admins_opens_it(
    person: Make, cookie: Callable[[str | None], None], role: Role
) -> None:
    cookie(person(role).browser.token)
    app = AppTest.from_file(MAIN.with_name("admin.py"), default_timeout=20).run()
    assert [warning.value for warning in app.warning] == ["Your role does not allow this page."]
    assert not app.dataframe
    assert not app.segmented_control


def test_nobody_sees_it_without_signing_in(open_alone: Callable[[str], AppTest]) -> None:
    app = open_alone("admin.py")
    assert not app.dataframe
    assert "Please sign in" in app.info[0].value


def test_a_tenant_is_listed_with_spend_and_wallet(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    _, name, admin = place
    use(admin.principal, make_model(), "0.25")
    app = open_page(operator, "admin.py")
    assert not app.exception
    row = _row(app, name)
    assert (row["spent"], row["balance"], row["requests"], row["members"]) == (0.25, 0.75, 1, 1)


def test_a_new_tenant_has_a_wallet_with_the_sign_up_credit(
    operator: Person, open_page: Open
) -> None:
    app = open_page(operator, "admin.py")
    name = f"Birch {uuid4().hex[:8]}"
    app.text_input("new_name_0").input(name)
    app.selectbox("new_zone_0").set_value("Europe/Berlin")
    app.text_input("new_markup_0").input("0.125")
    app.text_input("new_center_0").input("Sales")
    app = _press(app, "Create tenant")
    assert not app.exception
    row = _row(app, name)
    assert (row["balance"], row["zone"], row["markup"], row["center"], row["state"]) == (
        1.0, "Europe/Berlin", "12.5 %", "Sales", "Active",
    )  # fmt: skip


def test_a_tenant_with_terms_that_are_refused_is_not_made(
    operator: Person, open_page: Open
) -> None:
    app = open_page(operator, "admin.py")
    name = f"Birch {uuid4().hex[:8]}"
    app.text_input("new_name_0").input(name)
    app.text_input("new_markup_0").input("-1")
    app = _press(app, "Create tenant")
    assert "The markup is a fraction" in _said(app)
    with db.transaction(SYSTEM) as session:
        assert name not in {entry.name for entry in tenants.every_tenant(session, SYSTEM)}


def test_credit_is_granted_once_per_key(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, _, _ = place
    app = _opened(open_page, operator, tenant_id)
    for round_number in range(2):
        app.text_input(f"grant_amount_{round_number}").input("25")
        app.text_input(f"grant_reason_{round_number}").input("goodwill")
        app.text_input(f"grant_key_{round_number}").input("ticket-7")
        app = _grant(app)
        assert not app.exception
    assert _posted(tenant_id) == 26_000_000_000
    assert "nothing was booked again" in _said(app)


def test_a_grant_of_no_amount_is_refused(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, _, _ = place
    app = _opened(open_page, operator, tenant_id)
    app.text_input("grant_amount_0").input("lots")
    app = _grant(app)
    assert "An amount is written in USD" in _said(app)
    assert _posted(tenant_id) == 1_000_000_000


def test_a_suspended_tenant_is_refused_until_it_is_activated(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, _, admin = place
    app = _opened(open_page, operator, tenant_id)
    app = _press(app, "Suspend this tenant")
    with pytest.raises(errors.Forbidden):
        standing.of_member(admin.principal, None)
    assert sessions.who(admin.browser.token) is None
    app = _press(app, "Activate this tenant")
    assert standing.of_member(admin.principal, None).tenant_id == tenant_id
    acted = [row[:2] for row in audit_rows(f"tenant:{tenant_id}")]
    assert acted[-2:] == [("tenant.suspend", "done"), ("tenant.activate", "done")]
    assert audit_rows(f"tenant:{tenant_id}")[-1][2] == f"operator:{operator.operator.user_id}"


def test_a_new_person_can_sign_in_with_the_first_password(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, _, _ = place
    email = an_email()
    app = _opened(open_page, operator, tenant_id)
    app.text_input("person_email_0").input(email)
    app.text_input("person_name_0").input("Grace")
    app.selectbox("person_role_0").set_value("finance")
    app.text_input("person_password_0").input(PASSWORD)
    app = _press(app, "Add")
    assert not app.exception
    assert passwords.verify(email, PASSWORD, None) is not None
    people = next(t.value for t in app.dataframe if "joined" in t.value).to_dict("records")
    added = next(row for row in people if row["email"] == email)
    assert (added["name"], added["role"], added["status"]) == ("Grace", "finance", "active")
    assert PASSWORD not in str(app.session_state)


def test_a_person_already_known_keeps_their_password(
    operator: Person, place: tuple[UUID, str, Person], person: Make, open_page: Open
) -> None:
    tenant_id, _, _ = place
    known = person().principal
    app = _opened(open_page, operator, tenant_id)
    app.text_input("person_email_0").input(known.email)
    app.text_input("person_password_0").input("another password")
    app = _press(app, "Add")
    assert known.tenant_name in _said(app)  # who they are is said before they get a place
    app = _press(app, "Yes, add this person")
    with db.transaction(SYSTEM) as session:
        entry = next(t for t in tenants.every_tenant(session, SYSTEM) if t.tenant_id == tenant_id)
    assert known.user_id in {member.user_id for member in entry.members}


def test_a_limit_is_set_lifted_and_given_back_to_the_plan(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, _, _ = place
    app = _opened(open_page, operator, tenant_id)
    seen = []
    for number, act in enumerate(("Set to", "Lift (unlimited)", "Back to the plan's")):
        app.selectbox(f"limit_act_{number}").set_value(act)
        app.text_input(f"limit_value_{number}").input("12.50")
        app = _press(app, "Change the limit")
        assert not app.exception
        with db.transaction(SYSTEM) as session:
            found = limits.of(session, tenant_id, Subject.TENANT, tenant_id)
        seen.append(found.monthly_nusd)
    assert seen == [12_500_000_000, None, 100_000_000_000]
    acted = [row[0] for row in audit_rows(f"tenant:{tenant_id}")]
    assert acted[-3:] == ["limit.set", "limit.set", "limit.unset"]


def test_one_persons_limit_is_theirs_alone(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, _, admin = place
    user_id = admin.principal.user_id
    app = _opened(open_page, operator, tenant_id)
    app.selectbox(f"limit_of_{tenant_id}").set_value(user_id).run()
    app.text_input("limit_value_0").input("3")
    app = _press(app, "Change the limit")
    with db.transaction(SYSTEM) as session:
        assert limits.of(session, tenant_id, Subject.USER, user_id).monthly_nusd == 3_000_000_000
        of_tenant = limits.of(session, tenant_id, Subject.TENANT, tenant_id)
    assert of_tenant.monthly_nusd == 100_000_000_000


def test_a_limit_that_is_no_number_is_refused(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, _, _ = place
    app = _opened(open_page, operator, tenant_id)
    app.selectbox("limit_name_0").set_value("monthly_tokens")
    app.text_input("limit_value_0").input("many")
    app = _press(app, "Change the limit")
    assert "The limit is a whole number" in _said(app)


def test_health_is_read(operator: Person, open_page: Open) -> None:
    app = open_page(operator, "admin.py", part="Health")
    assert not app.exception
    assert "at head" in _said(app)


def test_the_invariants_are_checked_when_asked(operator: Person, open_page: Open) -> None:
    app = open_page(operator, "admin.py", part="Invariants")
    assert not app.success
    app.button("check").click().run()
    assert not app.exception
    assert app.success or app.error


def test_the_log_shows_who_did_what_and_can_be_narrowed(
    operator: Person, place: tuple[UUID, str, Person], open_page: Open
) -> None:
    tenant_id, name, _ = place
    with db.transaction(operator.operator) as session:
        tenants.set_tenant_active(session, operator.operator, tenant_id, active=True)
    app = open_page(operator, "admin.py", part="Audit")
    app.selectbox("audit_tenant").set_value(tenant_id).run()
    assert not app.exception
    rows = app.dataframe[0].value.to_dict("records")
    assert rows[0]["action"] == "tenant.activate"
    assert {row["tenant"] for row in rows} == {name}
