"""People across tenants and API keys of a tenant, as operators and admins change them on pages/admin.py."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from streamlit.testing.v1 import AppTest

from core import db, errors
from core.identity import invites, keys, members, passwords, people, sessions
from core.identity.access import Role
from core.quota import standing
from tests.analytics.using import use
from tests.factories import make_model
from tests.identity.people import PASSWORD, SYSTEM, an_email, audit_rows
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


def _found(open_page: Open, operator: Person, email: str) -> AppTest:
    return (
        open_page(operator, "admin.py", part="People")
        .text_input("person_sought")
        .input(email)
        .run()
    )


def _press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def _said(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.warning, *app.toast)
    return "\n".join(element.value for element in shown)


def _issue(who: Person, name: str) -> keys.IssuedKey:
    with db.transaction(who.principal) as session:
        return keys.issue(session, who.principal, name)


def _labels(app: AppTest) -> set[str]:
    return {button.label for button in app.button}


def test_access_is_ended_everywhere_and_given_back(
    operator: Person, person: Make, open_page: Open
) -> None:
    who = person()
    secret = _issue(who, "ci").secret
    app = _press(_found(open_page, operator, who.principal.email), "End access of this person")
    assert not app.exception
    assert sessions.who(who.browser.token) is None
    with pytest.raises(errors.NotSignedIn):
        standing.of_key(secret, None)
    app = _press(app, "Give access back")
    assert not app.exception
    with db.transaction(SYSTEM) as session:
        assert people.find(session, SYSTEM, who.principal.email).active
    acted = [row[:3] for row in audit_rows(f"user:{who.principal.user_id}")][-2:]
    actor = f"operator:{operator.operator.user_id}"
    assert acted == [("user.disable", "done", actor), ("user.enable", "done", actor)]


def test_a_person_becomes_an_operator_and_is_dismissed(
    operator: Person, person: Make, open_page: Open
) -> None:
    who = person()
    app = _press(_found(open_page, operator, who.principal.email), "Make operator now")
    now = sessions.who(who.browser.token)
    assert now is not None
    assert now.operator is not None
    app = _press(app, "Dismiss operator now")
    assert not app.exception
    now = sessions.who(who.browser.token)
    assert now is not None
    assert now.operator is None


def test_whose_account_it_is_stands_above_the_button_that_makes_an_operator(
    operator: Person, person: Make, open_page: Open
) -> None:
    who = person()
    app = _found(open_page, operator, who.principal.email)
    assert f"works in {who.principal.tenant_name}" in _said(app)


def test_an_account_made_by_a_link_is_named_and_confirmed(
    operator: Person, person: Make, open_page: Open
) -> None:
    admin, email = person(Role.ADMIN).principal, an_email()
    with db.transaction(admin) as session:
        issued = invites.invite(session, admin, admin.tenant_id, email, Role.MEMBER)
    user_id = invites.accept(issued.link.partition("/?invite=")[2], PASSWORD, name="M")
    app = _found(open_page, operator, email)
    assert "chosen with a link" in _said(app)
    app = _press(app, "Make operator now")
    assert "made this account" in _said(app)
    app = _press(app, "I reached them at this address")
    assert not app.exception
    assert "I reached them at this address" not in _labels(app)
    assert audit_rows(f"user:{user_id}")[-1][:3] == (
        "user.confirm_email", "done", f"operator:{operator.operator.user_id}",
    )  # fmt: skip
    assert not _press(app, "Make operator now").exception
    with db.transaction(SYSTEM) as session:
        assert people.find(session, SYSTEM, email).is_operator


def test_a_known_e_mail_gets_a_place_only_after_it_was_said_whose_it_is(
    operator: Person, person: Make, open_page: Open
) -> None:
    known, team = person().principal, person().principal
    app = _tenant(open_page, operator, team.tenant_id)
    app.text_input("person_email_0").input(known.email)
    app = _press(app, "Add")
    assert not app.exception
    assert f"works in {known.tenant_name}" in _said(app)
    assert known.email not in _emails(team.tenant_id)
    app = _press(app, "Yes, add this person")
    assert not app.exception
    assert known.email in _emails(team.tenant_id)


def test_a_known_e_mail_that_was_not_meant_gets_nothing(
    operator: Person, person: Make, open_page: Open
) -> None:
    known, team = person().principal, person().principal
    app = _tenant(open_page, operator, team.tenant_id)
    app.text_input("person_email_0").input(known.email)
    app = _press(_press(app, "Add"), "No")
    assert not app.exception
    assert "Yes, add this person" not in _labels(app)
    assert known.email not in _emails(team.tenant_id)


def test_a_new_e_mail_gets_an_account_and_a_place(
    operator: Person, person: Make, open_page: Open
) -> None:
    team, email = person().principal, an_email()
    app = _tenant(open_page, operator, team.tenant_id)
    app.text_input("person_email_0").input(email)
    assert "needs a first password" in _said(_press(app, "Add"))
    app.text_input("person_password_0").input(PASSWORD)
    app = _press(app, "Add")
    assert not app.exception
    assert email in _emails(team.tenant_id)


def _emails(tenant_id: UUID) -> set[str]:
    with db.transaction(SYSTEM) as session:
        return {place.email for place in members.of_tenant(session, SYSTEM, tenant_id)}


def test_nobody_changes_their_own_access(operator: Person, open_page: Open) -> None:
    app = _found(open_page, operator, operator.operator.email)
    assert "This is you" in _said(app)
    assert not _labels(app) & {"End access of this person", "Dismiss operator now"}


def test_a_new_operator_signs_in_with_the_first_password(operator: Person, open_page: Open) -> None:
    email = an_email()
    app = open_page(operator, "admin.py", part="People")
    app.text_input("operator_email_0").input(email)
    app.text_input("operator_password_0").input(PASSWORD)
    app = _press(app, "Create operator")
    assert not app.exception
    assert passwords.verify(email, PASSWORD, None) is not None
    assert email in set(app.dataframe[0].value["email"])
    assert PASSWORD not in str(app.session_state)
    app.text_input("operator_email_1").input(email)
    app.text_input("operator_password_1").input(PASSWORD)
    assert "There is a person with this e-mail already" in _said(_press(app, "Create operator"))


def test_an_unknown_address_is_said_to_be_nobodys(operator: Person, open_page: Open) -> None:
    app = _found(open_page, operator, an_email())
    assert not app.exception
    assert "There is no person with this e-mail" in _said(app)


def test_an_admin_ends_a_colleagues_key(person: Make, open_page: Open) -> None:
    admin = person(Role.ADMIN)
    member = person(tenant_id=admin.principal.tenant_id)
    issued, others = _issue(member, "ci"), _issue(person(), "elsewhere")
    app = open_page(admin, "admin.py", part="API keys")
    (row,) = app.dataframe[0].value.to_dict("records")
    assert (row["owner"], row["name"], row["state"]) == (member.principal.email, "ci", "Active")
    assert "Create key" not in _labels(app)
    app = _press(app, "Revoke this key")
    assert not app.exception
    with pytest.raises(errors.NotSignedIn):
        standing.of_key(issued.secret, None)
    assert [row["state"] for row in app.dataframe[0].value.to_dict("records")] == ["Revoked"]
    assert standing.of_key(others.secret, None).key_id == others.key_id
    assert "Revoke this key" not in _labels(app)


def test_an_operator_issues_a_key_for_a_member_and_shows_it_once(
    operator: Person, person: Make, open_page: Open
) -> None:
    member = person().principal
    use(member, make_model())
    app = _tenant(open_page, operator, member.tenant_id)
    app.text_input("key_name_0").input("Migration")
    app.text_input("key_budget_0").input("3")
    app = _press(app, "Create key")
    assert not app.exception
    secret = next(block.value for block in app.code if block.value.startswith(keys.START))
    assert standing.of_key(secret, None).user_id == member.user_id
    with db.transaction(SYSTEM) as session:
        (row,) = keys.of_tenant(session, SYSTEM, member.tenant_id)
    assert (row.name, row.user_id, row.budget_nusd) == ("Migration", member.user_id, 3_000_000_000)
    assert audit_rows(f"key:{row.key_id}")[0][:3] == (
        "key.issue", "done", f"operator:{operator.operator.user_id}",
    )  # fmt: skip
    again = app.run()
    assert not [block for block in again.code if secret in block.value]
    assert secret not in str(again.session_state)


def _tenant(open_page: Open, operator: Person, tenant_id: UUID) -> AppTest:
    return open_page(operator, "admin.py").selectbox("tenant").set_value(tenant_id).run()
