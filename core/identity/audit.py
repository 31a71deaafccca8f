"""The audit log: who did what to what, allowed or denied. Append-only; never holds a secret.

A done act's row is written in the act's own transaction; a denied one in a transaction of its own,
because the refusal rolls the act back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import db, errors
from core.identity.access import Actor, Operator, Principal, require_operator
from core.identity.tables import AuditEntry

Outcome: TypeAlias = Literal["done", "denied", "failed"]
Facts: TypeAlias = Mapping[str, object]
_PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the log, as operators read it."""

    audit_id: int
    occurred_at: datetime
    actor: str
    tenant_id: UUID | None
    action: str
    object: str
    outcome: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def record(
    session: Session,
    actor: Actor | str,
    action: str,
    object: str,  # noqa: A002 - the column's and the reporting view's word
    outcome: Outcome = "done",
    tenant_id: UUID | None = None,
    before: Facts | None = None,
    after: Facts | None = None,
) -> None:
    """Append one row in the caller's transaction. `object` is 'kind:id'.

    In a tenant's own transaction the row belongs to that tenant, whatever `tenant_id` says.
    """
    named = actor if isinstance(actor, str) else name_of(actor)
    session.execute(
        text(
            "select verbs.append_audit(:actor, :tenant, :action, :object, :outcome,"
            " cast(:before as jsonb), cast(:after as jsonb))"
        ),
        {
            "actor": named, "tenant": tenant_id, "action": action, "object": object,
            "outcome": outcome, "before": _json(before), "after": _json(after),
        },
    )  # fmt: skip


@contextmanager
def denials(who: Actor | None, action: str, object: str) -> Iterator[None]:  # noqa: A002 - as above
    """Record a Forbidden raised within as a denied attempt of `who`, then let it through."""
    try:
        yield
    except errors.Forbidden:
        if who is not None:
            with db.transaction(who) as session:
                record(session, who, action, object, "denied", tenant_id=who.bound_tenant_id)
        raise


def recent(
    session: Session,
    who: Actor,
    *,
    tenant_id: UUID | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> tuple[Entry, ...]:
    """The newest entries first, of one tenant or all; page on with the last `audit_id`."""
    require_operator(who)
    query = select(AuditEntry).order_by(AuditEntry.audit_id.desc())
    if tenant_id is not None:
        query = query.where(AuditEntry.of_tenant == tenant_id)
    if before_id is not None:
        query = query.where(AuditEntry.audit_id < before_id)
    rows = session.scalars(query.limit(min(max(limit, 1), _PAGE_MAX)))
    return tuple(
        Entry(r.audit_id, r.occurred_at, r.actor, r.of_tenant, r.action, r.object, r.outcome,
              r.before, r.after)
        for r in rows
    )  # fmt: skip


def name_of(who: Actor) -> str:
    """How the log names an actor: by kind and id, never by e-mail (which erasure must reach)."""
    if isinstance(who, Principal):
        return f"key:{who.key_id}" if who.key_id else f"user:{who.user_id}"
    if isinstance(who, Operator):
        return f"operator:{who.user_id}"
    return f"system:{who.reason}"


def _json(facts: Facts | None) -> str | None:
    return None if facts is None else json.dumps(dict(facts), default=str)
