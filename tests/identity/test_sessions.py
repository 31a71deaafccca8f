"""core/identity/sessions.py and its SQL"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import db, errors
from core.crypto import token_hash
from core.identity import sessions, tenants
from core.identity.access import Principal, Role
from tests.identity.people import (
    ADDRESS,
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


@pytest.fixture
def tenant_id() -> UUID:
    return a_tenant()


@pytest.fixture
def browser(tenant_id: UUID) -> Browser:
    return a_browser(tenant_id, Role.ADMIN)


def test_a_session_answers_who_in_one_statement(browser: Browser, tenant_id: UUID) -> None:
    db.counted.statements = 0
    signed_in = sessions.who(browser.token)
    assert db.counted.statements == 1
    assert signed_in is not None
    assert signed_in.principal is not None
    assert signed_in.operator is None
    who = signed_in.principal
    assert (who.tenant_id, who.role, who.plan, who.mode) == (
        tenant_id,
        Role.ADMIN,
        "free",
        "prepaid",
    )
    assert (who.tenant_name, who.time_zone, who.name) == ("Acme", "UTC", "Ada")
    assert (who.session_id, who.key_id, who.bound_tenant_id) == (
        signed_in.session_id,
        None,
        tenant_id,
    )


def test_a_ticket_is_good_once(tenant_id: UUID) -> None:
    user_id = a_user()
    join(tenant_id, user_id)
    ticket = sessions.issue_ticket(user_id)
    assert sessions.redeem(ticket, ADDRESS, "pytest")
    assert sessions.redeem(ticket, ADDRESS, "pytest") is None


def test_a_ticket_dies_after_thirty_seconds(tenant_id: UUID) -> None:
    user_id = a_user()
    join(tenant_id, user_id)
    ticket = sessions.issue_ticket(user_id)
    change(
        "update app.tickets set expires_at = expires_at - interval '30 s' where user_id = :user",
        user=user_id,
    )
    assert sessions.redeem(ticket, ADDRESS, "pytest") is None


@pytest.mark.parametrize("ticket", ["", "x", "\0", "\ud800", "' or 1=1 --", "x" * 1_000_000])
def test_a_made_up_ticket_or_token_gives_nothing(ticket: str) -> None:
    assert sessions.redeem(ticket, ADDRESS, "pytest") is None
    assert sessions.who(ticket) is None
    assert sessions.end(ticket) is False


def test_no_cookie_is_nobody() -> None:
    assert sessions.who(None) is None
    assert sessions.end(None) is False


@pytest.mark.parametrize("made", [uuid4, a_user], ids=["unknown", "without a tenant"])
def test_no_ticket_for_who_could_not_work_anywhere(made: Callable[[], UUID]) -> None:
    with pytest.raises(errors.NotFound):
        sessions.issue_ticket(made())


def test_tokens_are_stored_as_hashes_only(browser: Browser) -> None:
    with db.transaction(SYSTEM) as session:
        row = session.execute(
            text(
                "select sessions::text as all, token_hash from app.sessions where session_id = :id"
            ),
            {"id": browser.signed_in.session_id},
        ).one()
    assert bytes(row.token_hash) == token_hash(browser.token)
    assert browser.token not in row.all


def test_a_long_or_unprintable_user_agent_is_cut_to_200(tenant_id: UUID) -> None:
    user_id = a_user()
    join(tenant_id, user_id)
    token = sessions.redeem(sessions.issue_ticket(user_id), "::1\0\n", "\0\ud800" + "u" * 500)
    signed_in = sessions.who(token)
    assert signed_in is not None
    with db.transaction(signed_in.who) as session:
        (mine,) = sessions.mine(session, signed_in)
    assert (mine.address, mine.user_agent) == ("::1", "u" * 200)


def test_a_session_lives_twelve_hours(browser: Browser) -> None:
    with db.transaction(browser.principal) as session:
        (mine,) = sessions.mine(session, browser.signed_in)
    assert (mine.expires_at - mine.created_at).total_seconds() == sessions.SESSION_S == 43_200
    assert mine.is_this


ENDINGS = {
    "revoked": "update app.sessions set revoked_at = now() where user_id = :user",
    "expired": "update app.sessions set expires_at = now() where user_id = :user",
    "person disabled": "update app.users set status = 'disabled' where user_id = :user",
    "membership ended": "update app.memberships set status = 'disabled' where user_id = :user",
    "tenant suspended": "update app.tenants set status = 'suspended' where tenant_id = :tenant",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_ended_is_dead_at_the_next_call(browser: Browser, ending: str) -> None:
    who = browser.principal
    arguments = {"user": who.user_id, "tenant": who.tenant_id}
    change(ENDINGS[ending], **{k: v for k, v in arguments.items() if f":{k}" in ENDINGS[ending]})
    assert sessions.who(browser.token) is None


def test_signing_out_kills_the_token_and_is_audited(browser: Browser) -> None:
    assert sessions.end(browser.token) is True
    assert sessions.who(browser.token) is None
    assert sessions.end(browser.token) is False
    rows = audit_rows(f"session:{browser.signed_in.session_id}")
    assert [row[:2] for row in rows] == [("session.open", "done"), ("session.end", "done")]
    assert {row[2] for row in rows} == {f"user:{browser.principal.user_id}"}


def test_last_seen_is_touched_at_most_once_a_minute(browser: Browser) -> None:
    def last_seen() -> object:
        with db.transaction(browser.principal) as session:
            return sessions.mine(session, browser.signed_in)[0].last_seen_at

    at_first = last_seen()
    sessions.who(browser.token)
    assert last_seen() == at_first
    change(
        "update app.sessions set last_seen_at = last_seen_at - interval '61 s'"
        " where user_id = :user",
        user=browser.principal.user_id,
    )
    moved_back = last_seen()
    sessions.who(browser.token)
    assert last_seen() > moved_back  # type: ignore[operator]


def test_one_session_of_mine_ends_and_the_others_live(browser: Browser) -> None:
    other = sign_in(browser.principal.user_id)
    with db.transaction(browser.principal) as session:
        sessions.end_one(session, browser.signed_in, other.signed_in.session_id)
    assert sessions.who(other.token) is None
    assert sessions.who(browser.token) is not None
    with db.transaction(browser.principal) as session:
        assert len(sessions.mine(session, browser.signed_in)) == 1
    rows = audit_rows(f"session:{other.signed_in.session_id}")
    assert ("session.revoke", "done") in [row[:2] for row in rows]


def test_a_foreign_session_looks_like_a_missing_one(browser: Browser, tenant_id: UUID) -> None:
    colleague = a_browser(tenant_id)
    refused = []
    for session_id in (colleague.signed_in.session_id, uuid4()):
        with (
            pytest.raises(errors.NotFound) as refusal,
            db.transaction(browser.principal) as session,
        ):
            sessions.end_one(session, browser.signed_in, session_id)
        refused.append((refusal.value.message, refusal.value.param))
    assert refused[0] == refused[1]
    assert sessions.who(colleague.token) is not None


def test_all_other_sessions_of_mine_end(browser: Browser, tenant_id: UUID) -> None:
    others = [sign_in(browser.principal.user_id) for _ in range(2)]
    colleague = a_browser(tenant_id)
    with db.transaction(browser.principal) as session:
        assert sessions.end_others(session, browser.signed_in) == 2
    assert [sessions.who(other.token) for other in others] == [None, None]
    assert sessions.who(browser.token) is not None
    assert sessions.who(colleague.token) is not None


def test_the_first_tenant_is_the_default_and_another_can_be_chosen(browser: Browser) -> None:
    first, second = browser.principal.tenant_id, a_tenant("Second")
    join(second, browser.principal.user_id, Role.FINANCE)
    with db.transaction(browser.principal) as session:
        assert [p.tenant_id for p in sessions.places(session, browser.signed_in)] == [first, second]
        sessions.choose_tenant(session, browser.signed_in, second)
    assert _principal(browser).tenant_id == second
    assert _principal(browser).role is Role.FINANCE
    change(
        "update app.memberships set status = 'disabled' where tenant_id = :tenant", tenant=second
    )
    assert _principal(browser).tenant_id == first


def test_a_tenant_one_is_not_in_cannot_be_chosen(browser: Browser) -> None:
    for tenant in (a_tenant("Foreign"), uuid4()):
        with pytest.raises(errors.NotFound), db.transaction(browser.principal) as session:
            sessions.choose_tenant(session, browser.signed_in, tenant)
    assert _principal(browser).tenant_id == browser.principal.tenant_id


def test_an_operator_without_a_tenant_signs_in() -> None:
    email = an_email()
    user_id = a_user(email)
    with db.transaction(SYSTEM) as session:
        tenants.make_operator(session, SYSTEM, user_id, confirmed=True)
    browser = sign_in(user_id)
    operator = browser.signed_in.operator
    assert browser.signed_in.principal is None
    assert operator is not None
    assert (operator.user_id, operator.email, operator.bound_tenant_id) == (user_id, email, None)
    with db.transaction(operator) as session:
        assert len(sessions.mine(session, browser.signed_in)) == 1
        tenants.dismiss_operator(session, SYSTEM, user_id)
    assert sessions.who(browser.token) is None


def _principal(browser: Browser) -> Principal:
    signed_in = sessions.who(browser.token)
    assert signed_in is not None
    assert signed_in.principal is not None
    return signed_in.principal


def test_a_session_that_nobody_uses_ends_before_its_cookie() -> None:
    """Unused for four hours; every use begins them anew, up to twelve."""
    browser = a_browser(a_tenant())
    with db.transaction(SYSTEM) as session:
        limit = session.scalar(text("select extract(epoch from verbs.idle_limit())"))
    assert limit == sessions.IDLE_S

    def unused(seconds: int) -> None:
        change(
            "update app.sessions set last_seen_at = now() - make_interval(secs => :s)"
            " where token_hash = :h", s=seconds, h=token_hash(browser.token),
        )  # fmt: skip

    unused(sessions.IDLE_S - 60)
    assert sessions.who(browser.token) is not None  # which was a use
    with db.transaction(SYSTEM) as session:
        (mine,) = sessions.mine(session, browser.signed_in)
    assert mine.is_this
    unused(sessions.IDLE_S + 1)
    assert sessions.who(browser.token) is None
    with db.transaction(SYSTEM) as session:
        assert sessions.mine(session, browser.signed_in) == ()
    assert sessions.who(browser.token) is None
