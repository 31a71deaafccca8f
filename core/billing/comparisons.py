"""Compares one object of Stripe's with our rows; what is missing here is booked at once.

Each runs in its caller's transaction and calls the same functions that events call, so a webhook that
comes late changes nothing. Never calls Stripe.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.billing import checkout, claw_backs, customers, orders, refunds, subscriptions
from core.billing.differences import Difference
from core.billing.effects import Effect, Handled
from core.billing.sales_tables import ClawBack, Fulfilment, Order, Payment
from core.billing.sales_tables import Subscription as SubscriptionRow
from core.billing.stripe_objects import CheckoutSession, Refund, Subscription
from core.billing.subscriptions import Asked
from core.billing.webhooks import tried

Outcome: TypeAlias = Difference | Literal["agrees", "foreign"]
BOOKED_NOW = "webhook missing, booked now"
_UNKNOWN_THERE = "unknown"


def paid_session(session: Session, found: CheckoutSession) -> Outcome:
    """A paid session must be fulfilled, unless all its money went back or an operator ended it."""
    tenant_id = customers.tenant_of(session, found.customer_id)
    if tenant_id is None:
        return "foreign"
    if (
        _is_fulfilled(session, found)
        or _is_given_back(session, found)
        or _is_reviewed(session, found)
    ):
        return "agrees"
    effect = tried(session, lambda: checkout.fulfil(session, found))
    return Difference(
        "session", found.session_id, tenant_id, ours="not fulfilled",
        theirs=f"{found.payment_status} {found.total_minor}",
        cause=BOOKED_NOW if _is_fulfilled(session, found) else _words(effect),
    )  # fmt: skip


def fulfilment(session: Session, stripe_id: str, found: CheckoutSession | None) -> Outcome:
    """A fulfilled session must be paid. `found` is None where Stripe knows no such session."""
    if found is not None and found.is_paid:
        return "agrees"
    row = session.get_one(Fulfilment, stripe_id)
    theirs = found.payment_status if found else _UNKNOWN_THERE
    return Difference(
        "fulfilment", stripe_id, row.tenant_id, ours=f"granted {row.granted_nusd} nano-USD",
        theirs=theirs, cause="granted, but Stripe has no payment for it",
    )  # fmt: skip


def refund(session: Session, found: Refund) -> Outcome:
    """A refund must be clawed back as far as Stripe says it goes."""
    payment = session.get(Payment, found.payment_intent_id or "")
    tenant_id = payment.tenant_id if payment else customers.tenant_of(session, found.customer_id)
    if tenant_id is None:
        return "foreign"
    before = _as_booked(session, found.refund_id)
    theirs = f"{found.status} {found.amount_minor}"
    if before == theirs:
        return "agrees"
    effect = tried(session, lambda: refunds.on_refund(session, found))
    is_booked = _as_booked(session, found.refund_id) == theirs
    return Difference(
        "refund", found.refund_id, tenant_id, ours=before or "not booked", theirs=theirs,
        cause=BOOKED_NOW if is_booked else _words(effect),
    )  # fmt: skip


def unknown_refund(session: Session, refund_id: str) -> Outcome:
    """A claw-back of ours for a refund Stripe does not know."""
    row = session.get(ClawBack, refund_id)
    if row is None:
        return "agrees"
    return Difference(
        "refund", refund_id, row.tenant_id, ours=f"{row.status} {row.amount_minor}",
        theirs=_UNKNOWN_THERE, cause="clawed back, but Stripe knows no such refund",
    )  # fmt: skip


def subscription(session: Session, subscription_id: str, asked: Asked | None) -> Outcome:
    """Our row must have the status, price and period Stripe says."""
    row = _subscription_row(session, subscription_id)
    if row is None:
        return "agrees"
    ours = f"{row.status} {row.price_id} until {row.period_end:%Y-%m-%d}"
    if asked is None:
        return Difference(
            "subscription", subscription_id, row.tenant_id, ours=ours, theirs=_UNKNOWN_THERE,
            cause="Stripe knows no such subscription",
        )  # fmt: skip
    now = asked.now
    if _agrees(row, now):
        return "agrees"
    tenant_id = row.tenant_id
    effect = tried(session, lambda: subscriptions.write(session, asked))
    row = _subscription_row(session, subscription_id)
    return Difference(
        "subscription", subscription_id, tenant_id, ours=ours,
        theirs=f"{now.status} {now.price_id} until {now.period_end:%Y-%m-%d}",
        cause=BOOKED_NOW if row is not None and _agrees(row, now) else _words(effect),
    )  # fmt: skip


def _is_fulfilled(session: Session, found: CheckoutSession) -> bool:
    """A plan's session is done with its order: its credit comes with its invoices."""
    if found.mode == "payment":
        query = select(Fulfilment.stripe_id).where(Fulfilment.stripe_id == found.session_id)
        return session.scalar(query) is not None
    ordered = select(Order.state).where(Order.session_id == found.session_id)
    return session.scalar(ordered) == "fulfilled"


def _is_given_back(session: Session, found: CheckoutSession) -> bool:
    payment = session.get(Payment, found.payment_intent_id or "")
    return payment is not None and (
        claw_backs.counted_minor(session, payment) >= payment.total_minor
    )


def _is_reviewed(session: Session, found: CheckoutSession) -> bool:
    """Only what was known when an operator ended its order: more money is another difference."""
    order = orders.of_reference(session, found.client_reference_id, None)
    if order is None or order.reviewed_at is None:
        return False
    return found.payment_intent_id in (None, order.payment_intent_id)


def _as_booked(session: Session, refund_id: str) -> str | None:
    row = session.get(ClawBack, refund_id, populate_existing=True)
    return f"{row.status} {row.amount_minor}" if row else None


def _subscription_row(session: Session, subscription_id: str) -> SubscriptionRow | None:
    return session.get(SubscriptionRow, subscription_id, populate_existing=True)


def _agrees(row: SubscriptionRow, now: Subscription) -> bool:
    return (row.status, row.price_id, row.period_end) == (now.status, now.price_id, now.period_end)


def _words(effect: Effect) -> str:
    return effect.note if isinstance(effect, Handled) else effect.reason
