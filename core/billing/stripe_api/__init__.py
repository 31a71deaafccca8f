"""Stripe as far as we use it: one object, installed once per process, that every act goes through.

Only `connection` knows Stripe's library. Nothing here touches the database, decides about money or
may be called inside a transaction.
"""

from __future__ import annotations

from core import errors
from core.billing.stripe_api.asks import (
    BalanceTransaction,
    Card,
    CheckoutAsk,
    MirroredPrice,
    Payout,
    UsageTier,
)
from core.billing.stripe_api.catalogue import Catalogue
from core.billing.stripe_api.checkouts import Checkouts
from core.billing.stripe_api.connection import API_VERSION
from core.billing.stripe_api.customers import Customers
from core.billing.stripe_api.history import History
from core.billing.stripe_api.payments import Payments
from core.billing.stripe_api.refusals import (
    CardDeclined,
    SignatureRefused,
    StripeDown,
    StripeRefused,
)

__all__ = [
    "API_VERSION", "BalanceTransaction", "Card", "CardDeclined", "CheckoutAsk", "MirroredPrice",
    "Payout", "SignatureRefused", "StripeApi", "StripeDown", "StripeRefused", "UsageTier",
    "configured", "current", "install",
]  # fmt: skip


class StripeApi(Customers, Catalogue, Checkouts, Payments, History):
    """Everything we ask of Stripe. Not one method is tried again here with another key."""


_installed: StripeApi | None = None


def install(api: StripeApi | None) -> None:
    """Make it this process's Stripe; None: nothing is sold here."""
    global _installed  # noqa: PLW0603
    _installed = api


def configured() -> bool:
    """Whether anything can be sold."""
    return _installed is not None


def current() -> StripeApi:
    """This process's Stripe. Raises errors.Unavailable when there is none."""
    if _installed is None:
        raise errors.Unavailable("Buying is not set up here.")
    return _installed
