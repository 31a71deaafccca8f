"""Buying on Stripe's page: an order first, one page per click, and what became of each page."""

from __future__ import annotations

from core.billing.checkout.clicks import start_package, start_plan
from core.billing.checkout.outcomes import fulfil, on_expired, on_failed, take
from core.billing.checkout.pages import buyer, cancel, close_old, confirm, open_page, orders, shut

__all__ = [
    "buyer", "cancel", "close_old", "confirm", "fulfil", "on_expired", "on_failed", "open_page", "orders",
    "shut", "start_package", "start_plan", "take",
]  # fmt: skip
