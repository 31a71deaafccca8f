"""Subscriptions and their invoices."""

from __future__ import annotations

from uuid import UUID

from core.billing import stripe_objects
from core.billing.stripe_api.connection import (
    PAGE_SIZE,
    Connection,
    as_json,
    asking,
    each,
)
from core.billing.stripe_api.refusals import StripeRefused
from core.billing.stripe_objects import Invoice, InvoicePayment, Json, Subscription, Unreadable

_DAYS_UNTIL_DUE = 30


class Plans(Connection):
    """Every method raises StripeDown or StripeRefused; what charges at once also CardDeclined."""

    def subscription(self, subscription_id: str) -> Subscription:
        """The subscription as it is now."""
        with asking():
            return stripe_objects.subscription(
                as_json(self._v1.subscriptions.retrieve(subscription_id))
            )

    def change_price(
        self, subscription_id: str, item_id: str, price_id: str, *, prorate: bool, key: str
    ) -> Subscription:
        """Another plan. Prorated: the difference is invoiced at once, and nothing changes until it is
        paid. Otherwise nothing is charged before the next period."""
        with asking():
            changed = (
                self._v1.subscriptions.update(
                    subscription_id,
                    {
                        "items": [{"id": item_id, "price": price_id}],
                        "proration_behavior": "always_invoice",
                        "payment_behavior": "pending_if_incomplete",
                    },
                    {"idempotency_key": key},
                )
                if prorate
                else self._v1.subscriptions.update(
                    subscription_id,
                    {
                        "items": [{"id": item_id, "price": price_id}],
                        "proration_behavior": "none",
                    },
                    {"idempotency_key": key},
                )
            )
            return stripe_objects.subscription(as_json(changed))

    def set_cancel_at_period_end(
        self,
        subscription_id: str,
        cancel: bool,  # noqa: FBT001 - the verb's object
        *,
        key: str,
    ) -> Subscription:
        """End it with the period that is paid, or let it go on after all."""
        with asking():
            changed = self._v1.subscriptions.update(
                subscription_id, {"cancel_at_period_end": cancel}, {"idempotency_key": key}
            )
            return stripe_objects.subscription(as_json(changed))

    def cancel_now(self, subscription_id: str) -> Subscription:
        """End it at once, without refund. Ended already is well ended."""
        try:
            with asking():
                ended = self._v1.subscriptions.cancel(
                    subscription_id, {}, {"idempotency_key": f"cancel:{subscription_id}"}
                )
                return stripe_objects.subscription(as_json(ended))
        except StripeRefused as refused:
            found = self.subscription(subscription_id)
            if found.ended_at is None:
                raise refused from None
            return found

    def subscribe_usage(
        self, *, tenant_id: UUID, customer_id: str, price_id: str, key: str
    ) -> Subscription:
        """A subscription to a metered price, paid by invoice within 30 days."""
        with asking():
            made = self._v1.subscriptions.create(
                {
                    "customer": customer_id, "items": [{"price": price_id}],
                    "collection_method": "send_invoice", "days_until_due": _DAYS_UNTIL_DUE,
                    "metadata": {"tenant_id": str(tenant_id), "kind": "usage"},
                },
                {"idempotency_key": key},
            )  # fmt: skip
            return stripe_objects.subscription(as_json(made))

    def invoice(self, invoice_id: str) -> Invoice:
        """The invoice as it is now, with all its lines."""
        found = self._invoice_json(invoice_id)
        with asking():
            return stripe_objects.invoice(found)

    def invoice_payments(self, invoice_id: str) -> list[InvoicePayment]:
        """What was paid on it, or is being paid."""
        pages = each(
            lambda: self._v1.invoice_payments.list({"invoice": invoice_id, "limit": PAGE_SIZE})
        )
        with asking():
            return [stripe_objects.invoice_payment(found) for found in pages]

    def _invoice_json(self, invoice_id: str) -> Json:
        """An invoice carries its first lines only; the others are a list of their own."""
        with asking():
            found = as_json(self._v1.invoices.retrieve(invoice_id))
            lines = found.get("lines")
            if not isinstance(lines, dict):
                raise Unreadable("lines")
        if not lines.get("has_more"):
            return found
        pages = each(lambda: self._v1.invoices.line_items.list(invoice_id, {"limit": PAGE_SIZE}))
        return {**found, "lines": {**lines, "data": list(pages), "has_more": False}}
