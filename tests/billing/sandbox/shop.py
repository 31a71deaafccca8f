"""What the stand-in's tests buy with: customers, prices, pages and plans through the product's API."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from core.billing.sandbox.control import Control
from core.billing.stripe_api import CheckoutAsk, StripeApi
from core.billing.stripe_objects import CheckoutSession, Subscription
from core.db import new_id

TENANT = UUID("8f14e45f-ceea-467f-a8d1-0d4a5e1c7b21")
SUCCESS = "http://app.test/billing?session_id={CHECKOUT_SESSION_ID}"
BACK = "http://app.test/billing"
DAY_S = 86_400


def customer(api: StripeApi) -> str:
    return api.create_customer(
        tenant_id=TENANT, name="Acme", email="buy@acme.example", key=f"customer:{new_id()}"
    )


def open_page(
    api: StripeApi, *, amount: int | None = 5000, price_id: str | None = None,
    mode: Literal["payment", "subscription"] = "payment", customer_id: str | None = None,
    tax: bool = False,
) -> CheckoutSession:  # fmt: skip
    return api.open_checkout(
        CheckoutAsk(
            mode=mode, tenant_id=TENANT, order_id=new_id(), attempt=1, kind="package",
            customer_id=customer_id or customer(api), price_id=price_id,
            amount_minor=None if price_id else amount, title="Pro credits", save_card=True,
            success_url=SUCCESS, cancel_url=BACK, tax=tax,
        )
    )  # fmt: skip


def plan(api: StripeApi, code: str, price_minor: int) -> str:
    """The price of a plan per month."""
    return api.mirror_price(
        kind="plan", code=code, title=code.title(), price_minor=price_minor, monthly=True
    ).price_id


def paid(api: StripeApi, control: Control, amount: int = 5000) -> str:
    """The payment of a bought package."""
    page = open_page(api, amount=amount)
    control.pay(page.session_id)
    found = api.checkout_session(page.session_id).payment_intent_id
    assert found is not None
    return found


def subscribed(api: StripeApi, control: Control, price_id: str) -> Subscription:
    """A running subscription, bought on the page with a card that works."""
    page = open_page(api, price_id=price_id, mode="subscription")
    control.pay(page.session_id)
    found = api.checkout_session(page.session_id).subscription_id
    assert found is not None
    return api.subscription(found)
