"""core/identity/members.py and the functions below it"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from core import db, errors
from core.identity import keys, members, sessions, tenants
from core.identity.access import Actor, Principal, Role
from core.identity.members import Place, State
from core.identity.tables import Label, Membership
from tests.identity.cast import MAY_NOT, Cast, a_cast, asks, by_key, logged, refused
from tests.identity.people import (
    SYSTEM,
    Browser,
    a_browser,
    a_tenant,
    a_user,
    an_email,
    audit_rows,
    change,
    join,
    sign_in,
)

pytestmark = pytest.mark.usefixtures("database")

Act = Callable[[Session, Actor, UUID, UUID], object]
ACTS: dict[str, Act] = {
    "member.role": lambda s, w, t, u: members.change(s, w, t, u, role=Role.FINANCE),
    "member.disable": lambda s, w, t, u: members.change(s, w, t, u, active=False),
    "member.sign_out": members.sign_out,
    "member.list": lambda s, w, t, u: members.of_tenant(s, w, t),
}


@pytest.fixture
def tenant_id() -> UUID:
    return a_tenant()


@pytest.fixture(scope="module")
def cast(database: object) -> Cast:
    """For refusals, which change nothing."""
    return a_cast()


def _places(who: Actor, tenant_id: UUID) -> dict[UUID, Place]:
    with db.transaction(who) as session:
        return {place.user_id: place for place in members.of_tenant(session, who, tenant_id)}


def _change(
    who: Actor, tenant_id: UUID, user_id: UUID, role: Role | None = None, *, active: bool | None = None
) -> None:  # fmt: skip
    with db.transaction(who) as session:
        members.change(session, who, tenant_id, user_id, role=role, active=active)


def _sign_out(who: Actor, tenant_id: UUID | None, user_id: UUID) -> int:
    with db.transaction(who) as session:
        return members.sign_out(session, who, tenant_id, user_id)


def _works_in(browser: Browser) -> UUID | None:
    found = sessions.who(browser.token)
    return found.principal.tenant_id if found and found.principal else None


def test_a_member_has_the_role_and_a_label_with_the_e_mail(tenant_id: UUID) -> None:
    email = an_email()
    user_id = a_user(email)
    join(tenant_id, user_id, Role.FINANCE)
    place = _places(SYSTEM, tenant_id)[user_id]
    assert (place.email, place.name, place.role, place.state) == (
        email, "Ada", Role.FINANCE, State.ACTIVE,
    )  # fmt: skip
    with db.transaction(SYSTEM) as session:
        member = session.get_one(Membership, (tenant_id, user_id))
        assert session.get_one(Label, (tenant_id, member.label_id)).name == email
        assert tenants.label(session, tenant_id, user_id, email) == member.label_id
    assert ("member.add", "done", "system:tests", tenant_id) in audit_rows(f"user:{user_id}")
    with pytest.raises(errors.Conflict):
        join(tenant_id, user_id)


def test_who_does_not_exist_joins_nothing(tenant_id: UUID) -> None:
    with pytest.raises(errors.NotFound, match="no such person"):
        join(tenant_id, uuid4())
    with pytest.raises(errors.NotFound, match="no such tenant"):
        join(uuid4(), a_user())


@pytest.mark.parametrize("name", MAY_NOT)
@pytest.mark.parametrize("act", ACTS)
def test_only_admins_in_a_browser_act_on_members(cast: Cast, name: str, act: str) -> None:
    who = cast.named(name)
    before = _places(SYSTEM, cast.tenant_id)
    refused(who, lambda s: ACTS[act](s, who, cast.tenant_id, cast.user_id))
    assert _places(SYSTEM, cast.tenant_id) == before
    assert sessions.who(cast.subject.token) is not None


@pytest.mark.parametrize("name", [*MAY_NOT, "admin", "stranger"])
def test_only_operators_put_a_person_into_a_tenant_without_an_invite(cast: Cast, name: str) -> None:
    who, user_id = cast.named(name), a_user()
    refused(
        who, lambda s: members.add(s, who, cast.tenant_id, user_id, Role.MEMBER, confirmed=True)
    )
    assert user_id not in _places(SYSTEM, cast.tenant_id)
    assert [row[:2] for row in logged("member.add", f"user:{user_id}")] == [
        ("denied", who.tenant_id)
    ]


def test_refused_attempts_are_in_the_log_of_the_tenant_that_tried(cast: Cast) -> None:
    user_id = a_browser(cast.tenant_id).principal.user_id
    for name in MAY_NOT:
        who = cast.named(name)
        refused(who, lambda s, who=who: members.change(  # type: ignore[misc]
            s, who, cast.tenant_id, user_id, role=Role.ADMIN))  # fmt: skip
        refused(who, lambda s, who=who: members.sign_out(  # type: ignore[misc]
            s, who, cast.tenant_id, user_id))  # fmt: skip
    denied = [row for row in audit_rows(f"user:{user_id}") if row[1] == "denied"]
    assert [row[0] for row in denied] == ["member.change", "member.sign_out"] * len(MAY_NOT)
    assert {row[2] for row in denied} == {
        f"user:{cast.member.user_id}", f"user:{cast.finance.user_id}", f"key:{cast.key.key_id}",
    }  # fmt: skip
    assert {row[3] for row in denied} == {cast.tenant_id}


@pytest.mark.parametrize("act", ACTS)
def test_another_tenants_admin_finds_neither_tenant_nor_person(cast: Cast, act: str) -> None:
    stranger = cast.stranger
    foreign = refused(
        stranger, lambda s: ACTS[act](s, stranger, cast.tenant_id, cast.user_id), errors.NotFound
    )
    missing = refused(
        stranger, lambda s: ACTS[act](s, stranger, uuid4(), cast.user_id), errors.NotFound
    )
    assert foreign.message == missing.message
    if act != "member.list":
        theirs = refused(
            stranger, lambda s: ACTS[act](s, stranger, stranger.tenant_id, cast.user_id),
            errors.NotFound,
        )  # fmt: skip
        nobody = refused(
            stranger, lambda s: ACTS[act](s, stranger, stranger.tenant_id, uuid4()), errors.NotFound
        )
        assert theirs.message == nobody.message
    assert _works_in(cast.subject) == cast.tenant_id


def test_the_web_role_reaches_no_other_tenant_by_itself(cast: Cast) -> None:
    stranger, before = cast.stranger, _places(SYSTEM, cast.tenant_id)
    ids = {"t": cast.tenant_id, "u": cast.user_id}
    assert asks(stranger, "select count(*) from verbs.members_of(:t)", **ids) == 0
    changed = "select code from verbs.change_member(:t, :u, 'admin', 'disabled')"
    assert asks(stranger, changed, **ids) == "no_member"
    assert asks(stranger, "select verbs.sign_out_member(:t, :u)", **ids) is None
    assert asks(stranger, "select verbs.sign_out_member(null, :u)", **ids) is None
    assert _places(SYSTEM, cast.tenant_id) == before
    for statement in ("select verbs.join_tenant(:t, :u, 'admin', null, :u)",
                      "select verbs.end_sessions_in(null, :u)",
                      "select verbs.label_of(:t, :u, :u, 'x')"):  # fmt: skip
        with pytest.raises(Exception, match="permission denied"):
            asks(stranger, statement, **ids)


def test_the_web_role_without_a_tenant_reaches_nobody(cast: Cast) -> None:
    call = db.current().call
    ids = (cast.tenant_id, cast.user_id)
    assert call("select verbs.sign_out_member(%s, %s) as n", ids) == {"n": None}
    found = call("select code from verbs.change_member(%s, %s, 'admin', null)", ids)
    assert found == {"code": "no_member"}
    assert call("select count(*) as n from verbs.members_of(%s)", ids[:1]) == {"n": 0}


@pytest.mark.parametrize("name", ["admin", "operator"])
def test_a_changed_role_counts_at_the_next_call(tenant_id: UUID, name: str) -> None:
    browser, cast = a_browser(tenant_id), a_cast()
    admin = a_browser(tenant_id, Role.ADMIN).principal
    who: Actor = admin if name == "admin" else cast.operator
    user_id = browser.principal.user_id
    _change(who, tenant_id, user_id, Role.ADMIN)
    found = sessions.who(browser.token)
    assert found is not None
    assert found.principal is not None
    assert found.principal.role is Role.ADMIN
    assert logged("member.change", f"user:{user_id}") == [
        ("done", tenant_id, {"role": "member", "status": "active"},
         {"role": "admin", "status": "active", "sessions_ended": 0})
    ]  # fmt: skip


def test_a_disabled_member_is_out_at_once_and_signs_in_anew_when_enabled(tenant_id: UUID) -> None:
    admin, browser = a_browser(tenant_id, Role.ADMIN).principal, a_browser(tenant_id)
    user_id = browser.principal.user_id
    with db.transaction(browser.principal) as session:
        secret = keys.issue(session, browser.principal, "ci").secret
    ticket = sessions.issue_ticket(user_id)
    _change(admin, tenant_id, user_id, active=False)
    assert sessions.who(browser.token) is None
    assert sessions.redeem(ticket, None, None) is None
    assert keys.who(secret) is None
    assert _places(admin, tenant_id)[user_id].state is State.DISABLED
    _change(admin, tenant_id, user_id, active=True)
    assert _places(admin, tenant_id)[user_id].state is State.ACTIVE
    assert sessions.who(browser.token) is None
    assert keys.who(secret) is not None
    assert sessions.who(sign_in(user_id).token) is not None
    with pytest.raises(errors.NotFound):
        _change(admin, tenant_id, uuid4(), active=False)


def test_whom_operators_ended_is_shown_as_blocked_and_stays_so(tenant_id: UUID) -> None:
    admin, user_id = a_browser(tenant_id, Role.ADMIN).principal, a_user()
    join(tenant_id, user_id)
    with db.transaction(SYSTEM) as session:
        tenants.disable_user(session, SYSTEM, user_id)
    _change(admin, tenant_id, user_id, active=True)
    assert _places(admin, tenant_id)[user_id].state is State.BLOCKED
    with pytest.raises(errors.NotFound):
        sessions.issue_ticket(user_id)


@pytest.mark.parametrize("ending", [{"role": Role.MEMBER}, {"active": False}])
def test_an_admin_does_not_leave_the_team_without_one(
    tenant_id: UUID, ending: dict[str, Role | bool]
) -> None:
    admin = a_browser(tenant_id, Role.ADMIN).principal
    ended = a_browser(tenant_id, Role.ADMIN).principal
    with db.transaction(SYSTEM) as session:  # an admin who cannot sign in is none
        tenants.disable_user(session, SYSTEM, ended.user_id)
    refusal = refused(
        admin,
        lambda s: members.change(s, admin, tenant_id, admin.user_id, **ending),  # type: ignore[arg-type]
        errors.Conflict,
    )
    assert "last active admin" in refusal.message
    assert _places(admin, tenant_id)[admin.user_id].role is Role.ADMIN
    other = a_browser(tenant_id, Role.ADMIN).principal
    _change(admin, tenant_id, admin.user_id, **ending)  # type: ignore[arg-type]
    assert _places(other, tenant_id)[other.user_id].state is State.ACTIVE
    operator = a_cast().operator
    _change(operator, tenant_id, other.user_id, **ending)  # type: ignore[arg-type]
    assert "admin" not in {
        p.role for p in _places(operator, tenant_id).values() if p.state is State.ACTIVE
    }


def test_two_admins_who_demote_each_other_at_once_leave_one(tenant_id: UUID) -> None:
    pair = [a_browser(tenant_id, Role.ADMIN).principal for _ in range(2)]
    start = Barrier(2)

    def demote(who: Principal, other: Principal) -> bool:
        start.wait()
        try:
            _change(who, tenant_id, other.user_id, Role.MEMBER)
        except errors.Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(demote, pair, reversed(pair)))
    assert sorted(done) == [False, True]
    roles = [place.role for place in _places(SYSTEM, tenant_id).values()]
    assert sorted(roles) == [Role.ADMIN, Role.MEMBER]


def test_an_admin_signs_a_member_out_of_this_tenant_only(tenant_id: UUID) -> None:
    admin, elsewhere = a_browser(tenant_id, Role.ADMIN).principal, a_tenant("Elsewhere")
    here = a_browser(tenant_id)
    user_id = here.principal.user_id
    join(elsewhere, user_id)
    there = sign_in(user_id)
    with db.transaction(there.principal) as session:
        sessions.choose_tenant(session, there.signed_in, elsewhere)
    assert (_works_in(here), _works_in(there)) == (tenant_id, elsewhere)
    assert _places(admin, tenant_id)[user_id].sessions == 1
    assert _sign_out(admin, tenant_id, user_id) == 1
    assert (_works_in(here), _works_in(there)) == (None, elsewhere)
    assert _places(admin, tenant_id)[user_id].sessions == 0
    assert logged("member.sign_out", f"user:{user_id}") == [
        ("done", tenant_id, None, {"sessions_ended": 1})
    ]


def test_an_operator_signs_a_person_out_everywhere(tenant_id: UUID) -> None:
    operator, elsewhere = a_cast().operator, a_tenant("Elsewhere")
    browsers = [a_browser(tenant_id)]
    user_id = browsers[0].principal.user_id
    join(elsewhere, user_id)
    for place in (tenant_id, None):
        browsers.append(sign_in(user_id))
        with db.transaction(browsers[-1].principal) as session:
            sessions.choose_tenant(session, browsers[-1].signed_in, elsewhere)
        ticket = sessions.issue_ticket(user_id)
        assert _sign_out(operator, place, user_id) == (2 if place else 1)
        assert [_works_in(browser) for browser in browsers] == [None] * len(browsers)
        assert sessions.redeem(ticket, None, None) is None
    with pytest.raises(errors.NotFound):
        _sign_out(operator, elsewhere, uuid4())
    with pytest.raises(errors.NotFound):
        _sign_out(operator, None, uuid4())


def test_nobody_but_operators_signs_out_without_naming_a_tenant(cast: Cast) -> None:
    refused(cast.admin, lambda s: members.sign_out(s, cast.admin, None, cast.user_id))
    assert _works_in(cast.subject) == cast.tenant_id


def test_the_last_sight_of_a_member_is_that_in_this_tenant(tenant_id: UUID) -> None:
    admin, elsewhere = a_browser(tenant_id, Role.ADMIN).principal, a_tenant("Elsewhere")
    here = a_browser(tenant_id)
    user_id = here.principal.user_id
    join(elsewhere, user_id)
    there = sign_in(user_id)
    with db.transaction(there.principal) as session:
        sessions.choose_tenant(session, there.signed_in, elsewhere)
    for browser, hours in ((here, 5), (there, 1)):
        change(
            "update app.sessions set last_seen_at = now() - make_interval(hours => :h)"
            " where session_id = :s",
            h=hours, s=browser.signed_in.session_id,
        )  # fmt: skip
    seen = _places(admin, tenant_id)[user_id].last_seen_at
    seen_there = _places(SYSTEM, elsewhere)[user_id].last_seen_at
    assert seen is not None
    assert seen_there is not None
    assert 3.9 * 3600 < (seen_there - seen).total_seconds() < 4.1 * 3600


def test_colleagues_are_those_of_the_own_tenant(tenant_id: UUID) -> None:
    principal = a_browser(tenant_id).principal
    colleague = a_browser(tenant_id, Role.ADMIN).principal
    a_browser(a_tenant("Other"))
    for who in (principal, by_key(principal)):
        with db.transaction(who) as session:
            seen = {member.user_id for member in members.colleagues(session, who)}
        assert seen == {principal.user_id, colleague.user_id}
