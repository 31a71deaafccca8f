"""Stripe's objects as far as we read them, from the JSON of its API and its events.

Only the current shape is read (invoice.parent, items[].current_period_*, pricing.price_details); an
object of another shape is refused as Unreadable, never guessed at. Amounts are whole cents, times UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]


class Unreadable(ValueError):
    """The object does not have the shape of the pinned API version; names the field."""


@dataclass(frozen=True, slots=True)
class Event:
    """A snapshot event, or a thin one (`object` is then its related object's reference)."""

    event_id: str
    type: str
    api_version: str | None
    live: bool
    created_at: datetime
    object_id: str | None
    object: Json


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A visit to Stripe's payment page."""

    session_id: str
    mode: str
    status: str | None
    payment_status: str
    currency: str | None
    subtotal_minor: int | None
    total_minor: int | None
    customer_id: str | None
    client_reference_id: str | None
    payment_intent_id: str | None
    subscription_id: str | None
    invoice_id: str | None
    url: str | None
    live: bool
    metadata: Mapping[str, str]

    @property
    def is_paid(self) -> bool:
        """Paid, or nothing had to be paid (a code of 100 %)."""
        return self.payment_status in {"paid", "no_payment_required"}


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """One payment, with the error of its last attempt."""

    payment_intent_id: str
    status: str
    currency: str
    amount_minor: int
    received_minor: int
    customer_id: str | None
    error_code: str | None
    decline_code: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back. status: pending, requires_action, succeeded, failed, canceled."""

    refund_id: str
    status: str
    currency: str
    amount_minor: int
    payment_intent_id: str | None
    customer_id: str | None
    reason: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dispute:
    """A payment its card's holder contests."""

    dispute_id: str
    status: str
    currency: str
    amount_minor: int
    payment_intent_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A line; `subscription_item_id` is None for what is not a subscription's."""

    line_id: str
    amount_minor: int
    quantity: int
    price_id: str | None
    subscription_id: str | None
    subscription_item_id: str | None
    is_proration: bool
    period_start: datetime
    period_end: datetime


@dataclass(frozen=True, slots=True)
class Invoice:
    """A bill with its lines."""

    invoice_id: str
    status: str
    billing_reason: str | None
    currency: str
    customer_id: str | None
    subscription_id: str | None
    total_minor: int
    paid_minor: int
    number: str | None
    page_url: str | None
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    tenant_named: str | None
    lines: tuple[InvoiceLine, ...]
    lines_complete: bool


@dataclass(frozen=True, slots=True)
class InvoicePayment:
    """Which payment paid which invoice."""

    invoice_id: str
    payment_intent_id: str | None
    paid_minor: int
    currency: str
    status: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription with one item (we sell one price each)."""

    subscription_id: str
    status: str
    customer_id: str
    item_id: str
    price_id: str
    period_start: datetime
    period_end: datetime
    cancel_at: datetime | None
    ended_at: datetime | None
    started_at: datetime
    latest_invoice_id: str | None
    metadata: Mapping[str, str]


def event(json: Json) -> Event:
    """A stored or received event. Raises Unreadable."""
    data = json.get("data")
    inner = _map(data, "data").get("object") if data is not None else json.get("related_object")
    about = _map(inner if inner is not None else {}, "data.object")
    created = json.get("created")
    return Event(
        _text(json, "id"), _text(json, "type"), _maybe_text(json, "api_version"),
        bool(json.get("livemode")), _thin_time(created) if isinstance(created, str)
        else _time(json, "created"), _maybe_text(about, "id"), about,
    )  # fmt: skip


def checkout_session(json: Json) -> CheckoutSession:
    """Raises Unreadable."""
    return CheckoutSession(
        _text(json, "id"), _text(json, "mode"), _maybe_text(json, "status"),
        _text(json, "payment_status"), _maybe_text(json, "currency"),
        _maybe_int(json, "amount_subtotal"), _maybe_int(json, "amount_total"),
        _reference(json, "customer"), _maybe_text(json, "client_reference_id"),
        _reference(json, "payment_intent"), _reference(json, "subscription"),
        _reference(json, "invoice"), _maybe_text(json, "url"), bool(json.get("livemode")),
        _metadata(json),
    )  # fmt: skip


def payment_intent(json: Json) -> PaymentIntent:
    """Raises Unreadable."""
    error = _map(json.get("last_payment_error") or {}, "last_payment_error")
    return PaymentIntent(
        _text(json, "id"), _text(json, "status"), _text(json, "currency"), _int(json, "amount"),
        _maybe_int(json, "amount_received") or 0, _reference(json, "customer"),
        _maybe_text(error, "code"), _maybe_text(error, "decline_code"), _metadata(json),
    )  # fmt: skip


def refund(json: Json) -> Refund:
    """Raises Unreadable."""
    return Refund(
        _text(json, "id"), _maybe_text(json, "status") or "pending", _text(json, "currency"),
        _int(json, "amount"), _reference(json, "payment_intent"), _reference(json, "customer"),
        _maybe_text(json, "reason"), _metadata(json),
    )  # fmt: skip


def dispute(json: Json) -> Dispute:
    """Raises Unreadable."""
    return Dispute(
        _text(json, "id"), _text(json, "status"), _text(json, "currency"), _int(json, "amount"),
        _reference(json, "payment_intent"), _maybe_text(json, "reason"),
    )  # fmt: skip


def invoice(json: Json) -> Invoice:
    """Raises Unreadable."""
    parent = _map(json.get("parent") or {}, "parent")
    of_subscription = _map(parent.get("subscription_details") or {}, "subscription_details")
    listed = _map(json.get("lines") or {}, "lines")
    return Invoice(
        _text(json, "id"), _maybe_text(json, "status") or "draft",
        _maybe_text(json, "billing_reason"), _text(json, "currency"), _reference(json, "customer"),
        _reference(of_subscription, "subscription"), _int(json, "total"),
        _maybe_int(json, "amount_paid") or 0, _maybe_text(json, "number"),
        _maybe_text(json, "hosted_invoice_url"), _maybe_int(json, "attempt_count") or 0,
        _maybe_time(json, "next_payment_attempt"), _time(json, "created"),
        _metadata(of_subscription).get("tenant_id"),
        tuple(_invoice_line(_map(line, "lines.data")) for line in listed.get("data") or ()),
        not listed.get("has_more"),
    )  # fmt: skip


def invoice_payment(json: Json) -> InvoicePayment:
    """Raises Unreadable."""
    payment = _map(json.get("payment") or {}, "payment")
    invoice_id = _reference(json, "invoice")
    if invoice_id is None:
        raise Unreadable("invoice")
    return InvoicePayment(
        invoice_id, _reference(payment, "payment_intent"), _maybe_int(json, "amount_paid") or 0,
        _text(json, "currency"), _text(json, "status"),
    )  # fmt: skip


def subscription(json: Json) -> Subscription:
    """Raises Unreadable, also for more than one item."""
    items = list(_map(json.get("items") or {}, "items").get("data") or ())
    if len(items) != 1:
        raise Unreadable(f"items: {len(items)} where one is sold")
    item = _map(items[0], "items.data")
    customer_id = _reference(json, "customer")
    if customer_id is None:
        raise Unreadable("customer")
    period_end = _time(item, "current_period_end")
    cancel_at = _maybe_time(json, "cancel_at")
    if cancel_at is None and json.get("cancel_at_period_end"):
        cancel_at = period_end
    return Subscription(
        _text(json, "id"), _text(json, "status"), customer_id, _text(item, "id"),
        _text(_map(item.get("price"), "price"), "id"), _time(item, "current_period_start"),
        period_end, cancel_at, _maybe_time(json, "ended_at"),
        _maybe_time(json, "start_date") or _time(json, "created"),
        _reference(json, "latest_invoice"), _metadata(json),
    )  # fmt: skip


def _invoice_line(json: Json) -> InvoiceLine:
    parent = _map(json.get("parent") or {}, "parent")
    item = _map(parent.get("subscription_item_details") or {}, "subscription_item_details")
    pricing = _map(json.get("pricing") or {}, "pricing")
    price = _map(pricing.get("price_details") or {}, "price_details")
    period = _map(json.get("period"), "period")
    return InvoiceLine(
        _text(json, "id"), _int(json, "amount"), _maybe_int(json, "quantity") or 0,
        _reference(price, "price"), _reference(item, "subscription"),
        _maybe_text(item, "subscription_item"), bool(item.get("proration")),
        _time(period, "start"), _time(period, "end"),
    )  # fmt: skip


def _map(value: object, name: str) -> Json:
    if not isinstance(value, Mapping):
        raise Unreadable(name)
    return value


def _text(json: Json, name: str) -> str:
    value = json.get(name)
    if not isinstance(value, str) or not value or len(value) > 5000:
        raise Unreadable(name)
    return value


def _maybe_text(json: Json, name: str) -> str | None:
    return None if json.get(name) in (None, "") else _text(json, name)


def _reference(json: Json, name: str) -> str | None:
    """The id of what is referred to, expanded or not."""
    value = json.get(name)
    return _text(value, "id") if isinstance(value, Mapping) else _maybe_text(json, name)


def _int(json: Json, name: str) -> int:
    value = json.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable(name)
    return value


def _maybe_int(json: Json, name: str) -> int | None:
    return None if json.get(name) is None else _int(json, name)


def _time(json: Json, name: str) -> datetime:
    try:
        return datetime.fromtimestamp(_int(json, name), UTC)
    except (ValueError, OverflowError, OSError):
        raise Unreadable(name) from None


def _maybe_time(json: Json, name: str) -> datetime | None:
    return None if json.get(name) is None else _time(json, name)


def _thin_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("created") from None


def _metadata(json: Json) -> Mapping[str, str]:
    return {str(k): str(v) for k, v in _map(json.get("metadata") or {}, "metadata").items()}
