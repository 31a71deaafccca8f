"""core/identity/keys.py and its SQL"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import db, errors
from core.crypto import token_hash
from core.identity import keys, tenants
from core.identity.access import Actor, Principal, Role
from tests.identity.people import SYSTEM, a_browser, a_tenant, audit_rows, change

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def tenant_id() -> UUID:
    return a_tenant()


@pytest.fixture
def member(tenant_id: UUID) -> Principal:
    return a_browser(tenant_id).principal


@pytest.fixture
def admin(tenant_id: UUID) -> Principal:
    return a_browser(tenant_id, Role.ADMIN).principal


def _issue(who: Actor, **terms: Any) -> keys.IssuedKey:
    with db.transaction(who) as session:
        return keys.issue(session, who, "laptop", **terms)


def _revoke(who: Actor, key_id: UUID) -> None:
    with db.transaction(who) as session:
        keys.revoke(session, who, key_id)


def test_a_key_acts_as_its_owner_with_its_scopes(member: Principal) -> None:
    issued = _issue(member, scopes={"chat"})
    who = keys.who(issued.secret)
    assert who == replace(member, session_id=None, key_id=issued.key_id, scopes=frozenset({"chat"}))


def test_the_secret_has_the_documented_form_and_is_not_printed(member: Principal) -> None:
    issued = _issue(member)
    assert issued.secret.startswith("sk-purser-")
    assert len(issued.secret) >= 53
    assert issued.prefix == issued.secret[:14]
    assert issued.secret not in repr(issued)


def test_only_the_hash_of_a_key_is_stored(member: Principal) -> None:
    issued = _issue(member)
    rest = issued.secret[14:]
    with db.transaction(SYSTEM) as session:
        hashed = session.execute(
            text("select key_hash from app.api_key_hashes where key_id = :id"),
            {"id": issued.key_id},
        ).scalar_one()
        written = session.execute(
            text(
                "select string_agg(r, ' ') from (select k::text as r from app.api_keys k"
                " union all select a::text from app.audit_log a) as rows"
            )
        ).scalar_one()
    assert bytes(hashed) == token_hash(issued.secret)
    assert rest not in written


def test_the_list_shows_my_keys_with_budget_and_ending(member: Principal, admin: Principal) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=1)
    issued = _issue(member, budget_nusd=5_000_000_000, expires_at=expires_at)
    other = _issue(admin)
    with db.transaction(member) as session:
        (mine,) = keys.mine(session, member)
    assert (mine.key_id, mine.name, mine.prefix) == (issued.key_id, "laptop", issued.prefix)
    assert (mine.budget_nusd, mine.expires_at, mine.revoked_at) == (5_000_000_000, expires_at, None)
    with db.transaction(admin) as session:
        assert {k.key_id for k in keys.of_tenant(session, admin, admin.tenant_id)} == {
            issued.key_id,
            other.key_id,
        }


@pytest.mark.parametrize("role", [Role.MEMBER, Role.FINANCE])
def test_only_admins_list_the_tenants_keys(tenant_id: UUID, role: Role) -> None:
    who = a_browser(tenant_id, role).principal
    with pytest.raises(errors.Forbidden), db.transaction(who) as session:
        keys.of_tenant(session, who, tenant_id)


ENDINGS = {
    "expired": "update app.api_keys set expires_at = now() where key_id = :key",
    "person disabled": "update app.users set status = 'disabled' where user_id = :user",
    "membership ended": "update app.memberships set status = 'disabled' where user_id = :user",
    "tenant suspended": "update app.tenants set status = 'suspended' where tenant_id = :tenant",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_ended_is_dead_at_the_next_call(member: Principal, ending: str) -> None:
    issued = _issue(member)
    assert keys.who(issued.secret) is not None
    every = {"key": issued.key_id, "user": member.user_id, "tenant": member.tenant_id}
    change(ENDINGS[ending], **{k: v for k, v in every.items() if f":{k}" in ENDINGS[ending]})
    assert keys.who(issued.secret) is None


def test_the_owner_revokes_a_key_once(member: Principal) -> None:
    issued = _issue(member)
    _revoke(member, issued.key_id)
    assert keys.who(issued.secret) is None
    with pytest.raises(errors.NotFound):
        _revoke(member, issued.key_id)


def test_an_admin_and_an_operator_revoke_others_keys(member: Principal, admin: Principal) -> None:
    for who in (admin, SYSTEM):
        issued = _issue(member)
        _revoke(who, issued.key_id)
        assert keys.who(issued.secret) is None


def test_a_foreign_key_looks_like_a_missing_one(member: Principal, admin: Principal) -> None:
    stranger = a_browser(a_tenant("Other"), Role.ADMIN).principal
    colleagues, strangers = _issue(admin), _issue(stranger)
    answers = []
    for key_id in (colleagues.key_id, strangers.key_id, uuid4()):
        with pytest.raises(errors.NotFound) as refusal:
            _revoke(member, key_id)
        answers.append((refusal.value.message, refusal.value.param))
    assert len(set(answers)) == 1
    with pytest.raises(errors.NotFound):
        _revoke(admin, strangers.key_id)
    assert keys.who(colleagues.secret) is not None
    assert keys.who(strangers.secret) is not None


def test_issue_and_revoke_are_audited_once_each(member: Principal) -> None:
    issued = _issue(member)
    _revoke(member, issued.key_id)
    actor, tenant = f"user:{member.user_id}", member.tenant_id
    assert audit_rows(f"key:{issued.key_id}") == [
        ("key.issue", "done", actor, tenant),
        ("key.revoke", "done", actor, tenant),
    ]


def test_the_audit_row_goes_with_a_rolled_back_issue(member: Principal) -> None:
    with db.transaction(member) as session:
        issued = keys.issue(session, member, "laptop")
        session.rollback()
    assert keys.who(issued.secret) is None
    assert audit_rows(f"key:{issued.key_id}") == []


def test_an_operator_issues_for_a_named_member(member: Principal) -> None:
    issued = _issue(SYSTEM, tenant_id=member.tenant_id, user_id=member.user_id)
    who = keys.who(issued.secret)
    assert who is not None
    assert (who.tenant_id, who.user_id) == (member.tenant_id, member.user_id)
    with pytest.raises(errors.NotFound):
        _issue(SYSTEM, tenant_id=member.tenant_id, user_id=uuid4())
    with pytest.raises(errors.BadInput):
        _issue(SYSTEM, tenant_id=member.tenant_id)


def test_nobody_issues_in_anothers_name_and_the_attempt_is_audited(
    member: Principal, admin: Principal
) -> None:
    for terms in ({"user_id": member.user_id}, {"tenant_id": a_tenant("Other")}):
        with pytest.raises(errors.Forbidden):
            _issue(admin, **terms)
    rows = audit_rows(f"user:{member.user_id}")
    assert ("key.issue", "denied", f"user:{admin.user_id}", admin.tenant_id) in rows


def test_an_api_key_makes_and_revokes_no_keys(member: Principal) -> None:
    issued = _issue(member)
    key = keys.who(issued.secret)
    assert key is not None
    with pytest.raises(errors.Forbidden):
        _issue(key)
    with pytest.raises(errors.Forbidden):
        _revoke(key, issued.key_id)
    assert ("key.revoke", "denied", f"key:{issued.key_id}", member.tenant_id) in audit_rows(
        f"key:{issued.key_id}"
    )


def test_fifty_live_keys_are_the_most(member: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LIVE_KEYS_MAX", 2)
    first, _ = _issue(member), _issue(member)
    with pytest.raises(errors.Conflict):
        _issue(member)
    _revoke(member, first.key_id)
    _issue(member)


def test_the_real_maximum_is_fifty() -> None:
    assert keys.LIVE_KEYS_MAX == 50


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"scopes": set()}, "scopes"),
        ({"scopes": {"chat", "root"}}, "scopes"),
        ({"budget_nusd": -1}, "budget"),
        ({"budget_nusd": 2**63}, "budget"),
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "expiry"),
        ({"expires_at": datetime(2999, 1, 1)}, "expiry"),  # noqa: DTZ001 - no zone is the case
    ],
)
def test_bad_terms_are_refused_and_store_nothing(
    member: Principal, terms: dict[str, object], param: str
) -> None:
    with pytest.raises(errors.BadInput) as refusal:
        _issue(member, **terms)
    assert refusal.value.param == param
    with db.transaction(member) as session:
        assert keys.mine(session, member) == ()


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "line\nbreak", "\ud800", "x" * 101])
def test_bad_names_are_refused(member: Principal, name: str) -> None:
    with pytest.raises(errors.BadInput), db.transaction(member) as session:
        keys.issue(session, member, name)


@pytest.mark.parametrize(
    "secret",
    ["", "sk-purser-", "sk-purser-'; drop table app.users --", "sk-purser-\0", "sk-purser-\ud800",
     "sk-purser-" + "x" * 1_000_000, "sk-other-abc"],
)  # fmt: skip
def test_a_made_up_key_is_nobodys(secret: str) -> None:
    assert keys.who(secret) is None


def test_a_prefix_of_a_key_is_nobodys(member: Principal) -> None:
    secret = _issue(member).secret
    assert keys.who(secret[:-1]) is None
    assert keys.who(secret + "x") is None


def test_disabling_a_person_revokes_their_keys(member: Principal) -> None:
    issued = _issue(member)
    with db.transaction(SYSTEM) as session:
        tenants.disable_user(session, SYSTEM, member.user_id)
        tenants.enable_user(session, SYSTEM, member.user_id)
    assert keys.who(issued.secret) is None
