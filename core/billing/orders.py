"""Orders as rows: found again, paid for once, or closed. What is granted is what the order says.

Calls Stripe never, and decides nothing on what a payment's metadata claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import errors, telemetry
from core.billing import differences, ledger, refunds
from core.billing.effects import Effect, Handled
from core.billing.sales_tables import ORDER_PENDING, AutoTopup, Fulfilment, Order, Payment
from core.identity import audit, names
from core.identity.access import Actor, require_operator

ACTOR = "system:billing"
_NOTE_LENGTH_MAX = 500
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Paid:
    """What paid an order. `stripe_id` keys the grant: a session, or a top-up's own payment."""

    kind: Literal["checkout_session", "payment_intent"]
    stripe_id: str
    total_minor: int
    currency: str
    payment_intent_id: str | None
    invoice_id: str | None


def of_reference(session: Session, reference: str | None, tenant_id: UUID | None) -> Order | None:
    """The order a Stripe object names: the tenant's, else anybody's (which then is a mismatch)."""
    try:
        order_id = UUID(reference or "")
    except ValueError:
        return None
    if tenant_id is not None and (own := session.get(Order, (tenant_id, order_id))) is not None:
        return own
    return session.scalar(select(Order).where(Order.order_id == order_id))


def locked(session: Session, tenant_id: UUID, order_id: UUID) -> Order:
    """The order as it is now, with the tenant's account locked before it. Raises errors.NotFound."""
    ledger.lock(session, tenant_id)
    row = session.get(Order, (tenant_id, order_id), with_for_update=True, populate_existing=True)
    if row is None:
        raise errors.NotFound("There is no such order.")
    return row


def is_pending(order: Order) -> bool:
    """Whether it may still be paid as planned."""
    return order.state in ORDER_PENDING


def is_settled(order: Order) -> bool:
    """Whether no payment changes it any more: fulfilled, or in an operator's hands."""
    return order.state in {"fulfilled", "review"} or order.reviewed_at is not None


def fulfil(session: Session, order: Order, paid: Paid) -> Effect:
    """Grant what the locked order promised, once per Stripe object and once per order.

    Refunds of the payment that came first are set against it at once. An order that an operator
    ended after a review stays so.
    """
    if order.reviewed_at is not None:
        return paid_besides(session, order, paid)
    if order.kind != "plan" and not _claim(session, order, paid):
        return _paid_twice(order, paid)
    order.state, order.reason, order.ended_at = "fulfilled", None, now(session)
    order.total_minor, order.invoice_id = paid.total_minor, paid.invoice_id
    if order.kind == "plan":
        return Handled("subscribed; its invoices bring the credit")
    order.payment_intent_id = paid.payment_intent_id or order.payment_intent_id
    _grant(session, order, paid)
    if order.kind == "topup":
        paying = update(AutoTopup).where(AutoTopup.tenant_id == order.tenant_id)
        session.execute(paying.values(declines=0))
    if payment := _payment(session, order, paid):
        refunds.rebalance(session, payment, ACTOR)
    log.info("order.fulfilled", tenant_id=str(order.tenant_id), kind=order.kind,
             amount_nusd=order.credits_nusd + order.bonus_nusd)  # fmt: skip
    return Handled(f"order {order.order_id} is fulfilled")


def paid_besides(session: Session, order: Order, paid: Paid) -> Effect:
    """A locked order that is settled already was reported paid: by what is known, or once more.

    More money brings no credit. It is noted, so that its refund is found and takes none either.
    """
    known = paid.payment_intent_id and session.get(Payment, paid.payment_intent_id)
    if known or (payment := _payment(session, order, paid)) is None:
        return Handled(f"known: the order is {order.state}")
    refunds.rebalance(session, payment, ACTOR)
    telemetry.alarm("order_paid_twice", tenant_id=str(order.tenant_id), source=paid.stripe_id)
    return Handled("flagged: paid a second time, refund one of the payments")


def review(session: Session, order: Order, reason: str, paid: Paid | None) -> Effect:
    """Money came that is not what was ordered: nothing is granted until an operator looked at it.

    `paid` is noted where the payment is this tenant's, so that it can be refunded.
    """
    order.state, order.reason, order.ended_at = "review", reason, now(session)
    session.flush()
    if paid is not None:
        order.payment_intent_id = paid.payment_intent_id or order.payment_intent_id
        order.total_minor = paid.total_minor
        _payment(session, order, paid)
    telemetry.alarm("order_review", tenant_id=str(order.tenant_id), kind=order.kind, reason=reason)
    return Handled("flagged for review")


def end_review(
    session: Session, who: Actor, tenant_id: UUID, order_id: UUID, *, note: str
) -> Order:
    """End an order under review that was settled otherwise: refunded at Stripe, or granted by hand.

    `note` is what the buyer reads of it. No payment fulfils it any more. Audited. Raises
    errors.NotFound, BadInput, and Conflict for an order that is not under review.
    """
    operator = require_operator(who)
    note = names.name(note, "note", length_max=_NOTE_LENGTH_MAX)
    order = locked(session, tenant_id, order_id)
    if order.state != "review":
        raise errors.Conflict("This order is not under review.")
    before = {"state": order.state, "reason": order.reason}
    order.session_url, order.reviewed_at = None, now(session)
    close(session, order, "canceled", note)
    if order.session_id is not None:
        differences.resolve(session, "session", [order.session_id])
    audit.record(
        session, operator, "order.end_review", f"order:{order_id}", tenant_id=tenant_id,
        before=before, after={"state": order.state, "reason": note},
    )  # fmt: skip
    return order


def in_review(session: Session, who: Actor, tenant_id: UUID) -> tuple[Order, ...]:
    """A tenant's orders that wait for an operator, the oldest first."""
    require_operator(who)
    query = select(Order).where(Order.tenant_id == tenant_id, Order.state == "review")
    return tuple(session.scalars(query.order_by(Order.created_at)))


def close(session: Session, order: Order, state: str, reason: str | None = None) -> None:
    """End a locked order that was not paid."""
    order.state, order.reason, order.ended_at = state, reason, now(session)
    session.flush()


def in_days(session: Session, days: int | None) -> datetime | None:
    """So many days from now by the database's clock; None for never."""
    if days is None:
        return None
    return now(session) + timedelta(days=days)


def _claim(session: Session, order: Order, paid: Paid) -> bool:
    """Write down that this object is turned into credit; False when it was before."""
    claimed = insert(Fulfilment).values(
        stripe_id=paid.stripe_id, tenant_id=order.tenant_id, kind=paid.kind,
        order_id=order.order_id, invoice_id=paid.invoice_id,
        granted_nusd=order.credits_nusd + order.bonus_nusd,
    )  # fmt: skip
    made = claimed.on_conflict_do_nothing().returning(Fulfilment.stripe_id)
    return session.scalar(made) is not None


def _paid_twice(order: Order, paid: Paid) -> Effect:
    """The object paid for another order already, which Stripe never does by itself."""
    telemetry.alarm("payment_used_twice", tenant_id=str(order.tenant_id), source=paid.stripe_id)
    return Handled("flagged: this payment was used for another order")


def _grant(session: Session, order: Order, paid: Paid) -> None:
    key = f"{paid.kind}:{paid.stripe_id}"
    ledger.grant(
        session, order.tenant_id, order.credits_nusd, kind="purchase", key=key, actor=ACTOR,
        reason=order.title, expires_at=in_days(session, order.expires_after_days),
        source=(paid.kind, paid.stripe_id),
    )  # fmt: skip
    if order.bonus_nusd:
        ledger.grant(
            session, order.tenant_id, order.bonus_nusd, kind="promo", key=f"{key}:bonus",
            actor=ACTOR, reason=f"{order.title}: bonus",
            expires_at=in_days(session, order.bonus_expires_after_days),
            source=(f"{paid.kind}_bonus", paid.stripe_id),
        )  # fmt: skip


def _payment(session: Session, order: Order, paid: Paid) -> Payment | None:
    """The money that came; none for a code of 100 %."""
    if paid.payment_intent_id is None or paid.total_minor <= 0:
        return None
    row = insert(Payment).values(
        payment_intent_id=paid.payment_intent_id, tenant_id=order.tenant_id,
        order_id=order.order_id, total_minor=paid.total_minor, currency=paid.currency,
    )  # fmt: skip
    session.execute(row.on_conflict_do_nothing())
    session.flush()
    return session.get(Payment, paid.payment_intent_id, populate_existing=True)


def now(session: Session) -> datetime:
    """The transaction's time by the database's clock."""
    return session.execute(select(func.now())).scalar_one()
