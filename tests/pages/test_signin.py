"""The sign-in: no page without a live session, and every failed attempt looks the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from core import db, errors, settings
from core.demonstration import script
from core.identity import sessions, tenants
from pages.widgets import exchange
from pages.widgets.door import WRONG
from pages.widgets.session import SIGN_IN_FIRST
from tests.identity.people import PASSWORD, SYSTEM, a_tenant, a_user, an_email, join
from tests.identity.people import sign_in as sign_in_browser
from tests.pages.conftest import Person

PAGES = ("chat.py", "usage.py", "account.py", "admin.py")


@pytest.fixture
def tickets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tickets handed to the browser, which AppTest has none of."""
    handed: list[str] = []
    monkeypatch.setattr(exchange, "sign_in", handed.append)
    return handed


def sign_in(app: AppTest, email: str, password: str) -> AppTest:
    app.text_input[0].set_value(email)
    app.text_input[1].set_value(password)
    next(b for b in app.button if b.label == "Sign in").click()
    return app.run()


def a_member(email: str) -> None:
    join(a_tenant(), a_user(email, password=PASSWORD))


def said(app: AppTest) -> list[str]:
    return [str(error.value) for error in app.error]


@pytest.mark.parametrize("page", PAGES)
def test_each_page_run_alone_stops_at_the_sign_in(
    open_alone: Callable[[str], AppTest], answering: object, page: str
) -> None:
    app = open_alone(page)
    assert [str(info.value) for info in app.info] == [SIGN_IN_FIRST]
    assert not app.chat_input
    assert not app.exception


def test_nobody_sees_only_the_form(open_page: Callable[..., AppTest], answering: object) -> None:
    app = open_page(None)
    assert [field.label for field in app.text_input] == ["Email", "Password"]
    assert not app.chat_input
    assert not app.exception


@pytest.mark.parametrize("page", PAGES[1:])
def test_a_deep_link_of_nobody_shows_the_form(
    open_page: Callable[..., AppTest], answering: object, page: str
) -> None:
    app = open_page(None, page)
    assert [field.label for field in app.text_input] == ["Email", "Password"]
    assert not app.exception


def test_the_right_password_gives_a_ticket_that_opens_a_session(
    open_page: Callable[..., AppTest], answering: object, tickets: list[str]
) -> None:
    email = an_email()
    a_member(email)
    app = sign_in(open_page(None), email.upper(), PASSWORD)
    assert said(app) == []
    token = sessions.redeem(tickets[0], None, None)
    found = sessions.who(token)
    assert found is not None
    assert found.who.email == email


def test_wrong_unknown_and_locked_are_answered_alike(
    open_page: Callable[..., AppTest], answering: object, tickets: list[str]
) -> None:
    email = an_email()
    a_member(email)
    wrong = said(sign_in(open_page(None), email, "not the password"))
    unknown = said(sign_in(open_page(None), an_email(), PASSWORD))
    for _ in range(4):
        sign_in(open_page(None), email, "not the password")
    locked = said(sign_in(open_page(None), email, PASSWORD))
    assert wrong == unknown == locked == [WRONG]
    assert tickets == []


def test_somebody_without_a_team_is_answered_like_a_wrong_password(
    open_page: Callable[..., AppTest], answering: object, tickets: list[str]
) -> None:
    email = an_email()
    a_user(email, password=PASSWORD)
    assert said(sign_in(open_page(None), email, PASSWORD)) == [WRONG]
    assert tickets == []


def test_the_form_leaves_no_identity_in_the_tab(
    open_page: Callable[..., AppTest], answering: object, tickets: list[str]
) -> None:
    email = an_email()
    a_member(email)
    app = sign_in(open_page(None), email, PASSWORD)
    assert tickets
    names = ("username", "name", "email", "roles", "authentication_status")
    assert [name for name in names if name in app.session_state] == []


def test_a_revoked_session_ends_at_the_next_click(
    open_page: Callable[..., AppTest], person: Callable[..., Person]
) -> None:
    ada = person()
    app = open_page(ada)
    assert app.chat_input
    sessions.end(ada.browser.token)
    app.run()
    assert not app.chat_input
    assert [field.label for field in app.text_input] == ["Email", "Password"]


def test_a_tab_that_becomes_another_persons_is_emptied(
    open_page: Callable[..., AppTest],
    person: Callable[..., Person],
    cookie: Callable[[str | None], None],
) -> None:
    ada, bob = person(), person()
    app = open_page(ada)
    app.session_state["_draft"] = "what ada was typing"
    cookie(bob.browser.token)
    app.run()
    assert "_draft" not in app.session_state
    assert app.session_state["_owner"][0] == str(bob.principal.user_id)


def test_members_are_not_offered_the_admin_page(
    open_page: Callable[..., AppTest], person: Callable[..., Person]
) -> None:
    with pytest.raises(ValueError, match="Could not find a navigation page"):
        open_page(person(), "admin.py")


def test_operators_are_offered_the_admin_page(
    open_page: Callable[..., AppTest], person: Callable[..., Person]
) -> None:
    assert not open_page(person(operator=True), "admin.py").exception


def test_demo_accounts_are_offered_in_development_only(
    open_page: Callable[..., AppTest], answering: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = " ".join(str(c.value) for c in open_page(None).caption)
    assert script.PASSWORD in shown
    production = settings.current().model_copy(update={"app_env": "production"})
    monkeypatch.setattr(settings, "current", lambda: production)
    app = open_page(None)
    assert script.PASSWORD not in " ".join(str(c.value) for c in app.caption)
    assert not [b for b in app.button if str(b.key).startswith("demo_")]


def test_the_database_away_is_said_calmly(
    open_page: Callable[..., AppTest],
    answering: object,
    tickets: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = open_page(None)
    monkeypatch.setattr(db, "current", db_away)
    sign_in(app, an_email(), PASSWORD)
    assert "not reachable" in said(app)[0]
    assert tickets == []


def db_away() -> db.Database:
    raise errors.Unavailable("The database is not reachable right now. Please try again.")


def test_an_operator_without_a_team_is_shown_the_way_to_admin(
    open_page: Callable[..., AppTest], answering: object
) -> None:
    user_id = a_user()
    with db.transaction(SYSTEM) as session:
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)
    app = open_page(Person(sign_in_browser(user_id)))
    assert "Admin" in str(app.info[0].value)
    assert not app.chat_input
    assert not app.exception
