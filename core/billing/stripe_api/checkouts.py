"""Payment pages: opened for one order each, read back, expired, listed. What was bought is never read
from them: the order's row says it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from core import clock
from core.billing import stripe_objects
from core.billing.stripe_api.asks import CheckoutAsk
from core.billing.stripe_api.connection import (
    CURRENCY,
    PAGE_SIZE,
    CheckoutLine,
    CheckoutParams,
    Connection,
    as_json,
    asking,
    each,
)
from core.billing.stripe_api.refusals import StripeRefused
from core.billing.stripe_objects import CheckoutSession

_OPEN_FOR = timedelta(minutes=35)  # Stripe wants 30; the rest is for repeats of the request


class Checkouts(Connection):
    """Every method raises StripeDown or StripeRefused."""

    def open_checkout(self, ask: CheckoutAsk) -> CheckoutSession:
        """A page to pay on, with its url. The same ask gives the same page, however often."""
        with asking():
            made = self._v1.checkout.sessions.create(
                _wanted(ask), {"idempotency_key": f"checkout:{ask.order_id}:{ask.attempt}"}
            )
            return stripe_objects.checkout_session(as_json(made))

    def checkout_session(self, session_id: str) -> CheckoutSession:
        """The page as it is now."""
        with asking():
            return stripe_objects.checkout_session(
                as_json(self._v1.checkout.sessions.retrieve(session_id))
            )

    def expire_session(self, session_id: str) -> CheckoutSession:
        """Close the page. Where it cannot be closed any more it comes back as it is (see status)."""
        try:
            with asking():
                ended = self._v1.checkout.sessions.expire(
                    session_id, {}, {"idempotency_key": f"expire:{session_id}"}
                )
                return stripe_objects.checkout_session(as_json(ended))
        except StripeRefused as refused:
            found = self.checkout_session(session_id)
            if found.status == "open":
                raise refused from None
            return found

    def sessions_since(self, at: datetime) -> Iterator[CheckoutSession]:
        """Pages opened since then, newest first."""
        pages = each(
            lambda: self._v1.checkout.sessions.list(
                {"created": {"gte": int(at.timestamp())}, "limit": PAGE_SIZE}
            )
        )
        for found in pages:
            with asking():
                session = stripe_objects.checkout_session(found)
            yield session


def _wanted(ask: CheckoutAsk) -> CheckoutParams:
    """The request. Metadata goes on everything the payment makes: a refund or dispute carries no
    session, and Stripe copies nothing by itself."""
    names = {"tenant_id": str(ask.tenant_id), "order_id": str(ask.order_id), "kind": ask.kind}
    closes_at = (ask.asked_at or clock.now()) + _OPEN_FOR
    wanted: CheckoutParams = {
        "mode": ask.mode,
        "ui_mode": "hosted_page",
        "customer": ask.customer_id,
        "client_reference_id": str(ask.order_id),
        "line_items": [_line(ask)],
        "metadata": names,
        "allow_promotion_codes": True,
        "adaptive_pricing": {"enabled": False},  # the buyer's currency would be refunded at a loss
        "expires_at": int(closes_at.timestamp()),
        "success_url": ask.success_url,
        "cancel_url": ask.cancel_url,
    }
    if ask.mode == "subscription":
        wanted["subscription_data"] = {"metadata": names}
    else:
        wanted["invoice_creation"] = {"enabled": True, "invoice_data": {"metadata": names}}
        wanted["payment_intent_data"] = {"metadata": names}
        if ask.save_card:
            wanted["payment_intent_data"]["setup_future_usage"] = "off_session"
    if ask.tax:
        wanted["automatic_tax"] = {"enabled": True}
        wanted["tax_id_collection"] = {"enabled": True}
        wanted["customer_update"] = {"address": "auto", "name": "auto"}
    return wanted


def _line(ask: CheckoutAsk) -> CheckoutLine:
    if ask.price_id is not None:
        return {"price": ask.price_id, "quantity": 1}
    if ask.amount_minor is None:
        raise ValueError("a payment page needs a price or an amount")
    return {
        "price_data": {
            "currency": CURRENCY,
            "unit_amount": ask.amount_minor,
            "product_data": {"name": ask.title},
        },
        "quantity": 1,
    }
