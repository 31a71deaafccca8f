"""Where Stripe's books and ours say different things: one row per object, kept until it is gone.

It decides nothing and books nothing; the passes that compare do, and say here what they found.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.billing.stripe_tables import StripeDifference
from core.identity.access import Actor, require_operator

Kind: TypeAlias = Literal["session", "fulfilment", "refund", "subscription", "movement", "payout"]
_PAGE_MAX = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """What we have, what Stripe has, and why as far as it is known; `stripe_id` names the object."""

    kind: Kind
    stripe_id: str
    tenant_id: UUID | None
    ours: str
    theirs: str
    cause: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A difference as operators see it, with when it was found, last seen and gone."""

    difference: Difference
    found_at: datetime
    seen_at: datetime
    resolved_at: datetime | None


def note(session: Session, found: Difference) -> None:
    """Keep a difference; one that was noted before is seen again, and open again."""
    values = {
        "of_tenant": found.tenant_id, "ours": found.ours, "theirs": found.theirs,
        "cause": found.cause,
    }  # fmt: skip
    session.execute(
        insert(StripeDifference)
        .values(kind=found.kind, stripe_id=found.stripe_id, **values)
        .on_conflict_do_update(
            index_elements=["kind", "stripe_id"],
            set_=values | {"seen_at": func.now(), "resolved_at": None},
        )
    )


def resolve(session: Session, kind: Kind, stripe_ids: Collection[str]) -> None:
    """These objects were compared and agree now."""
    session.execute(
        update(StripeDifference)
        .where(
            StripeDifference.kind == kind, StripeDifference.stripe_id.in_(stripe_ids),
            StripeDifference.resolved_at.is_(None),
        )
        .values(resolved_at=func.now())
    )  # fmt: skip


def open_ids(session: Session, kind: Kind) -> frozenset[str]:
    """The objects that differed when last compared, however old they are."""
    query = select(StripeDifference.stripe_id).where(
        StripeDifference.kind == kind, StripeDifference.resolved_at.is_(None)
    )
    return frozenset(session.scalars(query))


def listed(
    session: Session, who: Actor, *, with_resolved: bool = False, limit: int = 200
) -> tuple[Noted, ...]:
    """The differences there are, newest first, for operators."""
    require_operator(who)
    query = select(StripeDifference).order_by(StripeDifference.found_at.desc())
    if not with_resolved:
        query = query.where(StripeDifference.resolved_at.is_(None))
    rows = session.scalars(query.limit(min(max(limit, 1), _PAGE_MAX)))
    return tuple(
        Noted(
            Difference(r.kind, r.stripe_id, r.of_tenant, r.ours, r.theirs, r.cause),  # type: ignore[arg-type]
            r.found_at, r.seen_at, r.resolved_at,
        )
        for r in rows
    )  # fmt: skip
