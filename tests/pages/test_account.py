"""pages/account.py, run by Streamlit: the profile, API keys and sessions of one person."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from core import db, errors
from core.identity import keys, passwords, sessions, tenants
from core.identity.access import Role
from core.identity.keys import Key
from core.quota import standing
from tests.identity.people import PASSWORD, SYSTEM, audit_rows, join, sign_in
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]
NEW = "staple battery 8"


def _keys(who: Person) -> tuple[Key, ...]:
    with db.transaction(who.principal) as session:
        return keys.mine(session, who.principal)


def _said(app: AppTest) -> str:
    return "\n".join(e.value for e in (*app.markdown, *app.caption, *app.text, *app.warning))


def _create(app: AppTest, name: str, budget: str = "") -> AppTest:
    app.text_input("key_name_0").input(name)
    app.text_input("key_budget_0").input(budget)
    return next(button for button in app.button if button.label == "Create key").click().run()


def _secret(app: AppTest) -> str:
    return next(block.value for block in app.code if block.value.startswith(keys.START))


def _rows(app: AppTest) -> list[dict[str, object]]:
    return [row for table in app.dataframe for row in table.value.to_dict("records")]


def test_the_profile_says_who_one_is(person: Make, open_page: Open) -> None:
    who = person(Role.FINANCE, plan="starter", time_zone="Europe/Berlin")
    app = open_page(who, "account.py")
    assert not app.exception
    said = [text.value for text in app.text]
    assert {who.principal.email, "Acme", "Finance", "Starter", "Europe/Berlin"} <= set(said)


def test_a_new_keys_secret_is_shown_once_and_works(person: Make, open_page: Open) -> None:
    who = person()
    app = _create(open_page(who, "account.py"), "Nightly report", "12.50")
    assert not app.exception
    secret = _secret(app)
    (row,) = _keys(who)
    assert (row.name, row.budget_nusd) == ("Nightly report", 12_500_000_000)
    assert standing.of_key(secret, None).user_id == who.principal.user_id
    example = next(block.value for block in app.code if "curl" in block.value)
    assert f"Authorization: Bearer {secret}" in example
    assert "/v1/chat/completions" in example
    again = app.run()
    assert not [block for block in again.code if secret in block.value]
    assert secret not in _said(again)
    assert secret not in str(_rows(again))
    assert secret not in str(again.session_state)


def test_the_table_names_the_key_by_its_beginning(person: Make, open_page: Open) -> None:
    who = person()
    with db.transaction(who.principal) as session:
        issued = keys.issue(session, who.principal, "ci", budget_nusd=7_000_000_000)
    (row,) = _rows(open_page(who, "account.py"))
    assert row["prefix"] == f"{issued.prefix}…"
    assert (row["name"], row["state"], row["spent"], row["budget"]) == (
        "ci", "Active", "$0.00", "$7.00",
    )  # fmt: skip


def test_the_form_is_empty_again_after_a_key_was_made(person: Make, open_page: Open) -> None:
    who = person()
    app = _create(open_page(who, "account.py"), "one")
    assert app.text_input("key_name_1").value == ""
    assert len(_keys(who)) == 1
    app.run()
    assert len(_keys(who)) == 1


@pytest.mark.parametrize("budget", ["much", "-1", "1e3", "0.0000000001"])
def test_a_budget_that_is_no_amount_makes_no_key(
    person: Make, open_page: Open, budget: str
) -> None:
    who = person()
    app = _create(open_page(who, "account.py"), "one", budget)
    assert "An amount is written in USD" in _said(app)
    assert _keys(who) == ()


def test_a_key_without_a_name_is_refused(person: Make, open_page: Open) -> None:
    who = person()
    app = _create(open_page(who, "account.py"), "  ")
    assert "The name is missing" in _said(app)
    assert _keys(who) == ()


def test_a_revoked_key_is_refused_from_then_on(person: Make, open_page: Open) -> None:
    who = person()
    app = _create(open_page(who, "account.py"), "one")
    secret = _secret(app)
    app = app.run()
    app.button("key_revoke_now_1").click().run()
    assert not app.exception
    with pytest.raises(errors.NotSignedIn):
        standing.of_key(secret, None)
    assert [row["state"] for row in _rows(app)] == ["Revoked"]
    (row,) = _keys(who)
    assert ("key.revoke", "done") in [acted[:2] for acted in audit_rows(f"key:{row.key_id}")]


def test_members_see_their_own_keys_and_admins_everyones(person: Make, open_page: Open) -> None:
    admin = person(Role.ADMIN)
    member = person(tenant_id=admin.principal.tenant_id)
    for who, name in ((admin, "admins"), (member, "members")):
        with db.transaction(who.principal) as session:
            keys.issue(session, who.principal, name)
    assert [row["name"] for row in _rows(open_page(member, "account.py"))] == ["members"]
    app = open_page(admin, "account.py")
    assert [row["name"] for row in _rows(app)] == ["admins"]
    app.segmented_control("keys_whose").set_value("Everyone's").run()
    assert {row["name"] for row in _rows(app)} == {"admins", "members"}
    assert member.principal.email in {row["owner"] for row in _rows(app)}


def test_another_tenants_keys_never_show(person: Make, open_page: Open) -> None:
    stranger = person(Role.ADMIN)
    with db.transaction(stranger.principal) as session:
        keys.issue(session, stranger.principal, "theirs")
    app = open_page(person(Role.ADMIN), "account.py")
    app.segmented_control("keys_whose").set_value("Everyone's").run()
    assert _rows(app) == []


def _with_password(who: Person) -> Person:
    with db.transaction(SYSTEM) as session:
        tenants.set_password(
            session, SYSTEM, who.principal.user_id, passwords.hash_password(PASSWORD)
        )
    return Person(sign_in(who.principal.user_id))


def _change(app: AppTest, old: str, new: str, again: str | None = None) -> AppTest:
    app.text_input("password_old_0").input(old)
    app.text_input("password_new_0").input(new)
    app.text_input("password_again_0").input(new if again is None else again)
    return next(button for button in app.button if button.label == "Change password").click().run()


def _takes(who: Person, password: str) -> bool:
    return passwords.verify(who.principal.email, password, None) == who.principal.user_id


def test_one_changes_ones_own_password_and_stays_signed_in(person: Make, open_page: Open) -> None:
    who = _with_password(person())
    other = sign_in(who.principal.user_id)
    app = _change(open_page(who, "account.py"), PASSWORD, NEW)
    assert not app.exception
    assert app.toast[0].value == "Your password is changed. Signed out elsewhere: 1."
    assert _takes(who, NEW)
    assert not _takes(who, PASSWORD)
    assert sessions.who(other.token) is None
    assert sessions.who(who.browser.token) is not None


def test_a_change_revokes_ones_keys_when_that_is_asked(person: Make, open_page: Open) -> None:
    who = _with_password(person())
    with db.transaction(who.principal) as session:
        secret = keys.issue(session, who.principal, "ci").secret
    app = open_page(who, "account.py")
    app.checkbox("password_keys_0").check()
    app = _change(app, PASSWORD, NEW)
    assert app.toast[0].value.endswith("API keys revoked: 1.")
    assert keys.who(secret) is None


def test_no_password_is_left_in_the_page_after_the_change(person: Make, open_page: Open) -> None:
    app = _change(open_page(_with_password(person()), "account.py"), PASSWORD, NEW)
    assert app.text_input("password_new_1").value == ""
    kept = str(app.session_state)
    assert NEW not in kept
    assert PASSWORD not in kept


@pytest.mark.parametrize(
    ("old", "new", "again", "said"),
    [
        ("wrong password", NEW, NEW, "The old password was not accepted"),
        (PASSWORD, NEW, NEW + "x", "The two new passwords are not the same"),
        (PASSWORD, "short", "short", "at least 8 characters"),
        (PASSWORD, PASSWORD, PASSWORD, "The new password is the old one"),
        ("", "", "", "The new password is the old one"),
    ],
)
def test_a_change_that_is_refused_says_why_and_changes_nothing(
    person: Make, open_page: Open, old: str, new: str, again: str, said: str
) -> None:
    who = _with_password(person())
    other = sign_in(who.principal.user_id)
    app = _change(open_page(who, "account.py"), old, new, again)
    assert not app.exception
    assert said in "\n".join(warning.value for warning in app.warning)
    assert not app.toast
    assert _takes(who, PASSWORD)
    assert sessions.who(other.token) is not None


def test_one_other_browser_can_be_signed_out(person: Make, open_page: Open) -> None:
    who = person()
    other = sign_in(who.principal.user_id)
    app = open_page(who, "account.py")
    app.button(f"end_now_{other.signed_in.session_id}").click().run()
    assert not app.exception
    assert sessions.who(other.token) is None
    assert sessions.who(who.browser.token) is not None


def test_all_others_can_be_signed_out_at_once(person: Make, open_page: Open) -> None:
    who = person()
    others = [sign_in(who.principal.user_id) for _ in range(3)]
    app = open_page(who, "account.py")
    app.button("end_others_now").click().run()
    assert not app.exception
    assert [sessions.who(other.token) for other in others] == [None, None, None]
    assert sessions.who(who.browser.token) is not None


def test_this_browser_has_no_button_and_strangers_are_not_listed(
    person: Make, open_page: Open
) -> None:
    person()
    who = person()
    app = open_page(who, "account.py")
    assert "This browser" in _said(app)
    assert not [b for b in app.button if re.match("end_now_|end_others", b.key or "")]


def test_an_operator_without_a_team_has_sessions_but_no_keys(
    answering: object, open_page: Open
) -> None:
    app = open_page(an_operator(), "account.py")
    assert not app.exception
    assert "Operator" in {text.value for text in app.text}
    assert "**API keys**" not in _said(app)
    assert "**Password**" in _said(app)
    assert "**Signed in**" in _said(app)


def test_nobody_sees_it_without_signing_in(open_alone: Callable[[str], AppTest]) -> None:
    app = open_alone("account.py")
    assert not app.text
    assert "Please sign in" in app.info[0].value


def test_who_is_in_two_teams_chooses_where_to_work(person: Make, open_page: Open) -> None:
    who, other = person(), person(Role.ADMIN)
    app = open_page(who, "account.py")
    assert "**Teams**" not in _said(app)
    join(other.principal.tenant_id, who.principal.user_id, Role.FINANCE)
    app.run()
    app.button(f"team_{other.principal.tenant_id}").click().run()
    assert not app.exception
    found = sessions.who(who.browser.token)
    assert found is not None
    assert found.principal is not None
    assert (found.principal.tenant_id, found.principal.role) == (
        other.principal.tenant_id, Role.FINANCE,
    )  # fmt: skip
    app = open_page(who, "account.py")
    assert "Finance" in [text.value for text in app.text]
    assert app.button(f"team_{who.principal.tenant_id}")
