"""Signed-in browsers: a one-time ticket becomes an opaque session, looked up anew on every run.
Keeps only hashes of tokens, and never tells a foreign session from a missing one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, errors
from core.crypto import new_token, token_hash
from core.identity import audit, names
from core.identity.access import Operator, Role, SignedIn, principal_of

SESSION_S = 12 * 3600  # the cookie's Max-Age; verbs.redeem_ticket ends the row after as long
IDLE_S = 4 * 3600  # unused for so long it has ended; verbs.idle_limit says the same
_TOKEN_LENGTH_MAX = 100
_ADDRESS_LENGTH_MAX = 64
_USER_AGENT_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class OpenSession:
    """One signed-in browser, as its owner sees it."""

    session_id: UUID
    door: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None
    is_this: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A tenant that a person may work in."""

    tenant_id: UUID
    name: str
    role: Role


def issue_ticket(user_id: UUID, door: str = "password", tenant_id: UUID | None = None) -> str:
    """A ticket for `redeem`, good once within thirty seconds, to work in the tenant (None: the
    person's first). Raises errors.NotFound for nobody."""
    ticket = new_token()
    row = _call(
        "select verbs.issue_ticket(%s, %s, %s, %s) as issued",
        token_hash(ticket), user_id, door, tenant_id,
    )  # fmt: skip
    if not row["issued"]:
        raise errors.NotFound("There is no such person.")
    return ticket


def redeem(ticket: str, address: str | None, user_agent: str | None) -> str | None:
    """Exchange a ticket for a new session's token; None when it is unknown, used or too old."""
    if not _plausible(ticket):
        return None
    token = new_token()
    row = _call(
        "select verbs.redeem_ticket(%s, %s, %s, %s, %s) as opened",
        token_hash(ticket), db.new_id(), token_hash(token),
        names.printable(address or "", length_max=_ADDRESS_LENGTH_MAX),
        names.printable(user_agent or "", length_max=_USER_AGENT_LENGTH_MAX),
    )  # fmt: skip
    return token if row["opened"] else None


def who(token: str | None) -> SignedIn | None:
    """Who is signed in with this token now, in one statement; None for anything that has ended."""
    if token is None or not _plausible(token):
        return None
    row = db.current().call("select * from verbs.who(%s)", (token_hash(token),))
    return _signed_in(row) if row else None


def still(token: str | None) -> SignedIn | None:
    """`who`, for a page that looks by itself: it does not count as a use of the session."""
    if token is None or not _plausible(token):
        return None
    row = db.current().call(
        "select (found).* from verbs.who_are(%s::bytea[])", ([token_hash(token)],)
    )
    return _signed_in(row) if row else None


def all_still(token_hashes: Sequence[bytes]) -> dict[bytes, SignedIn]:
    """Whoever is signed in with each of these tokens now; those that have ended are left out."""
    row = _call(
        "select coalesce(jsonb_agg(jsonb_build_object('hash', encode(token_hash, 'hex'))"
        " || to_jsonb(found)), '[]') as alive from verbs.who_are(%s::bytea[])",
        list(token_hashes),
    )  # fmt: skip
    return {bytes.fromhex(each["hash"]): _signed_in(_with_ids(each)) for each in row["alive"]}


def end(token: str | None) -> bool:
    """Sign out: the token is dead at once. False when it already was."""
    if token is None or not _plausible(token):
        return False
    return bool(_call("select verbs.end_session(%s) as ended", token_hash(token))["ended"])


def mine(session: Session, signed_in: SignedIn) -> tuple[OpenSession, ...]:
    """The person's live sessions, the most recently seen first."""
    rows = session.execute(
        text("select * from verbs.sessions_of(:user_id)"), {"user_id": signed_in.user_id}
    ).mappings()
    this = signed_in.session_id
    return tuple(OpenSession(**row, is_this=row["session_id"] == this) for row in rows)


def end_one(session: Session, signed_in: SignedIn, session_id: UUID) -> None:
    """End one of the person's sessions. Raises errors.NotFound for a missing or foreign one."""
    if not _end(session, signed_in, only=session_id, but=None):
        raise errors.NotFound("There is no such session.")
    audit.record(session, signed_in.who, "session.revoke", f"session:{session_id}")


def end_others(session: Session, signed_in: SignedIn) -> int:
    """End all of the person's sessions but this one; returns how many ended."""
    ended = _end(session, signed_in, only=None, but=signed_in.session_id)
    audit.record(
        session, signed_in.who, "session.revoke_others", f"user:{signed_in.user_id}",
        after={"ended": ended},
    )  # fmt: skip
    return ended


def places(session: Session, signed_in: SignedIn) -> tuple[Place, ...]:
    """The tenants this person may choose, the default first."""
    rows = session.execute(
        text("select * from verbs.tenants_of(:user_id)"), {"user_id": signed_in.user_id}
    )
    return tuple(Place(row.tenant_id, row.name, Role(row.role)) for row in rows)


def choose_tenant(session: Session, signed_in: SignedIn, tenant_id: UUID) -> None:
    """Work in another of one's tenants from the next run on. Raises errors.NotFound for others."""
    chosen = session.execute(
        text("select verbs.choose_tenant(:user_id, :session_id, :tenant_id)"),
        {"user_id": signed_in.user_id, "session_id": signed_in.session_id, "tenant_id": tenant_id},
    ).scalar_one()
    if not chosen:
        raise errors.NotFound("There is no such tenant.")


def _end(session: Session, signed_in: SignedIn, *, only: UUID | None, but: UUID | None) -> int:
    ended: int = session.execute(
        text("select verbs.end_sessions_of(:user_id, :only, :but)"),
        {"user_id": signed_in.user_id, "only": only, "but": but},
    ).scalar_one()
    return ended


def _signed_in(row: Mapping[str, Any]) -> SignedIn:
    """A row of the SQL type `identity` as who it is."""
    operator = Operator(row["user_id"], row["email"], row["name"])
    return SignedIn(
        principal=principal_of(row) if row["tenant_id"] else None,
        operator=operator if row["is_operator"] else None,
        session_id=row["session_id"],
    )


def _with_ids(said: Mapping[str, Any]) -> dict[str, Any]:
    """A row that came as JSON, with its ids as such."""
    ids = ("session_id", "user_id", "tenant_id", "key_id")
    return {**said, **{name: UUID(said[name]) for name in ids if said[name]}}


def _call(statement: str, *arguments: object) -> dict[str, Any]:
    """One statement outside any transaction: before sign-in there is nobody to be bound to."""
    row = db.current().call(statement, arguments)
    if row is None:
        raise errors.Unavailable("The database did not answer.")
    return row


def _plausible(token: str) -> bool:
    return 0 < len(token) <= _TOKEN_LENGTH_MAX
