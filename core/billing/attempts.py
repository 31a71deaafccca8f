"""One try to charge a saved card for a top-up, and what came of it, heard directly or by an event.

A try whose answer was lost is repeated under the same key or left open, never made anew: the card is
charged once per order. Which wallets need a top-up is decided elsewhere.
"""

from __future__ import annotations

import re
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from core import db, errors, telemetry
from core.billing import customers, orders, stripe_api
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.ledger import BILLING
from core.billing.orders import Paid
from core.billing.sales_tables import AutoTopup, Order
from core.billing.stripe_api import CardDeclined, StripeRefused
from core.billing.stripe_objects import PaymentIntent

DECLINES_MAX = 2
_ASKS_FOR_BUYER = "authentication_required"
_OUTCOME_UNKNOWN = frozenset({"unreadable", "idempotency_error"})
_PLAIN_CODE = re.compile(r"[a-z_]{1,60}", re.ASCII)
log = structlog.get_logger(__name__)


def charge(order: Order, customer_id: str) -> None:
    """Charge the card of an open top-up and book the answer; opens its own transactions.

    Raises stripe_api.StripeDown when the answer is not known: the order stays open for a repeat.
    """
    try:
        found = stripe_api.current().charge_off_session(
            tenant_id=order.tenant_id, order_id=order.order_id, customer_id=customer_id,
            payment_method_id=order.code, amount_minor=order.price_minor,
        )  # fmt: skip
    except CardDeclined as declined:
        with db.transaction(BILLING) as session:
            row = orders.locked(session, order.tenant_id, order.order_id)
            row.payment_intent_id = row.payment_intent_id or declined.payment_intent_id
            _declined(session, row, declined.code, declined.decline_code)
    except StripeRefused as refused:
        if refused.code in _OUTCOME_UNKNOWN:  # the payment's event will tell
            log.warning("topup.answer_unknown", tenant_id=str(order.tenant_id), code=refused.code)
            return
        telemetry.alarm("topup_refused", tenant_id=str(order.tenant_id), code=refused.code)
        with db.transaction(BILLING) as session:
            row = orders.locked(session, order.tenant_id, order.order_id)
            _declined(session, row, refused.code, None)
    else:
        with db.transaction(BILLING) as session:
            settle(session, orders.locked(session, order.tenant_id, order.order_id), found)


def on_payment(session: Session, found: PaymentIntent) -> Effect:
    """A payment was reported: of a top-up, it is settled; any other has its session or invoice."""
    order = _of(session, found)
    if order is None:
        return Ignored("not the payment of a top-up")
    row = orders.locked(session, order.tenant_id, order.order_id)
    theirs = found.payment_intent_id
    is_other = row.payment_intent_id != theirs and (row.payment_intent_id or row.attempt > 1)
    if is_other and found.status == "succeeded" and not orders.is_settled(row):
        return Waits("another payment of the same top-up may count yet")
    if is_other and found.status != "succeeded":
        return Ignored("another payment of the same top-up counts")
    return settle(session, row, found)


def settle(session: Session, order: Order, found: PaymentIntent) -> Effect:
    """Book what a payment of this locked order says, in any order and any number of times."""
    if found.status == "succeeded":
        return _succeeded(session, order, found)
    if orders.is_settled(order):
        return Handled("settled before")
    if order.attempt > 1:
        return Handled("given up: its buyer pays on a page")
    order.payment_intent_id = found.payment_intent_id
    if found.status in {"requires_action", "requires_confirmation"}:
        return _declined(session, order, _ASKS_FOR_BUYER, None)
    if found.status in {"requires_payment_method", "canceled"}:
        return _declined(session, order, found.error_code, found.decline_code)
    if order.state == "open" and found.status == "processing":
        order.state = "awaiting"
    return Handled("under way")


def call_off(order: Order) -> PaymentIntent | None:
    """Make sure a payment the bank wants the buyer for can never be made; not in a transaction.

    Returns what is known of it when it was paid meanwhile, else None. Raises errors.Unavailable
    where Stripe does not say: it may have been paid.
    """
    if order.payment_intent_id is None:
        return None
    api = stripe_api.current()
    try:
        api.cancel_payment(order.payment_intent_id)
    except StripeRefused:
        found = _asked_for(order.payment_intent_id)
        return found if found and found.status in {"succeeded", "processing"} else None
    return None


def _asked_for(payment_intent_id: str) -> PaymentIntent | None:
    """The payment as Stripe says now; None where it knows none of that id."""
    try:
        return stripe_api.current().payment_intent(payment_intent_id)
    except StripeRefused as refused:
        if refused.status == 404:
            return None
        log.warning("topup.not_told", code=refused.code)
        raise errors.Unavailable("Your payment cannot be looked up. Please try again.") from None


def _of(session: Session, found: PaymentIntent) -> Order | None:
    """By the payment's id, else by the order it names: its answer was lost then."""
    tenant_id = customers.tenant_of(session, found.customer_id)
    if tenant_id is None:
        return None
    known = session.scalar(
        select(Order).where(
            Order.tenant_id == tenant_id, Order.payment_intent_id == found.payment_intent_id
        )
    )
    named = known or orders.of_reference(session, found.metadata.get("order_id"), tenant_id)
    is_topup = named is not None and named.kind == "topup" and named.tenant_id == tenant_id
    return named if is_topup else None


def _succeeded(session: Session, order: Order, found: PaymentIntent) -> Effect:
    pays, received_minor = found.payment_intent_id, found.received_minor
    paid = Paid("payment_intent", pays, received_minor, found.currency, pays, None)
    if orders.is_settled(order):
        return orders.paid_besides(session, order, paid)
    if (found.currency, received_minor) != (order.currency, order.price_minor):
        return orders.review(session, order, "paid another amount or currency", paid)
    return orders.fulfil(session, order, paid)


def _declined(session: Session, order: Order, code: str | None, decline_code: str | None) -> Effect:
    """The bank wants the buyer: one is asked to pay by hand. Any other no counts against the card."""
    if order.state not in {"open", "awaiting"}:
        if order.state == "failed" and code:
            order.reason = _reason(code, decline_code)
        return Handled("known already")
    if _ASKS_FOR_BUYER in {code, decline_code}:
        order.state, order.reason = "needs_action", "The bank wants you to confirm the payment."
        session.flush()
        return Handled("waits for the buyer")
    reason = _reason(code, decline_code)
    orders.close(session, order, "failed", reason)
    _count(session, order.tenant_id, reason)
    return Handled("declined")


def _count(session: Session, tenant_id: UUID, reason: str) -> None:
    """One more decline in a row; the last one allowed switches the top-up off."""
    row = session.get(AutoTopup, tenant_id, with_for_update=True, populate_existing=True)
    if row is None:
        return
    row.declines += 1
    if row.declines >= DECLINES_MAX and row.enabled:
        row.enabled, row.stopped_reason = False, f"{DECLINES_MAX} attempts failed. {reason}"
        telemetry.alarm("topup_stopped", tenant_id=str(tenant_id), count=row.declines)
    session.flush()


def _reason(code: str | None, decline_code: str | None) -> str:
    """What the bank said, as far as it is a plain code."""
    said = decline_code or code
    if said and _PLAIN_CODE.fullmatch(said):
        return f"The card was declined ({said.replace('_', ' ')})."
    return "The card was declined."
