"""Automatic top-up: what it would buy and when, the buyer's consent in the very words that are kept,
and the way to end it. Without a saved card it only says how to save one."""

from __future__ import annotations

import hashlib

import streamlit as st
from sqlalchemy.orm import Session

from core.billing import topups
from core.billing.ledger import BILLING
from core.billing.sales_tables import AutoTopup
from core.money import NANO_PER_CENT, NotMoney, exact, parse_minor, show_minor
from pages.widgets import acts, billing_desk, shown
from pages.widgets.billing_desk import Desk
from pages.widgets.text import plain

_THRESHOLD, _AMOUNT, _CAP = "5.00", "20.00", "100.00"


def draw(desk: Desk) -> None:
    """The state, and the form to switch it on or change it."""
    row = desk.sales.topup
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Automatic top-up**", width="stretch")
        _state(row, head)
        st.markdown(
            "Buys credit with your saved card whenever little is left, so that nobody waits."
        )
        if row is not None and (row.enabled or row.stopped_reason):
            _agreed(desk, row)
        if desk.sales.card is None:
            _no_card(desk)
        else:
            _form(desk, row)


def consent(team: str, card: str, threshold_nusd: int, amount_minor: int, cap_minor: int) -> str:
    """What the buyer agrees to, as it is shown and kept."""
    return (
        f"I agree that {team} is charged {show_minor(amount_minor)} on {card} without being asked again"
        f" whenever less than {show_minor(threshold_nusd // NANO_PER_CENT)} of credit is left, at most"
        f" {show_minor(cap_minor)} a day, until I switch this off."
    )


def _state(row: AutoTopup | None, place: st.delta_generator.DeltaGenerator) -> None:
    if row is not None and row.stopped_reason:
        place.badge("Stopped", icon=":material/error:", color="orange")
    elif row is not None and row.enabled:
        place.badge("On", icon=":material/check:", color="green")
    else:
        place.badge("Off", color="gray")


def _agreed(desk: Desk, row: AutoTopup) -> None:
    when = billing_desk.day(row.consent_at, desk)
    st.caption(f"Agreed on {when}: {plain(row.consent)}")
    label = "Switch off" if row.enabled else "Leave it off"
    pressed = st.button(label, icon=":material/block:", key=acts.fresh("topup_off"))
    if pressed and acts.attempt(BILLING, lambda session: _switch_off(session, desk)):
        acts.done("Automatic top-up is off.")


def _switch_off(session: Session, desk: Desk) -> bool:
    topups.switch_off(session, desk.who)
    return True


def _no_card(desk: Desk) -> None:
    st.info(
        "No card is saved. Tick “Keep my card” with your next purchase"
        + (", or add one now." if desk.sales.customer else "."),
        icon=":material/credit_card:",
    )
    if desk.sales.customer and st.button("Add a card", key="topup_card"):
        billing_desk.open_portal(desk, card_only=True)


def _form(desk: Desk, row: AutoTopup | None) -> None:
    """Not a form of Streamlit's: the words of the consent follow the amounts as they are typed."""
    with st.grid(3, min_column_width=180, gap="small"):
        threshold = st.text_input(
            "When less is left than, in USD", exact(row.threshold_nusd) if row else _THRESHOLD,
            key=acts.fresh("topup_threshold"), max_chars=20,
        )  # fmt: skip
        amount = st.text_input(
            "Buy for, in USD", shown.typed_cents(row.amount_minor) if row else _AMOUNT,
            key=acts.fresh("topup_amount"), max_chars=20,
        )  # fmt: skip
        cap = st.text_input(
            "At most a day, in USD", shown.typed_cents(row.daily_cap_minor) if row else _CAP,
            key=acts.fresh("topup_cap"), max_chars=20,
        )  # fmt: skip
    try:
        threshold_nusd = parse_minor(threshold) * NANO_PER_CENT
        amount_minor, cap_minor = parse_minor(amount), parse_minor(cap)
    except NotMoney:
        st.warning("Amounts are written in whole cents of USD, such as 20.00.")
        return
    words = consent(
        desk.who.tenant_name, desk.sales.card or "", threshold_nusd, amount_minor, cap_minor
    )
    mark = hashlib.sha256(words.encode()).hexdigest()[:12]  # other words, another tick
    agreed = st.checkbox(plain(words), key=acts.fresh(f"topup_consent_{mark}"))
    label = "Save" if row is not None and row.enabled else "Switch on"
    if not st.button(label, type="primary", key=acts.fresh("topup_on"), disabled=not agreed):
        return
    said = acts.attempt(
        BILLING,
        lambda session: topups.configure(
            session, desk.who, threshold_nusd=threshold_nusd, amount_minor=amount_minor,
            daily_cap_minor=cap_minor, consent=words,
        ),
    )  # fmt: skip
    if said is not None:
        left = shown.usd(threshold_nusd)
        acts.done(f"Automatic top-up is on: it buys when less than {left} is left.")
