"""The banners of the Billing page: what happened, and the button that settles it. What is up is the
core's to say; a banner cannot be dismissed, it ends with its cause."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core.billing import stripe_api, topups
from core.billing.notices import Notice
from pages.widgets import billing_desk, redirect
from pages.widgets.billing_desk import CREDIT, TOPUP, Desk
from pages.widgets.text import clean

_MANNERS: dict[str, tuple[Callable[..., object], str]] = {
    "stop": (st.error, ":material/error:"),
    "warn": (st.warning, ":material/warning:"),
    "tell": (st.info, ":material/info:"),
}


def draw(desk: Desk, found: tuple[Notice, ...]) -> None:
    """Every notice, with its way on."""
    for number, notice in enumerate(found):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            words(notice)
            _way(desk, notice, f"notice_{notice.name}_{notice.order_id or number}")


def words(notice: Notice) -> None:
    """What a notice says, without its way on."""
    banner, icon = _MANNERS[notice.weight]
    banner(f"**{clean(notice.title)}**  \n{clean(notice.message)}", icon=icon)


def _way(desk: Desk, notice: Notice, key: str) -> None:
    if notice.way == "add_credit" and desk.sells:
        st.button(
            "Add credit", icon=":material/add_card:", type="primary", key=key,
            on_click=billing_desk.open_section, args=(CREDIT,),
        )  # fmt: skip
    elif notice.way == "auto_topup" and desk.sells:
        st.button(
            "Automatic top-up", icon=":material/autorenew:", key=key,
            on_click=billing_desk.open_section, args=(TOPUP,),
        )  # fmt: skip
    elif notice.way == "open_invoice":
        redirect.link("Open invoice", notice.page_url, key=key)
    elif notice.way == "update_card" and stripe_api.configured():
        if st.button("Update card", icon=":material/credit_card:", type="primary", key=key):
            billing_desk.open_portal(desk, card_only=True)
        redirect.link("Open invoice", notice.page_url, key=f"{key}_invoice")
    elif (
        notice.way == "pay_now"
        and notice.order_id is not None
        and stripe_api.configured()
        and st.button("Pay now", icon=":material/payments:", type="primary", key=key)
    ):
        order_id = notice.order_id
        billing_desk.to_order(
            desk, billing_desk.attempt(lambda: topups.pay_now(desk.who, order_id))
        )
