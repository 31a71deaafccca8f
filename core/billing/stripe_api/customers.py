"""Customers at Stripe: one per tenant, the way it pays, and Stripe's own pages for both."""

from __future__ import annotations

from uuid import UUID

from core.billing.stripe_api.asks import Card, PortalFlow
from core.billing.stripe_api.connection import Connection, as_json, asking, rows_of, text
from core.billing.stripe_objects import Json


class Customers(Connection):
    """Every method raises StripeDown or StripeRefused."""

    def create_customer(self, *, tenant_id: UUID, name: str, email: str, key: str) -> str:
        """The new customer's id; the same one for the same key."""
        with asking():
            made = self._v1.customers.create(
                {"name": name, "email": email, "metadata": {"tenant_id": str(tenant_id)}},
                {"idempotency_key": key},
            )
            return text(as_json(made), "id")

    def default_card(self, customer_id: str) -> Card | None:
        """What invoices are paid with, else the newest card; None without any, or when deleted."""
        with asking():
            found = as_json(
                self._v1.customers.retrieve(
                    customer_id, {"expand": ["invoice_settings.default_payment_method"]}
                )
            )
            if found.get("deleted"):
                return None
            chosen = (found.get("invoice_settings") or {}).get("default_payment_method")
            if chosen:
                return _card(chosen)
            cards = rows_of(as_json(self._v1.customers.payment_methods.list(
                customer_id, {"type": "card", "limit": 1}
            )))  # fmt: skip
            return _card(cards[0]) if cards else None

    def portal_url(
        self, customer_id: str, *, return_url: str, flow: PortalFlow | None = None
    ) -> str:
        """A page of Stripe's for this customer, to be opened now and never stored."""
        with asking():
            if flow is None:
                made = self._v1.billing_portal.sessions.create(
                    {"customer": customer_id, "return_url": return_url}
                )
            else:
                made = self._v1.billing_portal.sessions.create(
                    {"customer": customer_id, "return_url": return_url, "flow_data": {"type": flow}}
                )
            return text(as_json(made), "url")


def _card(method: Json) -> Card:
    card = method.get("card") or {}
    label = f"{card.get('brand') or 'card'} •••• {card['last4']}" if card.get("last4") else None
    return Card(text(method, "id"), label or text(method, "type"))
