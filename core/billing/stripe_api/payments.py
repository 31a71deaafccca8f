"""Payments without the buyer present, and money given back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from core.billing import stripe_objects
from core.billing.stripe_api.connection import (
    CURRENCY,
    PAGE_SIZE,
    Connection,
    as_json,
    asking,
    each,
)
from core.billing.stripe_api.refusals import StripeRefused
from core.billing.stripe_objects import PaymentIntent, Refund


class Payments(Connection):
    """Every method raises StripeDown or StripeRefused."""

    def charge_off_session(
        self,
        *,
        tenant_id: UUID,
        order_id: UUID,
        customer_id: str,
        payment_method_id: str,
        amount_minor: int,
    ) -> PaymentIntent:
        """Charge a saved way to pay. Look at the status: a bank debit is only processing.

        Raises CardDeclined, also when the bank wants the buyer ("authentication_required").
        """
        names = {"tenant_id": str(tenant_id), "order_id": str(order_id), "kind": "auto_topup"}
        with asking():
            made = self._v1.payment_intents.create(
                {
                    "amount": amount_minor, "currency": CURRENCY, "customer": customer_id,
                    "payment_method": payment_method_id, "off_session": True, "confirm": True,
                    # nobody is there to be sent to a bank's page and back
                    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                    "metadata": names,
                },
                {"idempotency_key": f"topup:{order_id}"},
            )  # fmt: skip
            return stripe_objects.payment_intent(as_json(made))

    def payment_intent(self, payment_intent_id: str) -> PaymentIntent:
        """The payment as it is now."""
        with asking():
            return stripe_objects.payment_intent(
                as_json(self._v1.payment_intents.retrieve(payment_intent_id))
            )

    def cancel_payment(self, payment_intent_id: str) -> PaymentIntent:
        """Make sure that it can never be paid. Raises StripeRefused when it was paid meanwhile."""
        try:
            with asking():
                ended = self._v1.payment_intents.cancel(
                    payment_intent_id,
                    {"cancellation_reason": "abandoned"},
                    {"idempotency_key": f"cancel:{payment_intent_id}"},
                )
                return stripe_objects.payment_intent(as_json(ended))
        except StripeRefused as refused:
            found = self.payment_intent(payment_intent_id)
            if found.status != "canceled":
                raise refused from None
            return found

    def refund(
        self, *, tenant_id: UUID, request_id: UUID, payment_intent_id: str, amount_minor: int
    ) -> Refund:
        """Send money back the way it came; pending at first."""
        names = {"tenant_id": str(tenant_id), "request_id": str(request_id)}
        with asking():
            made = self._v1.refunds.create(
                {
                    "payment_intent": payment_intent_id, "amount": amount_minor,
                    "reason": "requested_by_customer", "metadata": names,
                },
                {"idempotency_key": f"refund:{request_id}"},
            )  # fmt: skip
            return stripe_objects.refund(as_json(made))

    def refunds_since(self, at: datetime) -> Iterator[Refund]:
        """Refunds made since then, by whomever, newest first."""
        pages = each(
            lambda: self._v1.refunds.list(
                {"created": {"gte": int(at.timestamp())}, "limit": PAGE_SIZE}
            )
        )
        for found in pages:
            with asking():
                refund = stripe_objects.refund(found)
            yield refund
