"""Packages of credit as cards, with the button that buys one. What it costs and brings is the row's;
what is charged is decided on the payment page."""

from __future__ import annotations

import streamlit as st

from core.billing import offers
from core.billing.sales_tables import Package
from pages.widgets import billing_desk, shown
from pages.widgets.billing_desk import Desk
from pages.widgets.text import plain


def draw(desk: Desk) -> None:
    """The cards, or why nothing is sold."""
    if not desk.sales.packages:
        st.info("No package is for sale right now.", icon=":material/info:")
        return
    save_card = st.checkbox(
        "Keep my card for automatic top-up", key="save_card",
        help="The payment provider keeps it, we never see its number. Nothing is charged to it"
        " without your consent.",
    )  # fmt: skip
    with st.grid(3, min_column_width=230, gap="small"):
        for package in desk.sales.packages:
            with st.container(border=True, height="stretch"):
                _card(desk, package, save_card=save_card)
    st.caption("Credit is counted in US dollars, like what calls cost.")


def _card(desk: Desk, package: Package, *, save_card: bool) -> None:
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown(f"**{plain(package.title)}**", width="stretch")
    if package.badge:
        head.badge(plain(package.badge), icon=":material/star:", color="violet")
    st.subheader(shown.cents(package.price_minor), anchor=False)
    bonus = f" + {shown.usd(package.bonus_nusd)} bonus" if package.bonus_nusd else ""
    st.markdown(f"{shown.usd(package.credits_nusd)} credit{bonus}")
    st.caption(f"\\${offers.value_per_usd(package):.2f} of credit per dollar")
    st.markdown("\n".join(f"- {plain(feature)}" for feature in package.features))
    st.space("stretch")
    if st.button(
        "Buy", icon=":material/add_card:", width="stretch", key=f"buy_{package.package_code}",
        type="primary" if package.badge else "secondary",
    ):  # fmt: skip
        billing_desk.buy_package(desk, package.package_code, save_card=save_card)
