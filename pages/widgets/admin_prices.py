"""Prices that wait for an operator's word, because the provider listed something odd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st
from sqlalchemy.orm import Session

from core import clock, db
from core.catalog import prices
from core.catalog.prices import HeldPrice
from core.catalog.terms import readable
from core.identity.access import Operator
from pages.widgets import acts, shown
from pages.widgets.text import plain

_SHOWN_MAX = 20


def draw(operator: Operator) -> None:
    """What waits, oldest first; nothing where nothing does."""
    with db.transaction(operator) as session:
        held = prices.list_held(session)
    if not held:
        return
    with st.container(border=True):
        st.markdown(f"**Prices that wait for you ({len(held):,})**")
        st.caption("Until then each model is charged by its last accepted price, or not offered.")
        for price in held[:_SHOWN_MAX]:
            _line(operator, price)
        if len(held) > _SHOWN_MAX:
            st.caption(f"And {len(held) - _SHOWN_MAX:,} more, once these are decided.")


def _line(operator: Operator, price: HeldPrice) -> None:
    line = st.container(horizontal=True, vertical_alignment="center")
    line.markdown(
        f"{plain(price.model_name)}  \n:gray[:small[{plain(price.reason)} · listed"
        f" {shown.ago(price.listed_at)}]]",
        width="stretch",
    )
    with line.popover("Decide", key=acts.fresh(f"price_{price.price_id}")):
        st.markdown(f"Now: {_rates(price.accepted_terms)}  \nListed: {_rates(price.terms)}")
        st.markdown(
            "Accepted, it is charged from the next call on. Rejected, it is not asked again."
        )
        said = None
        if st.button("Accept", type="primary", key=f"accept_{price.price_id}"):
            said = acts.attempt(operator, lambda session: _accept(session, operator, price))
        if st.button("Reject", key=f"reject_{price.price_id}"):
            said = acts.attempt(operator, lambda session: _reject(session, operator, price))
        if said is not None:
            acts.done(said)


def _accept(session: Session, operator: Operator, price: HeldPrice) -> str:
    prices.accept_price(session, operator, price.price_id, now=clock.now())
    return f"Accepted the price of {plain(price.model_name)}."


def _reject(session: Session, operator: Operator, price: HeldPrice) -> str:
    prices.reject_price(session, operator, price.price_id, reason="by an operator")
    return f"Rejected the price of {plain(price.model_name)}."


def _rates(stored: Mapping[str, Any] | None) -> str:
    """Prompt and answer price per million tokens, as listed."""
    if not stored:
        return "none"
    terms = readable(stored)
    if terms is None:
        return "not readable"
    into, out = terms.prompt_usd_per_million, terms.completion_usd_per_million
    return f"\\${into:f} in · \\${out:f} out per million tokens"
