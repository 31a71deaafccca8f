"""pages/widgets/admin_members.py and admin_invites.py, admin_limits.py, invite_accept.py: run by
Streamlit, for a tenant's admin and for an operator."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.identity import invites, keys, limits, members, passwords, sessions
from core.identity.access import Operator, Principal, Role
from core.identity.invites import ENDED, SIGN_IN_FIRST
from core.identity.limits import LimitName, Subject
from core.identity.members import Place, State
from pages.widgets import exchange
from tests.analytics.using import use
from tests.factories import make_model
from tests.identity.people import PASSWORD, SYSTEM, a_user, an_address, an_email, join
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]


_MEMBERS = """
import streamlit as st
from pages.widgets import acts, admin_members

acts.tell()
admin_members.draw(st.session_state["who"], st.session_state["tenant"], "Acme_1")
"""
_LIMITS = """
import streamlit as st
from pages.widgets import acts, admin_limits

acts.tell()
admin_limits.draw(st.session_state["who"], st.session_state["tenant"])
"""


def _run(part: str, who: Principal | Operator, tenant_id: UUID) -> AppTest:
    app = AppTest.from_string(part, default_timeout=20)
    app.session_state["who"], app.session_state["tenant"] = who, tenant_id
    return app.run()


def _drawn(part: str, who: Principal | Operator, tenant_id: UUID) -> AppTest:
    app = _run(part, who, tenant_id)
    assert not app.exception
    return app


def _press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    return app


def _table(app: AppTest, column: str) -> list[dict[str, object]]:
    table = next(t.value for t in app.dataframe if column in t.value)
    return [dict(row) for row in table.to_dict("records")]


def _said(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.warning, *app.info, *app.error, *app.toast)
    return "\n".join(str(element.value) for element in shown)


def _place(tenant_id: UUID, user_id: UUID) -> Place:
    with db.transaction(SYSTEM) as session:
        places = members.of_tenant(session, SYSTEM, tenant_id)
    return next(place for place in places if place.user_id == user_id)


def _invited(admin: Principal, email: str, role: Role = Role.MEMBER) -> str:
    with db.transaction(admin) as session:
        issued = invites.invite(session, admin, admin.tenant_id, email, role)
    return issued.link.partition("invite=")[2]


@pytest.fixture(params=["admin", "operator"])
def team(
    request: pytest.FixtureRequest, person: Make, cookie: Callable[[str | None], None]
) -> tuple[Principal | Operator, Principal]:
    """Whoever acts, signed in, and another admin of the tenant they act on."""
    admin = person(Role.ADMIN)
    colleague = person(Role.ADMIN, tenant_id=admin.principal.tenant_id).principal
    acting = admin if request.param == "admin" else an_operator()
    cookie(acting.browser.token)
    return (admin.principal if acting is admin else acting.operator), colleague


Team = tuple[Principal | Operator, Principal]


def test_people_are_listed_with_what_they_spent_and_where_they_are(team: Team) -> None:
    who, colleague = team
    use(colleague, make_model(), "0.25")
    app = _drawn(_MEMBERS, who, colleague.tenant_id)
    row = next(r for r in _table(app, "joined") if r["email"] == colleague.email)
    assert (row["role"], row["status"], row["spent"]) == ("admin", "active", "$0.25")
    assert (row["sessions"], row["seen"]) == (1, "just now")


def test_a_link_is_made_and_shown_this_once(team: Team) -> None:
    who, colleague = team
    email = an_email()
    app = _drawn(_MEMBERS, who, colleague.tenant_id)
    app.text_input("invite_email_0").input(email)
    app.selectbox("invite_role_0").set_value("finance")
    _press(app, "Make the link")
    link = str(app.code[0].value)
    found = invites.opened(link.partition("/?invite=")[2])
    assert found is not None
    assert (found.email, found.role) == (email, Role.FINANCE)
    listed = _table(app, "expires")
    assert [(r["email"], r["role"], r["state"]) for r in listed] == [(email, "finance", "open")]
    app.run()
    assert not app.code
    assert link.partition("invite=")[2] not in str(app.session_state)


def test_a_link_is_replaced_and_taken_back(team: Team) -> None:
    who, colleague = team
    old = _invited(colleague, an_email())
    app = _drawn(_MEMBERS, who, colleague.tenant_id)
    assert _table(app, "expires")[0]["by"] == colleague.email
    _press(app, "Make a new link")
    new = str(app.code[0].value).partition("invite=")[2]
    assert invites.opened(old) is None
    assert invites.opened(new) is not None
    _press(app, "Take this link back")
    assert invites.opened(new) is None
    assert not [t for t in app.dataframe if "expires" in t.value]


def test_a_member_is_given_a_role_disabled_enabled_and_signed_out(team: Team, person: Make) -> None:
    who, colleague = team
    tenant_id, browser = colleague.tenant_id, person(tenant_id=colleague.tenant_id).browser
    user_id = browser.principal.user_id
    app = _drawn(_MEMBERS, who, tenant_id)
    app.selectbox(f"member_{tenant_id}").set_value(user_id).run()
    app.selectbox(f"member_role_of_{user_id}_0").set_value(Role.FINANCE)
    _press(app, "Change the role")
    assert _place(tenant_id, user_id).role is Role.FINANCE
    _press(app, "Sign this person out")
    assert sessions.who(browser.token) is None
    assert "Browsers: 1" in _said(app)
    _press(app, "Disable this person")
    assert _place(tenant_id, user_id).state is State.DISABLED
    _press(app, "Enable this person")
    assert _place(tenant_id, user_id).state is State.ACTIVE


def test_the_last_admin_stays_admin_and_is_told_why(person: Make) -> None:
    admin = person(Role.ADMIN).principal
    app = _drawn(_MEMBERS, admin, admin.tenant_id)
    assert "Disable this person" not in [button.label for button in app.button]
    app.selectbox(f"member_{admin.tenant_id}").set_value(admin.user_id).run()
    _press(app, "Disable this person")
    assert "last active admin" in _said(app)
    assert _place(admin.tenant_id, admin.user_id).state is State.ACTIVE


def test_admins_are_not_offered_what_only_operators_may(person: Make) -> None:
    admin = person(Role.ADMIN).principal
    app = _drawn(_MEMBERS, admin, admin.tenant_id)
    assert "Add" not in [button.label for button in app.button]
    app = _drawn(_LIMITS, admin, admin.tenant_id)
    assert admin.tenant_id not in app.selectbox(f"limit_of_{admin.tenant_id}").options
    assert admin.tenant_name not in app.selectbox(f"limit_of_{admin.tenant_id}").options


@pytest.mark.parametrize("part", [_MEMBERS, _LIMITS])
def test_another_tenants_people_are_not_drawn(person: Make, part: str) -> None:
    admin, other = person(Role.ADMIN).principal, person(Role.ADMIN).principal
    app = _run(part, admin, other.tenant_id)
    assert len(app.exception) == 1  # which the app's frame says as a refusal
    assert not app.dataframe
    assert other.email not in str(app)


def test_limits_show_their_use_and_are_changed(team: Team) -> None:
    who, colleague = team
    tenant_id, user_id = colleague.tenant_id, colleague.user_id
    with db.transaction(colleague) as session:
        key_id = keys.issue(session, colleague, "ci", budget_nusd=7_000_000_000).key_id
    use(colleague, make_model(), "0.25")
    app = _drawn(_LIMITS, who, tenant_id)
    of_team = next(r for r in _table(app, "held") if r["limit"] == "Spend a month (USD)")
    assert (of_team["used"], of_team["maximum"]) == ("$0.2500", "$100.00")
    assert of_team["source"] == "plan"
    app.selectbox(f"limit_of_{tenant_id}").set_value(user_id).run()
    app.text_input("limit_value_0").input("0.30")
    _press(app, "Change the limit")
    with db.transaction(SYSTEM) as session:
        found = limits.of(session, tenant_id, Subject.USER, user_id)
    assert found.monthly_nusd == 300_000_000
    assert "0 reached, 1 from 80 % on" in _said(app)
    whose = f"limits_whose_{tenant_id}"
    app.segmented_control(whose).set_value(Subject.USER).run()
    row = next(
        r for r in _table(app, "held") if (r["of"], r["source"]) == (colleague.email, "set here")
    )
    assert (row["used"], row["maximum"], row["state"]) == ("$0.2500", "$0.3000", "80 % reached")
    with db.transaction(SYSTEM) as session:
        place = (Subject.USER, user_id, LimitName.MONTHLY_NUSD)
        limits.set_limit(session, SYSTEM, tenant_id, *place, 100_000_000)
    app.run()
    row = next(
        r for r in _table(app, "held") if (r["of"], r["source"]) == (colleague.email, "set here")
    )
    assert (row["state"], row["over"]) == ("Passed", 2.5)
    app.segmented_control(whose).set_value(Subject.KEY).run()
    assert [r["of"] for r in _table(app, "held") if r["source"] == "set here"] == [
        f"ci ({colleague.email})"
    ]
    app.selectbox(f"limit_of_{tenant_id}").set_value(key_id).run()
    app.selectbox("limit_act_1").set_value("Back to the plan's")
    _press(app, "Change the limit")
    with db.transaction(SYSTEM) as session:
        assert limits.of(session, tenant_id, Subject.KEY, key_id).monthly_nusd is None
    app.selectbox("limit_name_2").set_value(LimitName.MONTHLY_TOKENS)
    app.text_input("limit_value_2").input("many")
    _press(app, "Change the limit")
    assert "The limit is a whole number" in _said(app)


@pytest.fixture
def tickets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What is handed to the browser, which AppTest has none of: the ticket, and where it leads."""
    handed: list[tuple[str, str | None]] = []
    monkeypatch.setattr(exchange, "sign_in", lambda ticket, to=None: handed.append((ticket, to)))
    return handed


def test_a_new_person_accepts_and_is_signed_in_without_the_token(
    person: Make, open_page: Open, tickets: list[tuple[str, str | None]]
) -> None:
    admin, email = person(Role.ADMIN).principal, an_email()
    app = open_page(None, invite=_invited(admin, email, Role.FINANCE))
    assert not app.exception
    assert "finance" in _said(app)
    assert email.split("@")[0] in _said(app)
    assert app.subheader[0].value == "Join Acme"
    app.text_input("invite_name").input("Grace")
    app.text_input("invite_password").input(PASSWORD)
    app.text_input("invite_again").input("not the same")
    _press(app, "Accept and sign in")
    assert "The two passwords are not the same" in _said(app)
    app.text_input("invite_again").input(PASSWORD)
    _press(app, "Accept and sign in")
    [(ticket, to)] = tickets
    assert to == "/"
    signed_in = sessions.who(sessions.redeem(ticket, None, None))
    assert signed_in is not None
    assert signed_in.principal is not None
    assert (signed_in.principal.tenant_id, signed_in.principal.role, signed_in.principal.name) == (
        admin.tenant_id, Role.FINANCE, "Grace",
    )  # fmt: skip


def test_a_known_person_accepts_with_the_password_they_have(
    person: Make, open_page: Open, tickets: list[tuple[str, str | None]]
) -> None:
    admin, email = person(Role.ADMIN).principal, an_email()
    user_id = a_user(email, password=PASSWORD)
    join(person().principal.tenant_id, user_id)  # where they work by default
    app = open_page(None, invite=_invited(admin, email))
    assert [field.label for field in app.text_input] == ["Password"]
    app.text_input("invite_password").input("not the password")
    _press(app, "Accept and sign in")
    assert "The password is not right" in _said(app)
    assert not tickets
    app.text_input("invite_password").input(PASSWORD)
    _press(app, "Accept and sign in")
    [(ticket, _)] = tickets
    signed_in = sessions.who(sessions.redeem(ticket, None, None))
    assert signed_in is not None
    assert signed_in.principal is not None
    assert signed_in.principal.tenant_id == admin.tenant_id
    assert _place(admin.tenant_id, user_id).role is Role.MEMBER


def test_who_is_signed_in_as_the_e_mail_accepts_with_one_press(
    person: Make, open_page: Open
) -> None:
    admin, invited = person(Role.ADMIN).principal, person()
    app = open_page(invited, invite=_invited(admin, invited.principal.email, Role.FINANCE))
    assert "nothing else is asked" in _said(app)
    assert not app.text_input
    _press(app, "Accept")
    assert _place(admin.tenant_id, invited.principal.user_id).role is Role.FINANCE
    now = sessions.who(invited.browser.token)
    assert now is not None
    assert now.principal is not None
    assert now.principal.tenant_id == admin.tenant_id
    assert "invite" not in app.query_params
    assert app.chat_input


def test_an_account_nobody_ever_used_is_joined_like_a_new_one(
    person: Make, open_page: Open, tickets: list[tuple[str, str | None]]
) -> None:
    admin, email = person(Role.ADMIN).principal, an_email()
    user_id = a_user(email)
    app = open_page(None, invite=_invited(admin, email))
    app.text_input("invite_name").input("Grace")
    app.text_input("invite_password").input(PASSWORD)
    app.text_input("invite_again").input(PASSWORD)
    _press(app, "Accept and sign in")
    [(ticket, _)] = tickets
    signed_in = sessions.who(sessions.redeem(ticket, None, None))
    assert signed_in is not None
    assert (signed_in.user_id, signed_in.who.name) == (user_id, "Grace")
    assert passwords.verify(email, PASSWORD, an_address()) == user_id


def test_somebodys_account_without_a_password_is_left_to_its_person(
    person: Make, open_page: Open, tickets: list[tuple[str, str | None]]
) -> None:
    """The link alone offers no password to choose; signed in, its person accepts by it."""
    admin, victim, other = person(Role.ADMIN).principal, person(), person()
    token = _invited(admin, victim.principal.email, Role.ADMIN)
    app = open_page(None, invite=token)
    assert not app.exception
    assert SIGN_IN_FIRST in _said(app)
    assert [field.label for field in app.text_input] == ["Email", "Password"]
    assert [button.label for button in app.button if "Accept" in button.label] == []
    assert app.query_params["invite"] == token  # signed in, they are back here
    app = open_page(other, invite=token)
    assert "sign out there first" in _said(app)
    assert not app.text_input
    _press(app, "Not now")
    assert app.chat_input
    assert not tickets
    _press(open_page(victim, invite=token), "Accept")
    assert _place(admin.tenant_id, victim.principal.user_id).role is Role.ADMIN


def test_a_link_that_cannot_be_used_says_one_thing_above_the_sign_in(
    person: Make, open_page: Open
) -> None:
    admin = person(Role.ADMIN).principal
    used = _invited(admin, an_email())
    invites.accept(used, PASSWORD, name="Grace", address=an_address())
    for token in (used, "forged", "<script>", "x" * 5_000):
        app = open_page(None, invite=token)
        assert [str(info.value) for info in app.info] == [ENDED]
        assert [field.label for field in app.text_input] == ["Email", "Password"]
        assert "invite" not in app.query_params


def test_a_member_who_is_invited_is_told_so(person: Make, open_page: Open) -> None:
    admin, email = person(Role.ADMIN).principal, an_email()
    token = _invited(admin, email)
    join(admin.tenant_id, a_user(email, password=PASSWORD))
    app = open_page(None, invite=token)
    assert "is a member of Acme already" in _said(app)
    assert [field.label for field in app.text_input] == ["Email", "Password"]


def test_somebody_else_who_is_signed_in_is_told_and_may_go_on(
    person: Make, open_page: Open
) -> None:
    admin, other = person(Role.ADMIN).principal, person()
    app = open_page(other, invite=_invited(admin, an_email()))
    assert not app.chat_input
    assert "accepting ends that here" in _said(app)
    _press(app, "Not now")
    assert app.chat_input
    app = open_page(other, invite="forged")
    assert [str(info.value) for info in app.info] == [ENDED]
    _press(app, "Go on")
    assert app.chat_input


def test_no_password_stays_in_the_tab(
    person: Make, open_page: Open, tickets: list[tuple[str, str | None]]
) -> None:
    admin = person(Role.ADMIN).principal
    app = open_page(None, invite=_invited(admin, an_email()))
    app.text_input("invite_name").input("Grace")
    app.text_input("invite_password").input(PASSWORD)
    app.text_input("invite_again").input(PASSWORD)
    _press(app, "Accept and sign in")
    app = open_page(None)
    assert tickets
    assert PASSWORD not in str(app.session_state)
