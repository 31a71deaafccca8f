"""Draws what is left to spend: the wallet's balance and the month's budget that ends first. It only
shows; whether a call may be made is the gate's to say."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import db
from core.analytics import budgets
from core.analytics.budgets import LimitUse, MonthUse
from core.billing import ledger
from core.billing.ledger import Wallet
from core.identity.access import Principal
from core.identity.limits import LimitName
from core.money import NANO_PER_CENT, exact, show, show_minor
from pages.widgets.text import clean


def balance(who: Principal) -> None:
    """Draw the team's balance as a small badge; nothing where budgets gate, not the wallet."""
    with db.transaction(who) as opened:
        wallet = ledger.wallet(opened, who.tenant_id)
    if wallet.debt_nusd:
        st.badge(
            clean(f"{show(wallet.debt_nusd)} owed"), icon=":material/error:", color="red",
            help="New calls start again once credit is added; it pays this first.",
        )  # fmt: skip
    elif wallet.available_nusd is not None:
        st.badge(
            clean(cents(wallet.available_nusd)), icon=":material/account_balance_wallet:",
            color="green" if wallet.available_nusd else "orange",
            help=clean(f"Your team's credit: ${exact(wallet.available_nusd)} available."),
        )  # fmt: skip


def left(who: Principal, slot: DeltaGenerator) -> None:
    """Draw into `slot` what the month's tightest budget leaves, else what the wallet has."""
    with db.transaction(who) as opened:
        month = budgets.this_month(opened, who)
        wallet = ledger.wallet(opened, who.tenant_id)
    tightest = _tightest(month)
    credit = _credit(wallet)
    if tightest is None or tightest.maximum is None:
        slot.caption(clean(credit), width="content")
        return
    whose = "Your own budget" if tightest.scope == "user" else "Your team's budget"
    resets = month.resets_at.astimezone(ZoneInfo(who.time_zone))
    slot.caption(
        clean(f"{cents(_rest(tightest))} of {cents(tightest.maximum)} left"),
        width="content",
        help=clean(
            f"{whose} for this month; it resets on {resets:%-d %B} ({who.time_zone}). {credit}."
        ),
    )


def cents(amount_nusd: int) -> str:
    """Money at a glance: whole cents, rounded down, so that it never promises what is not there."""
    return show_minor(amount_nusd // NANO_PER_CENT)


def _tightest(month: MonthUse) -> LimitUse | None:
    """The budget of the person or of their team that ends first; None where neither is limited."""
    spends = (
        month.find("user", LimitName.MONTHLY_NUSD),
        month.find("tenant", LimitName.MONTHLY_NUSD),
    )
    return min((use for use in spends if use.maximum is not None), key=_rest, default=None)


def _rest(use: LimitUse) -> int:
    return max(0, (use.maximum or 0) - use.counted)


def _credit(wallet: Wallet) -> str:
    if wallet.debt_nusd:
        return f"{show(wallet.debt_nusd)} owed"
    if wallet.available_nusd is None:
        return "Spending is limited by budgets, not by credit"
    return f"{cents(wallet.available_nusd)} credit available"
