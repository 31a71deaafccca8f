"""The audit log: who did what to what, allowed or denied. Append-only; never holds a secret.

A done act's row is written in the act's own transaction; a denied one in a transaction of its own,
because the refusal rolls the act back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, errors
from core.identity.access import (
    Actor,
    Operator,
    Principal,
    Role,
    require,
    require_operator,
    require_person,
)

Outcome: TypeAlias = Literal["done", "denied", "failed"]
Facts: TypeAlias = Mapping[str, object]
_PAGE_MAX = 1000
_WORDS_LENGTH_MAX = 100


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
    words: str = "",
    subjects: Sequence[UUID] = (),
    outcome: Outcome | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> tuple[Entry, ...]:
    """The newest entries first; page on with the last `audit_id`.

    A tenant's admin gets the tenant's, an operator those of one tenant or (None) all. `words` is part
    of an action, object or actor, which may also name one of `subjects`: an e-mail is never in the
    log. Raises errors.Forbidden for others.
    """
    relation = _OF_ANY
    if isinstance(who, Principal):
        require_person(require(who, Role.ADMIN))
        relation = _OF_TENANT
    else:
        require_operator(who)
    sought = re.sub(r"([\\%_])", r"\\\1", words.strip()[:_WORDS_LENGTH_MAX])
    rows = session.execute(
        text(_RECENT.format(relation=relation)),
        {
            "tenant": who.bound_tenant_id or tenant_id, "pattern": f"%{sought}%" if sought else None,
            "subjects": [str(subject) for subject in subjects], "outcome": outcome,
            "before": before_id, "limit": min(max(limit, 1), _PAGE_MAX),
        },
    )  # fmt: skip
    return tuple(Entry(*row) for row in rows)


_OF_ANY = "app.audit_log"
_OF_TENANT = "verbs.audit_of(:tenant, '-infinity', 'infinity')"
_RECENT = """
select l.audit_id, l.occurred_at, l.actor, l.of_tenant, l.action, l.object, l.outcome, l.before, l.after
from {relation} l
where (cast(:tenant as uuid) is null or l.of_tenant = :tenant)
  and (cast(:outcome as text) is null or l.outcome = :outcome)
  and (cast(:before as bigint) is null or l.audit_id < :before)
  and (cast(:pattern as text) is null or l.action ilike :pattern or l.object ilike :pattern
    or l.actor ilike :pattern or split_part(l.actor, ':', 2) = any(:subjects)
    or split_part(l.object, ':', 2) = any(:subjects))
order by l.audit_id desc limit :limit
"""


def name_of(who: Actor) -> str:
    """How the log names an actor: by kind and id, never by e-mail (which erasure must reach)."""
    if isinstance(who, Principal):
        return f"key:{who.key_id}" if who.key_id else f"user:{who.user_id}"
    if isinstance(who, Operator):
        return f"operator:{who.user_id}"
    return f"system:{who.reason}"


def _json(facts: Facts | None) -> str | None:
    return None if facts is None else json.dumps(dict(facts), default=str)
