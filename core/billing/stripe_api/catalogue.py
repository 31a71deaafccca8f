"""What is sold, mirrored to Stripe: products and prices found by our own keys, and meters of usage.

A price never changes at Stripe: another amount is another price that takes the lookup key over. The
old one stays usable for pages that are already open.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from core.billing.stripe_api.asks import MirroredPrice, UsageTier
from core.billing.stripe_api.connection import (
    CURRENCY,
    PAGE_SIZE,
    Connection,
    as_json,
    asking,
    each,
    rows_of,
    text,
)
from core.billing.stripe_api.refusals import StripeRefused
from core.billing.stripe_objects import Json


class Catalogue(Connection):
    """Every method raises StripeDown or StripeRefused."""

    def mirror_price(
        self,
        *,
        kind: str,
        code: str,
        title: str,
        price_minor: int,
        monthly: bool,
        again: bool = False,
    ) -> MirroredPrice:
        """The product and price of this offer, made or renamed where they are missing or differ.

        `again`: a new price for the same amount too, since the old one was sold with other terms.
        """
        lookup_key = f"purser_{kind}_{code}"
        self._ensure_product(lookup_key, title)
        standing = self._price_by(lookup_key)
        fits = standing is not None and _sells(standing, lookup_key, price_minor, monthly=monthly)
        if standing is not None and fits and not again:
            return MirroredPrice(lookup_key, text(standing, "id"))
        every = "month" if monthly else "once"
        before = _id_of(standing or self._price_by(lookup_key, active=False))
        key = f"price:{lookup_key}:{before}:{price_minor}:{every}"
        with asking():
            made = (
                self._v1.prices.create(
                    {
                        "currency": CURRENCY, "product": lookup_key, "unit_amount": price_minor,
                        "lookup_key": lookup_key, "transfer_lookup_key": True,
                        "recurring": {"interval": "month"},
                    },
                    {"idempotency_key": key},
                )
                if monthly
                else self._v1.prices.create(
                    {
                        "currency": CURRENCY, "product": lookup_key, "unit_amount": price_minor,
                        "lookup_key": lookup_key, "transfer_lookup_key": True,
                    },
                    {"idempotency_key": key},
                )
            )  # fmt: skip
            return MirroredPrice(lookup_key, text(as_json(made), "id"))

    def create_meter(self, *, event_name: str, title: str) -> str:
        """The id of the active meter of this name, made when there is none. It sums per customer."""
        standing = each(
            lambda: self._v1.billing.meters.list({"status": "active", "limit": PAGE_SIZE})
        )
        with asking():
            for meter in standing:
                if meter.get("event_name") == event_name:
                    return text(meter, "id")
            made = self._v1.billing.meters.create(
                {
                    "display_name": title, "event_name": event_name,
                    "default_aggregation": {"formula": "sum"},
                    "customer_mapping": {
                        "type": "by_id", "event_payload_key": "stripe_customer_id",
                    },
                    "value_settings": {"event_payload_key": "value"},
                },
                {"idempotency_key": f"meter:{event_name}"},
            )  # fmt: skip
            return text(as_json(made), "id")

    def create_usage_price(
        self, *, meter_id: str, event_name: str, title: str, tiers: tuple[UsageTier, ...]
    ) -> str:
        """The id of the monthly metered price with these graduated tiers, made when it is missing."""
        lookup_key = f"purser_usage_{event_name}"
        self._ensure_product(lookup_key, title)
        standing = self._price_by(lookup_key)
        if standing is not None and _meters(standing, meter_id, tiers):
            return text(standing, "id")
        before = _id_of(standing or self._price_by(lookup_key, active=False))
        terms = "-".join(f"{tier.up_to or 'inf'}x{tier.unit_minor}" for tier in tiers)
        with asking():
            made = self._v1.prices.create(
                {
                    "currency": CURRENCY, "product": lookup_key, "lookup_key": lookup_key,
                    "transfer_lookup_key": True, "billing_scheme": "tiered",
                    "tiers_mode": "graduated",
                    "recurring": {
                        "interval": "month", "usage_type": "metered", "meter": meter_id,
                    },
                    "tiers": [
                        {"up_to": tier.up_to or "inf", "unit_amount_decimal": tier.unit_minor}
                        for tier in tiers
                    ],
                },
                {"idempotency_key": f"price:{lookup_key}:{before}:{terms}"[:255]},
            )  # fmt: skip
            return text(as_json(made), "id")

    def send_usage(
        self, *, event_name: str, identifier: str, customer_id: str, units: int, at: datetime
    ) -> None:
        """Report units used at a time (within 35 days back). Taken is not yet counted: Stripe checks
        later and reports what it could not match as events. One call per customer at a time."""
        with asking():
            self._v1.billing.meter_events.create(
                {
                    "event_name": event_name, "identifier": identifier,
                    "timestamp": int(at.timestamp()),
                    "payload": {"stripe_customer_id": customer_id, "value": str(units)},
                },
                {"idempotency_key": f"usage:{identifier}"},
            )  # fmt: skip

    def _ensure_product(self, product_id: str, title: str) -> None:
        try:
            with asking():
                found = as_json(self._v1.products.retrieve(product_id))
        except StripeRefused as refused:
            if refused.code != "resource_missing":
                raise
            with asking():
                self._v1.products.create(
                    {"id": product_id, "name": title}, {"idempotency_key": f"product:{product_id}"}
                )
            return
        if found.get("name") != title or not found.get("active"):
            with asking():
                self._v1.products.update(product_id, {"name": title, "active": True})

    def _price_by(self, lookup_key: str, *, active: bool = True) -> Json | None:
        """The price that bears the key; one that was archived bears it until another takes it."""
        with asking():
            found = self._v1.prices.list(
                {
                    "lookup_keys": [lookup_key], "active": active, "limit": 1,
                    "expand": ["data.tiers"],
                }
            )  # fmt: skip
            rows = rows_of(as_json(found))
            return rows[0] if rows else None


def _id_of(standing: Json | None) -> str:
    """Part of the key of what replaces it: going back to an old amount is a new request, and so is
    the amount of a price that was archived, which the old request would bring back."""
    return text(standing, "id") if standing is not None else "first"


def _sells(price: Json, product_id: str, price_minor: int, *, monthly: bool) -> bool:
    recurring = price.get("recurring")
    every = recurring.get("interval") if recurring else None
    return (price.get("product"), price.get("unit_amount"), price.get("currency"), every) == (
        product_id, price_minor, CURRENCY, "month" if monthly else None,
    )  # fmt: skip


def _meters(price: Json, meter_id: str, tiers: tuple[UsageTier, ...]) -> bool:
    standing = [
        (tier.get("up_to"), Decimal(tier.get("unit_amount_decimal") or 0))
        for tier in price.get("tiers") or ()
    ]
    wanted = [(tier.up_to, tier.unit_minor) for tier in tiers]
    return (price.get("recurring") or {}).get("meter") == meter_id and standing == wanted
