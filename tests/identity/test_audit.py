"""core/identity/audit.py, and what the database roles may do to the closed tables"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from core import db, errors
from core.db import Database
from core.identity import audit, keys
from core.identity.access import Operator, Principal, Role
from tests.factories import make_place
from tests.identity.people import SYSTEM, a_browser, a_tenant, audit_rows

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def principal() -> Principal:
    return a_browser(a_tenant(), Role.ADMIN).principal


def _object() -> str:
    return f"test:{uuid4()}"


def test_the_row_has_who_what_and_both_sides(principal: Principal) -> None:
    about, at = _object(), datetime.now(UTC)
    with db.transaction(principal) as session:
        audit.record(session, principal, "test.act", about, before={"at": at},
                     after={"amount": Decimal("1.50")})  # fmt: skip
    with db.transaction(SYSTEM) as session:
        entry = audit.recent(session, SYSTEM, tenant_id=principal.tenant_id)[0]
    assert (entry.actor, entry.action, entry.object, entry.outcome) == (
        f"user:{principal.user_id}", "test.act", about, "done",
    )  # fmt: skip
    assert (entry.before, entry.after) == ({"at": str(at)}, {"amount": "1.50"})


def test_the_web_role_cannot_write_into_another_tenants_log(principal: Principal) -> None:
    about = _object()
    with db.transaction(principal) as session:
        audit.record(session, principal, "test.act", about, tenant_id=a_tenant("Other"))
    assert [row[3] for row in audit_rows(about)] == [principal.tenant_id]


def test_the_jobs_role_names_the_tenant(principal: Principal) -> None:
    about = _object()
    with db.transaction(SYSTEM) as session:
        audit.record(session, SYSTEM, "test.act", about, tenant_id=principal.tenant_id)
    assert audit_rows(about) == [("test.act", "done", "system:tests", principal.tenant_id)]


def test_a_denied_act_leaves_its_row_although_it_was_rolled_back(principal: Principal) -> None:
    about = _object()
    with (
        pytest.raises(errors.Forbidden),
        db.transaction(principal),
        audit.denials(principal, "test.act", about),
    ):
        raise errors.Forbidden("no")
    assert audit_rows(about) == [
        ("test.act", "denied", f"user:{principal.user_id}", principal.tenant_id)
    ]


def test_another_refusal_is_no_denial(principal: Principal) -> None:
    about = _object()
    with pytest.raises(errors.NotFound), audit.denials(principal, "test.act", about):
        raise errors.NotFound("no")
    assert audit_rows(about) == []


def test_operators_page_through_the_log(principal: Principal) -> None:
    abouts = [_object() for _ in range(3)]
    operator = Operator(uuid4(), "o@example.com", "Otto")
    with db.transaction(operator) as session:
        for about in abouts:
            audit.record(session, operator, "test.act", about, tenant_id=principal.tenant_id)
        first = audit.recent(session, operator, tenant_id=principal.tenant_id, limit=2)
        rest = audit.recent(session, operator, tenant_id=principal.tenant_id,
                            before_id=first[-1].audit_id, limit=1)  # fmt: skip
    assert [entry.object for entry in (*first, *rest)] == abouts[::-1]


@pytest.mark.parametrize("who", ["web", "jobs"])
@pytest.mark.parametrize("change", ["update app.audit_log set actor = 'x'",
                                    "delete from app.audit_log",
                                    "truncate app.audit_log"])  # fmt: skip
def test_no_role_changes_the_log(principal: Principal, who: str, change: str) -> None:
    actor = principal if who == "web" else SYSTEM
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        db.transaction(actor) as session,
    ):
        session.execute(text(change))


@pytest.mark.parametrize("table", ["users", "sessions", "tickets", "operators", "api_key_hashes",
                                   "sign_in_failures", "audit_log"])  # fmt: skip
@pytest.mark.parametrize("act", ["select from app.{0}", "delete from app.{0}",
                                 "insert into app.{0} default values"])  # fmt: skip
def test_the_web_role_reads_and_writes_no_closed_table(
    principal: Principal, table: str, act: str
) -> None:
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        db.transaction(principal) as session,
    ):
        session.execute(text(act.format(table)))


@pytest.mark.parametrize(
    "table", ["tenants", "memberships", "api_keys", "limit_overrides", "labels"]
)
def test_the_web_role_writes_no_open_table(principal: Principal, table: str) -> None:
    for act in ("insert into app.{0} default values", "delete from app.{0}"):
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            db.transaction(principal) as session,
        ):
            session.execute(text(act.format(table)))


def test_the_web_role_cannot_act_in_a_tenant_it_only_names(principal: Principal) -> None:
    stranger = a_browser(a_tenant("Other")).principal
    with db.transaction(stranger) as session:
        foreign = keys.issue(session, stranger, "laptop")
    named = {"tenant": stranger.tenant_id, "user": stranger.user_id, "key": foreign.key_id}
    with db.transaction(principal) as session:
        issued = session.execute(
            text("select verbs.issue_key(:tenant, :user, gen_random_uuid(), 'x', 'n', 'p', '{}',"
                 " null, null, 50)"),
            {k: v for k, v in named.items() if k != "key"},
        ).scalar_one()  # fmt: skip
        revoked = session.execute(
            text("select verbs.revoke_key(:tenant, :key, null)"),
            {k: v for k, v in named.items() if k != "user"},
        ).scalar_one()
    assert (issued, revoked) == ("no_member", None)


def test_without_a_tenant_the_verbs_find_nothing(principal: Principal, database: Database) -> None:
    with db.transaction(principal) as session:
        issued = keys.issue(session, principal, "laptop")
    statement = "select verbs.revoke_key(%s, %s, null) as revoked_of"
    row = database.call(statement, (principal.tenant_id, issued.key_id))
    assert row == {"revoked_of": None}
    assert database.call("select count(*) as n from verbs.members()", ()) == {"n": 0}
    assert keys.who(issued.secret) is not None


def test_only_the_two_roles_may_call_the_verbs_of_identity() -> None:
    own = re.findall(r"create function (\w+)\(", (ROOT / "core/identity/sessions.sql").read_text())
    with db.transaction(SYSTEM) as session:
        callers = session.execute(
            text("select proname, has_function_privilege('app_rw', oid, 'execute'),"
                 " has_function_privilege('purser_reporting', oid, 'execute')"
                 " from pg_proc where pronamespace = 'verbs'::regnamespace"
                 " and proname = any(:own)"),
            {"own": own},
        ).all()  # fmt: skip
    assert {row.proname for row in callers} == set(own) >= {"who", "faded"}
    assert [tuple(row) for row in callers if row.proname == "faded"] == [("faded", False, False)]
    assert not any(row[2] for row in callers)


def test_definer_verbs_pin_their_search_path() -> None:
    with db.transaction(SYSTEM) as session:
        loose = list(session.scalars(
            text("select proname from pg_proc where pronamespace = 'verbs'::regnamespace"
                 " and prosecdef and not coalesce(proconfig::text like '%search_path=app, verbs,"
                 " pg_temp%', false)")
        ))  # fmt: skip
    assert loose == []


def _admin() -> Principal:
    return replace(make_place(role="admin").who, session_id=uuid4())


def test_a_tenants_admin_reads_the_tenants_log_and_no_other() -> None:
    admin, stranger = _admin(), _admin()
    about = _object()
    with db.transaction(SYSTEM) as session:
        audit.record(session, SYSTEM, "test.act", about, tenant_id=admin.tenant_id)
        audit.record(session, SYSTEM, "test.act", about, tenant_id=stranger.tenant_id)
        audit.record(session, SYSTEM, "test.act", about)
    with db.transaction(admin) as session:
        found = audit.recent(session, admin, tenant_id=stranger.tenant_id, words=about)
    assert [(entry.tenant_id, entry.object) for entry in found] == [(admin.tenant_id, about)]


def test_the_log_of_a_tenant_does_not_tell_its_admin_the_markup() -> None:
    admin, about = _admin(), _object()
    with db.transaction(SYSTEM) as session:
        audit.record(
            session, SYSTEM, "test.act", about, tenant_id=admin.tenant_id,
            before={"markup": "0.1", "plan": "pro"}, after={"markup": "0.2", "plan": "free"},
        )  # fmt: skip
    with db.transaction(admin) as session:
        (entry,) = audit.recent(session, admin, words=about)
    assert (entry.before, entry.after) == ({"plan": "pro"}, {"plan": "free"})


@pytest.mark.parametrize("change", [{"role": Role.MEMBER}, {"role": Role.FINANCE}, {"key_id": 1}])
def test_others_of_a_tenant_do_not_read_the_log(change: dict[str, Any]) -> None:
    who = replace(_admin(), **change)
    with pytest.raises(errors.Forbidden), db.transaction(who) as session:
        audit.recent(session, who)


def test_the_log_is_searched_by_act_object_person_and_outcome() -> None:
    about, person = _object(), uuid4()
    with db.transaction(SYSTEM) as session:
        audit.record(session, f"user:{person}", "test.100%_done", about)
        audit.record(session, SYSTEM, "test.other", about, "denied")

    def found(**asked: Any) -> set[str]:
        with db.transaction(SYSTEM) as session:
            rows = audit.recent(session, SYSTEM, **asked)
        return {entry.action for entry in rows if entry.object == about}

    assert found(words="100%_D") == {"test.100%_done"}  # signs of a pattern are only text
    assert found(words=about.upper()) == {"test.100%_done", "test.other"}
    assert found(words=about, outcome="denied") == {"test.other"}
    assert found(words="nobody", subjects=[person]) == {"test.100%_done"}
