"""How the team pays and what it bought: the saved card, the provider's portal, orders and invoices.
Cards and tax details are changed on the provider's pages only."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.billing import checkout, stripe_api
from core.billing.sales_tables import Invoice, Order
from core.money import show_minor
from pages.widgets import acts, billing_desk, redirect, shown
from pages.widgets.billing_desk import Desk
from pages.widgets.text import plain

_ORDERS = {
    "open": "Not paid yet", "awaiting": "Payment on its way", "needs_action": "Waits for you",
    "fulfilled": "Paid", "failed": "Payment failed", "expired": "Expired", "canceled": "Canceled",
    "review": "Being looked into",
}  # fmt: skip
_INVOICES = {
    "open": "To be paid", "paid": "Paid", "void": "Void", "uncollectible": "Not collected",
}  # fmt: skip
_KINDS = {"package": "Package", "plan": "Plan", "topup": "Automatic top-up"}


def draw(desk: Desk) -> None:
    """The three cards."""
    _method(desk)
    _orders(desk)
    _invoices(desk.sales.invoices, desk)


def _method(desk: Desk) -> None:
    with st.container(border=True):
        st.markdown("**Payment method**")
        row = st.container(horizontal=True, vertical_alignment="center")
        card = desk.sales.card
        row.markdown(plain(card) if card else "No card is saved.", width="stretch")
        if desk.sales.customer is None or not stripe_api.configured():
            st.caption("Your card, address and tax number are asked for with the first purchase.")
            return
        if row.button(
            "Manage payment and invoices", icon=":material/receipt_long:", key="portal"
        ):  # fmt: skip
            billing_desk.open_portal(desk)


def _orders(desk: Desk) -> None:
    with st.container(border=True):
        st.markdown("**Orders**")
        if not desk.sales.orders:
            st.caption("Nothing was ordered yet.")
            return
        for order in desk.sales.orders:
            if order.state == "needs_action" or (order.state == "open" and order.kind != "topup"):
                _open_order(desk, order)
        _orders_table(desk)


def _open_order(desk: Desk, order: Order) -> None:
    """An order that was left on the payment page, or that the bank wants the buyer for: go on (a
    top-up does so at its notice), or drop it."""
    row = st.container(horizontal=True, vertical_alignment="center")
    price = shown.cents(order.price_minor)
    row.markdown(f"{plain(order.title)}, {price}: {_ORDERS[order.state].lower()}", width="stretch")
    if not stripe_api.configured():
        return
    is_open = order.state == "open" and order.session_url
    if is_open and row.button("Continue", type="primary", key=f"continue_{order.order_id}"):
        billing_desk.to_order(desk, order)
    if row.button("Cancel", key=f"cancel_{order.order_id}"):
        ended = billing_desk.attempt(lambda: checkout.cancel(desk.who, order.order_id))
        if ended is not None:
            acts.done(closing(ended))


def closing(order: Order) -> str:
    """What became of an order that was to be dropped, for people."""
    if order.state == "fulfilled":
        return "It was paid meanwhile, so the credit is yours."
    if order.state in {"awaiting", "review"}:
        return "It is being paid already, so it was not canceled."
    return "The order is canceled. Nothing was charged."


def _orders_table(desk: Desk) -> None:
    found = desk.sales.orders
    frame = pd.DataFrame(
        {
            "date": [billing_desk.day(order.created_at, desk) for order in found],
            "title": [order.title for order in found],
            "kind": [_KINDS.get(order.kind, order.kind) for order in found],
            "price": [_paid(order) for order in found],
            "state": [_ORDERS.get(order.state, order.state) for order in found],
            "note": [order.reason or "" for order in found],
        }
    )
    st.dataframe(
        frame, hide_index=True, key="orders", height="content" if len(found) <= 10 else 390,
        alt="Date, title, kind, amount and state of each order",
        column_config={
            "date": st.column_config.TextColumn("Date"),
            "title": st.column_config.TextColumn("What"),
            "kind": st.column_config.TextColumn("Kind"),
            "price": st.column_config.TextColumn("Amount", alignment="right"),
            "state": st.column_config.TextColumn("State"),
            "note": st.column_config.TextColumn("Note"),
        },
    )  # fmt: skip


def _paid(order: Order) -> str:
    minor = order.price_minor if order.total_minor is None else order.total_minor
    return show_minor(minor)


def _invoices(found: Sequence[Invoice], desk: Desk) -> None:
    with st.container(border=True):
        st.markdown("**Invoices and receipts**")
        if not found:
            st.caption("There are none yet. Each purchase brings one.")
            return
        links = [one.page_url if redirect.is_allowed(one.page_url) else None for one in found]
        frame = pd.DataFrame(
            {
                "number": [invoice.number or "" for invoice in found],
                "date": [billing_desk.day(invoice.created_at, desk) for invoice in found],
                "total": [show_minor(invoice.total_minor) for invoice in found],
                "status": [_INVOICES.get(one.status, one.status) for one in found],
                "link": pd.Series(links, dtype="object"),
            }
        )
        st.dataframe(
            frame, hide_index=True, key="invoices", placeholder="",
            height="content" if len(found) <= 10 else 390,
            alt="Number, date, total and status of each invoice, with its page",
            column_config={
                "number": st.column_config.TextColumn("Number"),
                "date": st.column_config.TextColumn("Date"),
                "total": st.column_config.TextColumn("Total", alignment="right"),
                "status": st.column_config.TextColumn("Status"),
                "link": st.column_config.LinkColumn("Page", display_text="Open"),
            },
        )  # fmt: skip
