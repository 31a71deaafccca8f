"""What each of Stripe's events means here: which room it concerns, and what must be read first.

Applies one event in its caller's transaction and never calls Stripe there. Whose an event is, and
how much it is worth, is decided from our own rows by the functions it is handed to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from core import jobs
from core.billing import (
    checkout,
    customers,
    invoices,
    meters,
    refunds,
    stripe_api,
    stripe_objects,
    subscriptions,
    topups,
)
from core.billing.effects import Effect, Handled, Ignored, Waits
from core.billing.stripe_objects import Event, Json, PaymentIntent, Unreadable

PAYOUTS = "billing.payouts"
_THIN = "v1."


@dataclass(frozen=True, slots=True)
class Need:
    """An object whose present state at Stripe counts, not the one in the event. `kind` as Stripe
    names it ('invoice', 'checkout.session')."""

    kind: str
    object_id: str


@dataclass(frozen=True, slots=True)
class _Reaction:
    """How an event's object is read, and who deals with it (session, what was read, event type)."""

    read: Callable[[Json], Any]
    act: Callable[[Session, Any, str], Effect]


def needed(event: Event) -> Need | None:
    """What to read from Stripe before `apply`; None where the event says enough. Raises Unreadable.

    A subscription always (events come in any order), whatever has another API version's shape or
    no shape at all (thin events), and an invoice whose lines did not all fit.
    """
    kind = _kind(event)
    if _type(event) not in _REACTIONS or kind not in _READ_AS:
        return None
    is_enough = event.api_version == stripe_api.API_VERSION and kind != "subscription"
    if is_enough and kind == "invoice":
        is_enough = stripe_objects.invoice(event.object).lines_complete
    if is_enough:
        return None
    if event.object_id is None:
        raise Unreadable("data.object.id")
    return Need(kind, event.object_id)


def read(need: Need) -> Any:
    """The object as Stripe says now, typed. Not in a transaction. Raises StripeDown, StripeRefused.

    A subscription comes with the version our row had before, so that an older reading never wins.
    """
    if need.kind == "subscription":
        return subscriptions.ask(need.object_id)
    found = stripe_api.current().fetch(need.kind, need.object_id)
    return _READ_AS[need.kind](found)


def apply(session: Session, event: Event, fetched: Any) -> Effect:
    """Book what `event` causes. `fetched` is what `read` gave for what was `needed`, or None."""
    name = _type(event)
    reaction = _REACTIONS.get(name)
    if reaction is None:
        return Ignored(_NO_CONCERN.get(name) or _no_concern(name))
    found = reaction.read(event.object) if fetched is None else fetched
    return reaction.act(session, found, name)


def tried(session: Session, book: Callable[[], Effect]) -> Effect:
    """What `book` did; where it waits for something, nothing of it is kept."""
    savepoint = session.begin_nested()
    effect = book()
    if isinstance(effect, Waits):
        savepoint.rollback()
    else:
        savepoint.commit()
    return effect


def _type(event: Event) -> str:
    """A thin event's name is the snapshot's behind a prefix."""
    return event.type.removeprefix(_THIN)


def _kind(event: Event) -> str:
    """What kind of object it is about; thin events and snapshots name it in different fields."""
    named = event.object.get("object") or event.object.get("type")
    return named if isinstance(named, str) else ""


def _on_payment(session: Session, found: PaymentIntent, name: str) -> Effect:
    if found.metadata.get("kind") != "auto_topup":
        return Ignored("paid through its session or its invoice, which say so themselves")
    return topups.on_payment(session, found, name)


def _on_deleted_customer(session: Session, customer: Json, _name: str) -> Effect:
    return customers.on_deleted(session, str(customer.get("id")))


def _on_changed_customer(session: Session, changed: Json, name: str) -> Effect:
    """A customer, or a card with its customer; a detached card names it only as it was before."""
    if name.startswith("customer."):
        return customers.on_changed(session, str(changed.get("id")))
    customer_id = changed.get("customer")
    if not isinstance(customer_id, str):
        return Ignored("a card without a customer")
    return customers.on_changed(session, customer_id)


def _on_payout(session: Session, _payout: Json, _name: str) -> Effect:
    jobs.defer(session, PAYOUTS)
    return Handled("payouts are compared")


def _nameless(act: Callable[[Session, Any], Effect]) -> Callable[[Session, Any, str], Effect]:
    """For functions to which only the object matters, not which event brought it."""
    return partial(_without_name, act)


def _without_name(
    act: Callable[[Session, Any], Effect], session: Session, found: Any, _name: str
) -> Effect:
    return act(session, found)


def _as_is(json: Json) -> Json:
    return json


_READ_AS: Mapping[str, Callable[[Json], Any]] = {
    "checkout.session": stripe_objects.checkout_session,
    "payment_intent": stripe_objects.payment_intent,
    "refund": stripe_objects.refund,
    "dispute": stripe_objects.dispute,
    "radar.early_fraud_warning": _as_is,
    "subscription": stripe_objects.subscription,
    "invoice": stripe_objects.invoice,
    "invoice_payment": stripe_objects.invoice_payment,
}
_FULFIL = _Reaction(stripe_objects.checkout_session, _nameless(checkout.fulfil))
_PAYMENT = _Reaction(stripe_objects.payment_intent, _on_payment)
_REFUND = _Reaction(stripe_objects.refund, _nameless(refunds.on_refund))
_DISPUTE = _Reaction(stripe_objects.dispute, _nameless(refunds.on_dispute))
_SUBSCRIPTION = _Reaction(stripe_objects.subscription, _nameless(subscriptions.write))
_INVOICE = _Reaction(stripe_objects.invoice, invoices.on_invoice)
_CUSTOMER = _Reaction(_as_is, _on_changed_customer)
_METER = _Reaction(_as_is, _nameless(meters.on_error_report))
_REACTIONS: Mapping[str, _Reaction] = {
    "checkout.session.completed": _FULFIL,
    "checkout.session.async_payment_succeeded": _FULFIL,
    "checkout.session.async_payment_failed": _Reaction(
        stripe_objects.checkout_session, _nameless(checkout.on_failed)
    ),
    "checkout.session.expired": _Reaction(
        stripe_objects.checkout_session, _nameless(checkout.on_expired)
    ),
    "payment_intent.succeeded": _PAYMENT,
    "payment_intent.payment_failed": _PAYMENT,
    "payment_intent.requires_action": _PAYMENT,
    "payment_intent.canceled": _PAYMENT,
    "refund.created": _REFUND,
    "refund.updated": _REFUND,
    "refund.failed": _REFUND,
    "charge.dispute.created": _DISPUTE,
    "charge.dispute.updated": _DISPUTE,
    "charge.dispute.closed": _DISPUTE,
    "radar.early_fraud_warning.created": _Reaction(_as_is, _nameless(refunds.on_early_warning)),
    "customer.subscription.created": _SUBSCRIPTION,
    "customer.subscription.updated": _SUBSCRIPTION,
    "customer.subscription.deleted": _SUBSCRIPTION,
    "customer.subscription.paused": _SUBSCRIPTION,
    "customer.subscription.resumed": _SUBSCRIPTION,
    "invoice.paid": _INVOICE,
    "invoice.payment_failed": _INVOICE,
    "invoice.payment_action_required": _INVOICE,
    "invoice.finalized": _INVOICE,
    "invoice.voided": _INVOICE,
    "invoice.marked_uncollectible": _INVOICE,
    "invoice_payment.paid": _Reaction(
        stripe_objects.invoice_payment, _nameless(invoices.on_invoice_payment)
    ),
    "customer.updated": _CUSTOMER,
    "customer.deleted": _Reaction(_as_is, _on_deleted_customer),
    "payment_method.attached": _CUSTOMER,
    "payment_method.detached": _CUSTOMER,
    "billing.meter.error_report_triggered": _METER,
    "billing.meter.no_meter_found": _METER,
    "payout.reconciliation_completed": _Reaction(_as_is, _on_payout),
}
_NO_CONCERN: Mapping[str, str] = {
    "payment_intent.created": "nothing is paid yet",
    "payment_intent.processing": "under way: its end is told by another event",
    "charge.succeeded": "its session, invoice or payment says the same; payouts match it later",
    "charge.refunded": "a running total: each refund is told by itself",
    "charge.dispute.funds_withdrawn": "booked when the dispute was opened",
    "charge.dispute.funds_reinstated": "booked when the dispute was closed",
    "invoice.created": "a draft",
    "invoice.updated": "what matters of it has an event of its own",
    "invoice.payment_succeeded": "invoice.paid says the same",
    "invoice.upcoming": "not billed yet",
    "customer.created": "we made it ourselves",
}
LISTED_TYPES = tuple(name for name in _REACTIONS if not name.startswith("billing."))
"""The snapshot events to subscribe to; those of meters come as thin events alone."""


def _no_concern(name: str) -> str:
    if name.startswith("invoice"):
        return "this step of an invoice changes nothing here"
    return "a type we do not use"
