"""People for the identity tests: tenants, members, browsers, made through the product's verbs."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import text

from core import db
from core.db import System
from core.identity import members, passwords, sessions, tenants
from core.identity.access import Principal, Role, SignedIn

SYSTEM = System("tests")
PASSWORD = "correct horse 7"
ADDRESS = "192.0.2.7"


@dataclass(frozen=True, slots=True)
class Browser:
    """A signed-in browser: its cookie's token, and who it was when it signed in."""

    token: str
    signed_in: SignedIn

    @property
    def principal(self) -> Principal:
        assert self.signed_in.principal is not None
        return self.signed_in.principal


def an_email() -> str:
    return f"p{uuid4().hex[:12]}@example.com"


def an_address() -> str:
    """An address no other test signs in from, so that the lock of one is not another's."""
    return f"test-{uuid4().hex[:12]}"


def a_tenant(name: str = "Acme", **terms: str) -> UUID:
    with db.transaction(SYSTEM) as session:
        return tenants.create_tenant(session, SYSTEM, name, **terms)


def a_user(email: str | None = None, *, password: str | None = None, rounds: int = 4) -> UUID:
    hashed = passwords.hash_password(password, rounds=rounds) if password else None
    with db.transaction(SYSTEM) as session:
        return tenants.create_user(
            session, SYSTEM, email or an_email(), name="Ada", password_hash=hashed
        )


def join(tenant_id: UUID, user_id: UUID, role: Role = Role.MEMBER) -> None:
    with db.transaction(SYSTEM) as session:
        members.add(session, SYSTEM, tenant_id, user_id, role, confirmed=True)


def sign_in(user_id: UUID) -> Browser:
    token = sessions.redeem(sessions.issue_ticket(user_id), ADDRESS, "pytest")
    assert token is not None
    signed_in = sessions.who(token)
    assert signed_in is not None
    return Browser(token, signed_in)


def a_browser(tenant_id: UUID, role: Role = Role.MEMBER) -> Browser:
    user_id = a_user()
    join(tenant_id, user_id, role)
    return sign_in(user_id)


def change(statement: str, **arguments: object) -> None:
    """Turn a row by hand where only the clock could."""
    with db.transaction(SYSTEM) as session:
        session.execute(text(statement), arguments)


def audit_rows(object_: str) -> list[tuple[str, str, str, UUID | None]]:
    """(action, outcome, actor, tenant) of every row about one object, oldest first."""
    with db.transaction(SYSTEM) as session:
        rows = session.execute(
            text(
                "select action, outcome, actor, of_tenant from app.audit_log"
                " where object = :object order by audit_id"
            ),
            {"object": object_},
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]
