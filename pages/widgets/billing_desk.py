"""What the parts of the Billing page share: what was read for this run, and how they act. An act asks
core, shows a refusal as such, and leaves for the payment page where there is one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import streamlit as st
import structlog
from streamlit.delta_generator import DeltaGenerator

from core.billing import checkout, customers, stripe_api
from core.billing.balance import Balance
from core.billing.overview import Sales
from core.billing.sales_tables import ORDER_PENDING, Order
from core.billing.stripe_api import CardDeclined, StripeRefused
from core.identity.access import Principal
from core.identity.zones import Calendar
from pages.widgets import acts, redirect
from pages.widgets import session as tab

CREDIT, PLAN, TOPUP = "Credit", "Plan", "Auto top-up"
PAYMENTS, STATEMENT = "Payments", "Statement"
SECTION = "section"
_CLICKS = "billing_clicks"
T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """One buyer's page in one run. `slot` is its top, where the way to another page is drawn."""

    who: Principal
    calendar: Calendar
    balance: Balance
    sales: Sales
    slot: DeltaGenerator

    @property
    def sells(self) -> bool:
        """Whether this tenant can buy anything here."""
        return self.balance.mode == "prepaid" and stripe_api.configured()


def day(at: datetime, desk: Desk) -> str:
    """The tenant's own day of a moment."""
    local = desk.calendar.day_of(at)
    return f"{local:%b} {local.day}, {local:%Y}"


def end(at: datetime | None, desk: Desk) -> str:
    """The day on which credit ends, if it does."""
    return "Never" if at is None else day(at, desk)


def open_section(name: str) -> None:
    """Show a section of the page in the next run; a widget's callback."""
    tab.keep(SECTION, name)


def attempt(work: Callable[[], T]) -> T | None:
    """`acts.attempt_alone` for what asks the payment provider, whose plain no is drawn too."""
    try:
        return acts.attempt_alone(work)
    except (StripeRefused, CardDeclined) as refused:
        log.warning("billing.refused", code=refused.code)
        st.error(
            "**The payment provider declined this.** Nothing was changed. Please try again later.",
            icon=":material/error:",
        )
    return None


def buy_package(desk: Desk, code: str, *, save_card: bool) -> None:
    """Order a package and leave for its payment page."""
    key = _click_key(desk, f"package:{code}")
    to_order(desk, attempt(
        lambda: checkout.start_package(desk.who, code, click_key=key, save_card=save_card)
    ))  # fmt: skip


def subscribe(desk: Desk, plan: str) -> None:
    """Order a plan and leave for its payment page."""
    key = _click_key(desk, f"plan:{plan}")
    to_order(desk, attempt(lambda: checkout.start_plan(desk.who, plan, click_key=key)))


def open_portal(desk: Desk, *, card_only: bool = False) -> None:
    """Leave for the provider's pages of cards and invoices."""
    flow: customers.Flow | None = "payment_method_update" if card_only else None
    url = attempt(lambda: customers.portal(desk.who, flow=flow))
    if url is not None:
        redirect.go(desk.slot, url, "Opening your payment details")


def to_order(desk: Desk, order: Order | None) -> None:
    """To the page an order is paid on; one that needs no payment any more is said to be settled."""
    if order is None:
        return
    if order.session_url and order.state in ORDER_PENDING:
        redirect.go(desk.slot, order.session_url, "Opening the payment page")
    else:
        desk.slot.info("This order is settled already.", icon=":material/info:")


def _click_key(desk: Desk, name: str) -> str:
    """One key for all presses of a button until its order has ended: they make one order."""
    clicks = tab.recall(_CLICKS, dict[str, str]())
    known = clicks.get(name)
    ended = {order.click_key for order in desk.sales.orders if order.state not in ORDER_PENDING}
    if known is None or known in ended:
        known = secrets.token_urlsafe(16)
        tab.keep(_CLICKS, clicks | {name: known})
    return known
