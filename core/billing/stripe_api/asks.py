"""What Stripe is asked for and what it tells, where its objects are not passed on as they are.

Amounts of money are whole cents; `unit_minor` of a tier is exact cents per unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias
from uuid import UUID

PortalFlow: TypeAlias = Literal["payment_method_update"]


@dataclass(frozen=True, slots=True)
class Card:
    """A way to pay that was saved, and what its owner knows it by ("visa •••• 4242")."""

    payment_method_id: str
    label: str


@dataclass(frozen=True, slots=True)
class MirroredPrice:
    """Where an offer of ours is found at Stripe."""

    product_id: str
    price_id: str


@dataclass(frozen=True, slots=True)
class CheckoutAsk:
    """One payment page for one order.

    A subscription needs a price_id; a payment has a price_id or an amount with a title. `asked_at` is
    when this attempt began, from the order's row: the page's end is reckoned from it, so that a repeat
    after StripeDown sends the same request under the same key. Without it, it is now.
    """

    mode: Literal["payment", "subscription"]
    tenant_id: UUID
    order_id: UUID
    attempt: int
    kind: str
    customer_id: str
    price_id: str | None
    amount_minor: int | None
    title: str
    save_card: bool
    success_url: str
    cancel_url: str
    tax: bool = False
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UsageTier:
    """Units up to and including `up_to` (None: all further ones) cost `unit_minor` cents each."""

    up_to: int | None
    unit_minor: Decimal


@dataclass(frozen=True, slots=True)
class Payout:
    """Money sent to our bank."""

    payout_id: str
    currency: str
    amount_minor: int
    arrived_at: datetime
    status: str


@dataclass(frozen=True, slots=True)
class BalanceTransaction:
    """One movement of our balance at Stripe; net = amount - fee."""

    id: str
    category: str
    source_id: str | None
    payment_intent_id: str | None
    amount_minor: int
    fee_minor: int
    net_minor: int
    currency: str
