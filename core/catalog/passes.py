"""What each pass over a provider's list changed, model by model: kept when it ends, read by operators.

It decides nothing about a model, and copies no amount: what something cost stands in `prices`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, TypeAlias, cast, get_args

from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.orm import Session, aliased

from core.catalog.tables import CatalogChange, CatalogSync, Model, Price
from core.catalog.terms import Terms, readable
from core.errors import NotFound
from core.identity.access import Actor, require_operator

Kind: TypeAlias = Literal[
    "would_retire", "retired", "held", "repriced", "priced", "returned", "added"
]
Decision: TypeAlias = Literal["held", "accepted", "rejected"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What can come of a model, what an operator should look at first."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a pass made of one model, by the ids of the prices before and after.

    'held': the price waits, the one before goes on. 'priced': the first price of a model that was
    known without one. 'would_retire': the list was held, the model stays in the offer.
    """

    model_id: str
    kind: Kind
    before_price_id: int | None = None
    price_id: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """The same for people. Terms are None where there was no price, or none that can be read.

    `decision` is what has become of a price that was held ('held': it still waits), None for
    everything else; `reason` says why it was held, and why it was turned down.
    """

    model_id: str
    model_name: str
    kind: Kind
    before: Terms | None
    after: Terms | None
    decision: Decision | None
    reason: str


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass of the past: when, from where, and how many models came of it in which way.

    `changes` is how many lines `changes` has of it; passes older than these have only counts.
    """

    sync_id: int
    provider: str
    source: str
    synced_at: datetime
    seen: int
    added: int
    repriced: int
    held: int
    retired: int
    outcome: str
    changes: int


def record(session: Session, row: CatalogSync, found: Iterable[Found]) -> None:
    """Keep a pass with all that it found, in the transaction that changed the models.

    The first list of a provider is kept like any other, each of its models as added. A list that
    stays held is kept again with each pass. A pass that changed nothing has no lines.
    """
    session.add(row)
    session.flush()  # gives the pass its id
    lines = [{"sync_id": row.sync_id, **asdict(each)} for each in found]
    if lines:
        session.execute(insert(CatalogChange), lines)


def history(
    session: Session, who: Actor, *, limit: int, only_changed: bool = False
) -> tuple[Pass, ...]:
    """The latest passes, the newest first, for operators; `only_changed` leaves out idle ones."""
    require_operator(who)
    query = select(CatalogSync, _lines()).order_by(CatalogSync.sync_id.desc()).limit(limit)
    if only_changed:
        query = query.where(
            select(CatalogChange.sync_id)
            .where(CatalogChange.sync_id == CatalogSync.sync_id)
            .exists()
        )
    return tuple(
        Pass(
            row.sync_id, row.provider, row.source, row.synced_at, row.seen, row.added, row.repriced,
            row.held, row.retired, row.outcome, lines,
        )
        for row, lines in session.execute(query)
    )  # fmt: skip


def changes(session: Session, who: Actor, sync_id: int) -> tuple[Change, ...]:
    """What one pass changed, in the order of KINDS and by name, for operators. Raises NotFound."""
    require_operator(who)
    if session.get(CatalogSync, sync_id) is None:
        raise NotFound("There is no such pass.")
    before, after = aliased(Price), aliased(Price)
    rows = session.execute(
        select(CatalogChange, Model.name, before.terms, after.terms, after.state, after.reason)
        .join(Model, Model.model_id == CatalogChange.model_id)
        .outerjoin(before, before.price_id == CatalogChange.before_price_id)
        .outerjoin(after, after.price_id == CatalogChange.price_id)
        .where(CatalogChange.sync_id == sync_id)
    )
    found = (
        Change(
            row.model_id, name, cast("Kind", row.kind), readable(terms_before), readable(terms_after),
            state if row.kind == "held" else None, reason if row.kind == "held" else "",
        )
        for row, name, terms_before, terms_after, state, reason in rows
    )  # fmt: skip
    return tuple(sorted(found, key=_order))


def _lines() -> ColumnElement[int]:
    """How many lines are kept of a pass."""
    mine = CatalogChange.sync_id == CatalogSync.sync_id
    return select(func.count()).select_from(CatalogChange).where(mine).scalar_subquery()


def _order(change: Change) -> tuple[int, str, str]:
    return KINDS.index(change.kind), change.model_name.casefold(), change.model_id
