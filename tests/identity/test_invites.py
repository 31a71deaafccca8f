"""core/identity/invites.py and the functions below it"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, errors, settings
from core.crypto import token_hash
from core.identity import invites, leftovers, members, passwords, people, sessions, tenants
from core.identity.access import Actor, Principal, Role
from core.identity.invites import ENDED, SIGN_IN_FIRST, IssuedInvite, Proof
from core.identity.members import Place, State
from tests.identity.cast import MAY_NOT, Cast, a_cast, asks, logged, refused
from tests.identity.people import (
    PASSWORD,
    SYSTEM,
    a_browser,
    a_tenant,
    a_user,
    an_address,
    an_email,
    change,
    join,
    sign_in,
)

pytestmark = pytest.mark.usefixtures("database")

Act = Callable[[Session, Actor, UUID, UUID], object]
ACTS: dict[str, Act] = {
    "create": lambda s, w, t, i: invites.invite(s, w, t, an_email(), Role.ADMIN),
    "reissue": invites.reissue,
    "revoke": invites.revoke,
    "list": lambda s, w, t, i: invites.of_tenant(s, w, t),
}


@pytest.fixture
def admin() -> Principal:
    return a_browser(a_tenant("Acme Invites"), Role.ADMIN).principal


@pytest.fixture(scope="module")
def cast(database: object) -> Cast:
    return a_cast()


def _invite(
    admin: Actor, email: str | None = None, role: Role = Role.MEMBER, tenant_id: UUID | None = None
) -> IssuedInvite:
    place = tenant_id or admin.bound_tenant_id
    assert place is not None
    with db.transaction(admin) as session:
        return invites.invite(session, admin, place, email or an_email(), role)


def _token(issued: IssuedInvite) -> str:
    return issued.link.partition("/?invite=")[2]


def _open(admin: Principal) -> list[UUID]:
    with db.transaction(admin) as session:
        return [i.invite_id for i in invites.of_tenant(session, admin, admin.tenant_id)]


def _place(tenant_id: UUID, user_id: UUID) -> Place | None:
    with db.transaction(SYSTEM) as session:
        places = members.of_tenant(session, SYSTEM, tenant_id)
    return next((place for place in places if place.user_id == user_id), None)


def _accept(issued: IssuedInvite, password: str = PASSWORD, name: str = "Grace") -> UUID:
    return invites.accept(_token(issued), password, name=name, address=an_address())


def test_a_new_person_gets_the_invited_place_and_their_own_password(admin: Principal) -> None:
    email = an_email()
    issued = _invite(admin, email.upper(), Role.FINANCE)
    found = invites.opened(_token(issued))
    assert found is not None
    assert (found.tenant_name, found.email, found.role) == ("Acme Invites", email, Role.FINANCE)
    assert (found.proof, found.is_member) == (Proof.NEW, False)
    week = timedelta(days=7)
    assert abs(found.expires_at - datetime.now(UTC) - week) < timedelta(minutes=1)
    user_id = _accept(issued)
    place = _place(admin.tenant_id, user_id)
    assert place is not None
    assert (place.email, place.name, place.role, place.state) == (
        email, "Grace", Role.FINANCE, State.ACTIVE,
    )  # fmt: skip
    assert passwords.verify(email, PASSWORD, an_address()) == user_id
    assert sign_in(user_id).principal.tenant_id == admin.tenant_id


def test_a_known_person_joins_with_the_password_they_have(admin: Principal) -> None:
    email = an_email()
    user_id = a_user(email, password=PASSWORD)
    join(a_tenant("First"), user_id)
    issued = _invite(admin, email, Role.ADMIN)
    found = invites.opened(_token(issued))
    assert found is not None
    assert (found.proof, found.is_member) == (Proof.PASSWORD, False)
    with pytest.raises(errors.BadInput):
        _accept(issued, "not the password")
    assert _place(admin.tenant_id, user_id) is None
    assert _accept(issued, name="Somebody else") == user_id
    place = _place(admin.tenant_id, user_id)
    assert place is not None
    assert (place.name, place.role) == ("Ada", Role.ADMIN)
    browser = sign_in(user_id)
    with db.transaction(browser.principal) as session:
        names = {place.name for place in sessions.places(session, browser.signed_in)}
    assert names == {"First", "Acme Invites"}


def test_wrong_passwords_at_a_link_lock_like_those_at_the_sign_in(admin: Principal) -> None:
    email, address = an_email(), an_address()
    user_id = a_user(email, password=PASSWORD)
    issued = _invite(admin, email)
    for _ in range(passwords.FAILURES_MAX_NAME):
        with pytest.raises(errors.BadInput):
            invites.accept(_token(issued), "not the password", address=address)
    with pytest.raises(errors.BadInput):  # the right one, locked
        invites.accept(_token(issued), PASSWORD, address=address)
    assert passwords.verify(email, PASSWORD, address) is None
    assert _place(admin.tenant_id, user_id) is None
    assert invites.opened(_token(issued)) is not None


@pytest.mark.parametrize(
    ("password", "name"), [("short", "Grace"), ("x" * 73, "Grace"), (PASSWORD, " "), (PASSWORD, "a\0")]
)  # fmt: skip
def test_a_password_or_name_against_the_rules_uses_nothing_up(
    admin: Principal, password: str, name: str
) -> None:
    email = an_email()
    issued = _invite(admin, email)
    with pytest.raises(errors.BadInput):
        _accept(issued, password, name)
    with db.transaction(SYSTEM) as session, pytest.raises(errors.NotFound):
        tenants.find_user(session, SYSTEM, email)
    assert _accept(issued)


def test_a_link_is_used_once_also_by_many_tabs_at_once(admin: Principal) -> None:
    new, known = an_email(), an_email()
    a_user(known, password=PASSWORD)
    for email in (new, known):
        issued, start = _invite(admin, email), Barrier(4)

        def try_it(_: int, issued: IssuedInvite = issued, start: Barrier = start) -> UUID | str:
            start.wait()
            try:
                return _accept(issued)
            except errors.Refusal as refusal:
                return refusal.message

        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(try_it, range(4)))
        assert sum(isinstance(result, UUID) for result in done) == 1, done
        assert {result for result in done if isinstance(result, str)} == {ENDED}
        accepted = [row[0] for row in logged("invite.accept", f"invite:{issued.invite_id}")]
        assert accepted == ["done"]
    with db.transaction(SYSTEM) as session:
        emails = [p.email for p in members.of_tenant(session, SYSTEM, admin.tenant_id)]
    assert sorted(emails) == sorted([admin.email, new, known])


def test_used_revoked_expired_replaced_suspended_and_forged_links_say_the_same(
    admin: Principal,
) -> None:
    used, revoked, expired, email = _invite(admin), _invite(admin), _invite(admin), an_email()
    _accept(used)
    with db.transaction(admin) as session:
        invites.revoke(session, admin, admin.tenant_id, revoked.invite_id)
    change("update app.invites set expires_at = now() where invite_id = :i", i=expired.invite_id)
    replaced = _invite(admin, email)
    assert _invite(admin, email) != replaced
    other = a_browser(a_tenant("Suspended"), Role.ADMIN).principal
    suspended = _invite(other)
    with db.transaction(SYSTEM) as session:
        tenants.set_tenant_active(session, SYSTEM, other.tenant_id, active=False)
    links = [_token(issued) for issued in (used, revoked, expired, replaced, suspended)]
    for token in [*links, "", "x" * 43, "é" * 20, "\ud800", "x" * 10_000, str(used.invite_id)]:
        assert invites.opened(token) is None
        with pytest.raises(errors.NotFound) as refusal:
            invites.accept(token, PASSWORD, name="Grace")
        assert refusal.value.message == ENDED


def test_a_member_is_not_invited_again(admin: Principal) -> None:
    member = a_browser(admin.tenant_id).principal
    with pytest.raises(errors.Conflict, match="member already"):
        _invite(admin, member.email)
    email = an_email()
    issued = _invite(admin, email, Role.ADMIN)
    user_id = a_user(email, password=PASSWORD)
    join(admin.tenant_id, user_id, Role.FINANCE)  # meanwhile, by an operator
    found = invites.opened(_token(issued))
    assert found is not None
    assert found.is_member
    assert _accept(issued) == user_id
    place = _place(admin.tenant_id, user_id)
    assert place is not None
    assert place.role is Role.FINANCE


def test_a_disabled_member_who_is_invited_again_has_the_invited_role(admin: Principal) -> None:
    email = an_email()
    user_id = a_user(email, password=PASSWORD)
    join(admin.tenant_id, user_id, Role.ADMIN)
    with db.transaction(admin) as session:
        members.change(session, admin, admin.tenant_id, user_id, active=False)
    issued = _invite(admin, email, Role.FINANCE)
    assert _accept(issued) == user_id
    place = _place(admin.tenant_id, user_id)
    assert place is not None
    assert (place.role, place.state) == (Role.FINANCE, State.ACTIVE)
    assert logged("invite.accept", f"invite:{issued.invite_id}") == [
        ("done", admin.tenant_id, {"role": "admin", "status": "disabled"},
         {"user_id": str(user_id), "role": "finance", "new_person": False, "first_password": False})
    ]  # fmt: skip


def test_who_was_ended_by_operators_does_not_come_back_by_a_link(admin: Principal) -> None:
    email = an_email()
    user_id = a_user(email, password=PASSWORD)
    issued = _invite(admin, email)
    with db.transaction(SYSTEM) as session:
        tenants.disable_user(session, SYSTEM, user_id)
    with pytest.raises(errors.BadInput):
        _accept(issued)
    code = db.current().call(
        "select * from verbs.accept_invite(%s, %s, '', null, %s)",
        (token_hash(_token(issued)), user_id, uuid4()),
    )
    assert code == {"code": "ended", "person": None}
    assert _place(admin.tenant_id, user_id) is None


def test_an_e_mail_that_became_somebodys_meanwhile_keeps_its_password(admin: Principal) -> None:
    email = an_email()
    issued = _invite(admin, email)
    user_id = a_user(email, password=PASSWORD)
    row = db.current().call(
        "select * from verbs.accept_invite(%s, %s, 'Eve', %s, %s)",
        (token_hash(_token(issued)), uuid4(), passwords.hash_password("another one"), uuid4()),
    )
    assert row == {"code": "known", "person": None}
    assert passwords.verify(email, PASSWORD, an_address()) == user_id
    assert _accept(issued) == user_id


def test_somebody_elses_password_does_not_open_a_link(admin: Principal) -> None:
    issued, other = _invite(admin), a_user(password=PASSWORD)
    row = db.current().call(
        "select * from verbs.accept_invite(%s, %s, '', null, %s)",
        (token_hash(_token(issued)), other, uuid4()),
    )
    assert row == {"code": "ended", "person": None}
    assert _place(admin.tenant_id, other) is None


def _proof(issued: IssuedInvite) -> Proof:
    found = invites.opened(_token(issued))
    assert found is not None
    return found.proof


def _has_password(user_id: UUID) -> bool:
    with db.transaction(SYSTEM) as session:
        held = session.execute(
            text("select password_hash is not null from app.users where user_id = :u"),
            {"u": user_id},
        )
        return bool(held.scalar_one())


def test_an_account_nobody_ever_used_gets_its_first_password_by_the_link(admin: Principal) -> None:
    email = an_email()
    user_id = a_user(email)
    issued = _invite(admin, email, Role.FINANCE)
    assert _proof(issued) is Proof.NEW
    assert _accept(issued, name="Grace") == user_id
    assert passwords.verify(email, PASSWORD, an_address()) == user_id
    place = _place(admin.tenant_id, user_id)
    assert place is not None
    assert (place.name, place.role, place.state) == ("Grace", Role.FINANCE, State.ACTIVE)
    assert logged("invite.accept", f"invite:{issued.invite_id}") == [
        ("done", admin.tenant_id, None,
         {"user_id": str(user_id), "role": "finance", "new_person": False, "first_password": True})
    ]  # fmt: skip
    with pytest.raises(errors.NotFound):
        _accept(issued, "another password")


def _works_elsewhere(user_id: UUID) -> None:
    join(a_tenant("Elsewhere"), user_id)


def _worked_elsewhere(user_id: UUID) -> None:
    tenant_id = a_tenant("Elsewhere")
    join(tenant_id, user_id)
    _end_place(tenant_id, user_id)


def _is_operator(user_id: UUID) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)


def _signed_in_by_another_door(user_id: UUID) -> None:
    """As an operator who is none any more: nothing but the session is left."""
    _is_operator(user_id)
    assert sessions.redeem(sessions.issue_ticket(user_id, "oidc"), None, None)
    with db.transaction(SYSTEM) as session:
        tenants.dismiss_operator(session, SYSTEM, user_id)


def _is_signing_in(user_id: UUID) -> None:
    _is_operator(user_id)
    sessions.issue_ticket(user_id, "oidc")
    with db.transaction(SYSTEM) as session:
        tenants.dismiss_operator(session, SYSTEM, user_id)


def _is_ended(user_id: UUID) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.disable_user(session, SYSTEM, user_id)


def _end_place(tenant_id: UUID, user_id: UUID) -> None:
    with db.transaction(SYSTEM) as session:
        members.change(session, SYSTEM, tenant_id, user_id, active=False)


CLAIMS: dict[str, Callable[[UUID], None]] = {
    "works elsewhere": _works_elsewhere,
    "worked elsewhere": _worked_elsewhere,
    "is an operator": _is_operator,
    "signed in by another door": _signed_in_by_another_door,
    "is signing in": _is_signing_in,
    "is ended": _is_ended,
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_link_takes_over_an_account_that_is_somebodys(admin: Principal, claim: str) -> None:
    """A tenant's admin invites the e-mail of a person without a password, and keeps the link."""
    email = an_email()
    user_id = a_user(email)
    CLAIMS[claim](user_id)
    issued = _invite(admin, email, Role.ADMIN)
    assert _proof(issued) is Proof.SESSION
    with pytest.raises(errors.Conflict) as refusal:
        _accept(issued, "the attacker's own")
    assert refusal.value.message == SIGN_IN_FIRST
    forged = db.current().call(  # past the check that words the refusal
        "select * from verbs.accept_invite(%s, %s, 'Eve', %s, %s)",
        (token_hash(_token(issued)), uuid4(), passwords.hash_password("the attacker's own"), uuid4()),
    )  # fmt: skip
    assert forged == {"code": "known", "person": None}
    assert not _has_password(user_id)
    assert passwords.verify(email, "the attacker's own", an_address()) is None
    assert _place(admin.tenant_id, user_id) is None
    assert _proof(issued) is Proof.SESSION  # and the link can still be used by its person


def test_an_admin_takes_over_no_account_whose_place_they_ended(admin: Principal) -> None:
    """What the person wrote in this very team is theirs alone."""
    email = an_email()
    user_id = a_user(email)
    join(admin.tenant_id, user_id)
    _end_place(admin.tenant_id, user_id)
    issued = _invite(admin, email)
    assert _proof(issued) is Proof.SESSION
    with pytest.raises(errors.Conflict):
        _accept(issued)
    assert not _has_password(user_id)


def test_an_account_that_is_claimed_while_the_link_is_open_keeps_to_its_person(
    admin: Principal,
) -> None:
    email = an_email()
    user_id = a_user(email)
    issued = _invite(admin, email)
    assert _proof(issued) is Proof.NEW
    began, done = Barrier(2), list[object]()

    def accept() -> None:
        began.wait()
        try:
            done.append(_accept(issued))
        except errors.Conflict as refusal:
            done.append(refusal)

    elsewhere = a_tenant("Meanwhile")
    with ThreadPoolExecutor(1) as pool, db.transaction(SYSTEM) as session:
        members.add(session, SYSTEM, elsewhere, user_id, Role.MEMBER, confirmed=True)
        pool.submit(accept)
        began.wait()
        _wait_for_lock()  # then this commits, and whoever waited sees the place
    assert [type(outcome) for outcome in done] == [errors.Conflict]
    assert not _has_password(user_id)
    assert _proof(issued) is Proof.SESSION


def _wait_for_lock() -> None:
    """Until somebody waits for the rows of this test's transaction."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with db.transaction(SYSTEM) as session:
            if session.execute(text("select count(*) from pg_locks where not granted")).scalar():
                return
        time.sleep(0.05)
    raise AssertionError("nobody waits: the account is not locked while it is claimed")


def test_who_is_signed_in_as_the_e_mail_accepts_without_a_password(admin: Principal) -> None:
    for password in (None, PASSWORD):
        email = an_email()
        user_id = a_user(email, password=password)
        join(a_tenant("First"), user_id)
        browser = sign_in(user_id)
        issued = _invite(admin, email.upper(), Role.FINANCE)
        assert invites.accept_as(_token(issued), browser.token) == user_id
        place = _place(admin.tenant_id, user_id)
        assert place is not None
        assert (place.role, place.state) == (Role.FINANCE, State.ACTIVE)
        assert _has_password(user_id) is (password is not None)
        assert logged("invite.accept", f"invite:{issued.invite_id}") == [
            ("done", admin.tenant_id, None,
             {"user_id": str(user_id), "role": "finance", "new_person": False,
              "first_password": False})
        ]  # fmt: skip
        with pytest.raises(errors.NotFound) as refusal:
            invites.accept_as(_token(issued), browser.token)
        assert refusal.value.message == ENDED


def test_an_operator_of_no_team_accepts_when_signed_in(admin: Principal) -> None:
    email = an_email()
    user_id = a_user(email)
    _is_operator(user_id)
    token = sessions.redeem(sessions.issue_ticket(user_id), None, None)
    assert invites.accept_as(_token(_invite(admin, email)), token) == user_id
    assert _place(admin.tenant_id, user_id) is not None


def test_somebody_elses_session_or_none_opens_no_link(admin: Principal) -> None:
    email = an_email()
    user_id = a_user(email)
    join(a_tenant("First"), user_id)
    issued, ended = _invite(admin, email), sign_in(user_id)
    with pytest.raises(errors.Forbidden):
        invites.accept_as(_token(issued), sign_in(admin.user_id).token)
    sessions.end(ended.token)
    for token in (ended.token, None, "", "forged", _token(issued)):
        with pytest.raises(errors.NotSignedIn):
            invites.accept_as(_token(issued), token)
    _is_ended(user_id)
    with pytest.raises(errors.NotSignedIn):
        invites.accept_as(_token(issued), ended.token)
    assert _place(admin.tenant_id, user_id) is None
    assert _proof(issued) is Proof.SESSION


def test_reissuing_gives_a_new_link_and_ends_the_old_one(admin: Principal) -> None:
    old = _invite(admin, role=Role.FINANCE)
    change("update app.invites set expires_at = now() where invite_id = :i", i=old.invite_id)
    with db.transaction(admin) as session:
        new = invites.reissue(session, admin, admin.tenant_id, old.invite_id)
    assert (new.email, new.role) == (old.email, old.role)
    assert invites.opened(_token(old)) is None
    assert _open(admin) == [new.invite_id]
    assert _accept(new)
    assert _open(admin) == []
    for spent in (old, new):
        with pytest.raises(errors.NotFound), db.transaction(admin) as session:
            invites.reissue(session, admin, admin.tenant_id, spent.invite_id)
        with pytest.raises(errors.NotFound), db.transaction(admin) as session:
            invites.revoke(session, admin, admin.tenant_id, spent.invite_id)


def test_an_admin_makes_no_more_than_fifty_links_an_hour(admin: Principal) -> None:
    for number in range(invites.HOURLY_MAX):
        _invite(admin, f"hour{number}@example.com")
    refusal = refused(
        admin,
        lambda s: invites.invite(s, admin, admin.tenant_id, an_email(), Role.MEMBER),
        errors.Conflict,
    )
    assert "within an hour" in refusal.message
    colleague = a_browser(admin.tenant_id, Role.ADMIN).principal
    assert _invite(colleague)
    change(
        "update app.invites set created_at = created_at - interval '1 hour' where of_tenant = :t",
        t=admin.tenant_id,
    )
    assert _invite(admin)


def test_a_tenant_has_no_more_than_two_hundred_open_links(admin: Principal) -> None:
    operator = a_cast().operator
    first = _invite(operator, tenant_id=admin.tenant_id)
    with db.transaction(SYSTEM) as session:
        for number in range(invites.OPEN_MAX - 1):
            invites.invite(
                session, SYSTEM, admin.tenant_id, f"open{number}@example.com", Role.MEMBER
            )
    with pytest.raises(errors.Conflict, match="200 open"):
        _invite(admin)
    assert _invite(admin, first.email)  # instead of the one there is
    with db.transaction(admin) as session:
        invites.revoke(session, admin, admin.tenant_id, _open(admin)[0])
    assert _invite(admin)


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@b", "a b@example.com", "x@example.com\n, y@b.de"]
)
def test_what_is_no_e_mail_is_not_invited(admin: Principal, email: str) -> None:
    with pytest.raises(errors.BadInput), db.transaction(admin) as session:
        invites.invite(session, admin, admin.tenant_id, email, Role.MEMBER)


@pytest.mark.parametrize("name", MAY_NOT)
@pytest.mark.parametrize("act", ACTS)
def test_only_admins_in_a_browser_hand_out_links(cast: Cast, name: str, act: str) -> None:
    who, issued = cast.named(name), _invite(cast.admin)
    refused(who, lambda s: ACTS[act](s, who, cast.tenant_id, issued.invite_id))
    assert invites.opened(_token(issued)) is not None
    action, object_ = {
        "create": ("invite.create", f"tenant:{cast.tenant_id}"),
        "revoke": ("invite.revoke", f"invite:{issued.invite_id}"),
    }.get(act, ("invite.create", f"invite:{issued.invite_id}"))
    if act != "list":
        assert ("denied", cast.tenant_id, None, None) in logged(action, object_)


@pytest.mark.parametrize("act", ACTS)
def test_another_tenants_admin_finds_no_link(cast: Cast, act: str) -> None:
    stranger, issued = cast.stranger, _invite(cast.admin)
    refused(
        stranger,
        lambda s: ACTS[act](s, stranger, cast.tenant_id, issued.invite_id),
        errors.NotFound,
    )
    if act in ("reissue", "revoke"):
        refused(
            stranger, lambda s: ACTS[act](s, stranger, stranger.tenant_id, issued.invite_id),
            errors.NotFound,
        )  # fmt: skip
    assert invites.opened(_token(issued)) is not None


def test_the_web_role_makes_and_sees_no_other_tenants_links(cast: Cast) -> None:
    stranger, issued = cast.stranger, _invite(cast.admin)
    ids = {"t": cast.tenant_id, "i": issued.invite_id, "h": token_hash("forged"), "n": uuid4()}
    assert asks(stranger, "select count(*) from verbs.invites_of(:t)", **ids) == 0
    assert asks(stranger, "select verbs.revoke_invite(:t, :i)", **ids) is False
    made = (
        "select verbs.make_invite(:t, :n, :h, 'eve@example.com', 'admin', 'user:x',"
        " now() + interval '1 day', 9, 9)"
    )
    assert asks(stranger, made, **ids) == "no_tenant"
    assert invites.opened("forged") is None
    with pytest.raises(Exception, match="permission denied"):
        asks(stranger, "select count(*) from app.invites")


def test_every_act_is_in_the_log_without_link_and_e_mail(cast: Cast) -> None:
    issued = _invite(cast.admin, role=Role.FINANCE)
    again = None
    with db.transaction(cast.operator) as session:
        again = invites.reissue(session, cast.operator, cast.tenant_id, issued.invite_id)
        invites.revoke(session, cast.operator, cast.tenant_id, again.invite_id)
    assert logged("invite.create", f"invite:{issued.invite_id}") == [
        ("done", cast.tenant_id, None,
         {"role": "finance", "expires_at": str(issued.expires_at)})
    ]  # fmt: skip
    assert [row[0] for row in logged("invite.revoke", f"invite:{again.invite_id}")] == ["done"]
    user_id = _accept(last := _invite(cast.admin))
    assert logged("invite.accept", f"invite:{last.invite_id}") == [
        ("done", cast.tenant_id, None,
         {"user_id": str(user_id), "role": "member", "new_person": True, "first_password": True})
    ]  # fmt: skip
    with db.transaction(SYSTEM) as session:
        rows = str(session.execute(text("select * from app.audit_log")).all())
        kept = str(session.execute(text("select * from app.invites")).all())
    for secret in (_token(issued), _token(again), _token(last), PASSWORD):
        assert secret not in rows + kept
    assert issued.email not in rows
    assert _token(issued) not in repr(issued)
    assert issued.link.startswith(f"{settings.current().app_url}/?invite=")


def test_links_are_forgotten_a_month_after_their_end(admin: Principal) -> None:
    used, revoked, expired, live = (_invite(admin) for _ in range(4))
    _accept(used)
    with db.transaction(admin) as session:
        invites.revoke(session, admin, admin.tenant_id, revoked.invite_id)
    change(
        "update app.invites set accepted_at = accepted_at - interval '31 days',"
        " revoked_at = revoked_at - interval '31 days' where of_tenant = :t",
        t=admin.tenant_id,
    )
    change(
        "update app.invites set expires_at = now() - interval '29 days' where invite_id = :i",
        i=expired.invite_id,
    )
    with db.transaction(SYSTEM) as session:
        leftovers.sweep(session)
        left = session.execute(
            text("select invite_id from app.invites where of_tenant = :t"), {"t": admin.tenant_id}
        )
        assert set(left.scalars()) == {expired.invite_id, live.invite_id}


# ---- identity by unproven e-mail: the admin who made the link opened it, and chose the password


def _made_by_link(admin: Principal, email: str) -> UUID:
    return _accept(_invite(admin, email))


def _claimed_by_link(admin: Principal, email: str) -> UUID:
    """An account that an operator made for somebody, who never came."""
    a_user(email)
    return _accept(_invite(admin, email))


def _add(user_id: UUID, tenant_id: UUID, *, confirmed: bool) -> None:
    with db.transaction(SYSTEM) as session:
        members.add(session, SYSTEM, tenant_id, user_id, Role.ADMIN, confirmed=confirmed)


def _raise(user_id: UUID, _tenant_id: UUID, *, confirmed: bool) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.make_operator(session, SYSTEM, user_id, confirmed=confirmed)


def _confirm(user_id: UUID) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.confirm_email(session, SYSTEM, user_id)


@pytest.mark.parametrize("grant", [_add, _raise])
@pytest.mark.parametrize("make", [_made_by_link, _claimed_by_link])
def test_an_account_made_by_a_link_gets_nothing_elsewhere_until_proven(
    admin: Principal, make: Callable[[Principal, str], UUID], grant: Callable[..., None]
) -> None:
    email, victim = an_email(), a_tenant("Victim")
    user_id = make(admin, email)
    with pytest.raises(errors.Conflict, match=r"Acme Invites.*unproven"):
        grant(user_id, victim, confirmed=False)
    with pytest.raises(errors.Conflict, match="made this account"):
        grant(user_id, victim, confirmed=True)
    browser = sign_in(user_id)
    assert browser.signed_in.operator is None
    assert _place(victim, user_id) is None
    _confirm(user_id)
    assert [row[0] for row in logged("user.confirm_email", f"user:{user_id}")] == ["done"]
    grant(user_id, victim, confirmed=True)
    who = sessions.who(browser.token)
    assert who is not None
    assert who.operator is not None or _place(victim, user_id) is not None


@pytest.mark.parametrize("proof", ["password", "session"])
def test_another_tenants_link_does_not_take_in_an_account_nobody_proved(
    admin: Principal, proof: str
) -> None:
    email = an_email()
    user_id = _made_by_link(admin, email)
    other = a_browser(a_tenant("Victim"), Role.ADMIN).principal
    issued = _invite(other, email, Role.ADMIN)

    def use() -> UUID:
        if proof == "password":
            return _accept(issued)
        return invites.accept_as(_token(issued), sign_in(user_id).token)

    with pytest.raises(errors.Conflict) as refused:
        use()
    assert refused.value.message == invites.UNPROVEN
    assert _place(other.tenant_id, user_id) is None
    _confirm(user_id)
    assert use() == user_id
    assert _place(other.tenant_id, user_id) is not None


def test_the_tenant_whose_link_made_an_account_keeps_its_own_hand_on_it(admin: Principal) -> None:
    email = an_email()
    user_id = _made_by_link(admin, email)
    _end_place(admin.tenant_id, user_id)
    assert _accept(_invite(admin, email, Role.FINANCE)) == user_id
    place = _place(admin.tenant_id, user_id)
    assert place is not None
    assert (place.role, place.state) == (Role.FINANCE, State.ACTIVE)


@pytest.mark.parametrize("grant", [_add, _raise])
def test_no_caller_grants_an_account_anything_unseen(grant: Callable[..., None]) -> None:
    """Whoever finds an account by e-mail is told whose it is and where they work, and asked."""
    email = an_email()
    user_id = a_user(email)
    join(a_tenant("First Of Two"), user_id)
    _raise(user_id, user_id, confirmed=True)
    with pytest.raises(errors.Conflict) as told:
        grant(user_id, a_tenant("Victim"), confirmed=False)
    for fact in (email, "First Of Two", "is an operator"):
        assert fact in told.value.message


def test_whoever_is_made_in_the_same_transaction_needs_no_confirming() -> None:
    with db.transaction(SYSTEM) as session:
        user_id = tenants.create_user(session, SYSTEM, an_email())
        members.add(session, SYSTEM, a_tenant(), user_id, Role.MEMBER, confirmed=False)
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)


def test_a_link_that_claims_an_account_meanwhile_is_seen(admin: Principal) -> None:
    """An operator gives a place to an account that a link is just giving its password."""
    email, victim = an_email(), a_tenant("Victim")
    user_id = a_user(email)
    outcome: list[object] = []

    def add() -> None:
        try:
            _add(user_id, victim, confirmed=True)
            outcome.append("added")
        except errors.Conflict as refusal:
            outcome.append(refusal.message)

    issued = _invite(admin, email)
    with ThreadPoolExecutor(1) as pool, db.transaction(SYSTEM) as session:
        claimed = session.execute(
            text("select * from verbs.accept_invite(:hash, :user, 'M', 'x', :label)"),
            {"hash": token_hash(_token(issued)), "user": uuid4(), "label": uuid4()},
        ).one()
        assert (claimed.code, claimed.person) == ("ok", user_id)
        done = pool.submit(add)
        _wait_for_lock()
        session.commit()
        done.result(20)
    assert outcome == [people.UNPROVEN]
    assert _place(victim, user_id) is None
