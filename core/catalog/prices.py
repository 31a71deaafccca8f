"""The dated prices of the catalogue: adds a row when one changed, holds what looks wrong.

No price is overwritten. A held price applies to nothing until an operator agrees to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from core.catalog.listing import Listing, is_free_by_rule
from core.catalog.passes import Found
from core.catalog.tables import Model, Price
from core.catalog.terms import PriceRefused, parse_terms, read_terms, suspicion
from core.errors import Conflict, NotFound
from core.identity import audit
from core.identity.access import Actor, require_operator

_SUPERSEDED = "superseded by a later price list"


@dataclass(frozen=True, slots=True)
class HeldPrice:
    """A listed price that waits for an operator, beside the one that applies meanwhile."""

    price_id: int
    model_id: str
    model_name: str
    terms: Mapping[str, Any]
    reason: str
    listed_at: datetime
    accepted_terms: Mapping[str, Any] | None


@dataclass(slots=True)
class _Known:
    """One model's prices: the accepted one, and those that wait or were turned down."""

    accepted: Price | None = None
    others: list[Price] = field(default_factory=list)


def update(
    session: Session, models: Mapping[str, Model], listings: Mapping[str, Listing], now: datetime
) -> list[Found]:
    """Add a dated row for each listed price that changed; returns what came of each.

    A model's first price is 'priced', not 'repriced', or 'held' like any other.
    """
    known = _read_known(session, models)
    added = [
        price
        for model_id, listing in listings.items()
        if (price := _next_price(session, known[model_id], listing, now)) is not None
    ]
    session.flush()  # gives the prices their ids
    found = [_found(models[price.model_id], price) for price in added]
    for price in added:
        if price.state == "accepted":
            _apply(models[price.model_id], price)
    session.flush()
    return found


def list_held(session: Session) -> list[HeldPrice]:
    """The prices that wait for an operator, oldest first."""
    accepted = aliased(Price)
    rows = session.execute(
        select(Price, Model.name, accepted.terms)
        .join(Model, Model.model_id == Price.model_id)
        .outerjoin(accepted, accepted.price_id == Model.price_id)
        .where(Price.state == "held")
        .order_by(Price.price_id)
    )
    return [
        HeldPrice(
            price.price_id, price.model_id, name, price.terms, price.reason or "",
            price.effective_from, terms,
        )
        for price, name, terms in rows
    ]  # fmt: skip


def accept_price(session: Session, who: Actor, price_id: int, *, now: datetime) -> str:
    """An operator agrees to a held price: it applies from now on. Returns its model's id.

    Raises NotFound, and Conflict for a price that is not held or that nobody could charge by.
    """
    require_operator(who)
    price, model = _held(session, price_id)
    try:
        parse_terms(price.terms, known_free=is_free_by_rule(model.model_id))
    except PriceRefused as error:
        raise Conflict(f"This price cannot be charged by: {error}.") from None
    before = _charged_terms(session, model)
    price.state, price.effective_from = "accepted", now
    _apply(model, price)
    session.flush()
    _record(session, who, "price.accept", price, before)
    return model.model_id


def reject_price(session: Session, who: Actor, price_id: int, *, reason: str) -> str:
    """An operator turns a held price down: the same one is not held again. Returns its model's id.

    Raises NotFound, and Conflict for a price that is not held.
    """
    require_operator(who)
    price, model = _held(session, price_id)
    price.state, price.reason = "rejected", f"{price.reason}; rejected: {reason[:200]}"
    session.flush()
    _record(session, who, "price.reject", price, _charged_terms(session, model))
    return model.model_id


def _charged_terms(session: Session, model: Model) -> Mapping[str, Any] | None:
    """What the model is charged by now, None when it has no accepted price."""
    charged = session.get(Price, model.price_id) if model.price_id is not None else None
    return charged.terms if charged else None


def _record(
    session: Session, who: Actor, action: str, price: Price, before: Mapping[str, Any] | None
) -> None:
    """Audit a decision: the terms that applied, beside those that were decided on."""
    audit.record(
        session, who, action, f"price:{price.price_id}", before={"terms": before},
        after={"model": price.model_id, "terms": price.terms, "reason": price.reason},
    )  # fmt: skip


def _found(model: Model, price: Price) -> Found:
    """What a new row means for a model that is not yet charged by it."""
    if price.state == "held":
        return Found(model.model_id, "held", model.price_id, price.price_id)
    kind: Literal["priced", "repriced"] = "priced" if model.price_id is None else "repriced"
    return Found(model.model_id, kind, model.price_id, price.price_id)


def _apply(model: Model, price: Price) -> None:
    """Charge by `price` from now on."""
    model.price_id = price.price_id
    model.is_free = is_free_by_rule(model.model_id) and read_terms(price.terms).is_zero


def _read_known(session: Session, models: Mapping[str, Model]) -> dict[str, _Known]:
    known = {model_id: _Known() for model_id in models}
    for price in session.scalars(select(Price).where(Price.model_id.in_(models))):
        if price.price_id == models[price.model_id].price_id:
            known[price.model_id].accepted = price
        elif price.state != "accepted":
            known[price.model_id].others.append(price)
    return known


def _next_price(session: Session, known: _Known, listing: Listing, now: datetime) -> Price | None:
    """The row that a listed price adds, if any; what waited before it is superseded."""
    stored = dict(listing.stored_terms)
    is_same = known.accepted is not None and known.accepted.terms == stored
    for other in known.others:
        if other.state == "held" and other.terms != stored:
            other.state, other.reason = "rejected", _SUPERSEDED
    if is_same or any(p.terms == stored and p.reason != _SUPERSEDED for p in known.others):
        return None
    accepted = read_terms(known.accepted.terms) if known.accepted else None
    reason = suspicion(accepted, listing.terms) if listing.terms else listing.refusal
    price = Price(
        model_id=listing.model_id,
        terms=stored,
        state="held" if reason else "accepted",
        reason=reason,
        effective_from=now,
    )
    session.add(price)
    return price


def _held(session: Session, price_id: int) -> tuple[Price, Model]:
    """A held price and its model, locked."""
    found = session.execute(
        select(Price, Model)
        .join(Model, Model.model_id == Price.model_id)
        .where(Price.price_id == price_id)
        .with_for_update()
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such price.")
    if found.Price.state != "held":
        raise Conflict(f"This price is {found.Price.state}, not held.")
    return found.Price, found.Model
