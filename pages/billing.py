"""Billing: what is left and where it went, what can be bought, how it is paid. Buying needs an admin or
finance; members see what is left and whom to ask. Money is taken on the provider's pages only."""

from __future__ import annotations

import streamlit as st

from core import db
from core.billing import balance, ledger, notices, overview, stripe_api
from core.identity import zones
from core.identity.access import Principal, Role
from core.money import show
from pages.widgets import (
    billing_balance,
    billing_notices,
    billing_packages,
    billing_payments,
    billing_plans,
    billing_return,
    billing_statement,
    billing_topup,
    purse,
)
from pages.widgets import session as tab
from pages.widgets.billing_desk import CREDIT, PAYMENTS, PLAN, SECTION, STATEMENT, TOPUP, Desk
from pages.widgets.text import plain

_PREPAID = (CREDIT, PLAN, TOPUP, PAYMENTS, STATEMENT)
_SECTIONS = {
    "prepaid": _PREPAID,
    "postpaid": (STATEMENT, PAYMENTS, CREDIT),
    "internal": (STATEMENT,),
}


def draw(who: Principal) -> None:
    """The whole page, for one person."""
    _head(who)
    if who.role is Role.MEMBER:
        _member(who)
        return
    slot = st.container()
    billing_return.take(who)
    with db.transaction(who) as session:
        desk = Desk(
            who, zones.calendar_of(session, who.tenant_id), balance.read(session, who),
            overview.read(session, who), slot,
        )  # fmt: skip
        found = notices.of(session, who)
    billing_notices.draw(desk, found)
    billing_balance.cards(desk)
    _section(desk)


def _head(who: Principal) -> None:
    top = st.container(horizontal=True, vertical_alignment="center")
    top.header("Billing", anchor=False, width="stretch")
    if stripe_api.configured() and stripe_api.current().sandbox:
        top.badge("Sandbox: no money moves", icon=":material/science:", color="orange")
    st.caption(f"{plain(who.tenant_name)}, in USD. Days are those of {plain(who.time_zone)}.")


def _member(who: Principal) -> None:
    """What is left, and who can change it."""
    with db.transaction(who) as session:
        wallet = ledger.wallet(session, who.tenant_id)
        found = notices.of(session, who)
    for notice in found:
        billing_notices.words(notice)
    if wallet.available_nusd is None:
        st.info("Your team works on budgets, not on credit. See Usage for what is left of yours.")
        return
    with st.grid(2, min_column_width=180, gap="small"):
        st.metric("Available to your team", purse.cents(wallet.available_nusd), border=True)
        st.metric("Reserved for calls", show(wallet.held_nusd), border=True)
    st.info(
        "To add credit, ask an admin or a finance person of your team.", icon=":material/group:"
    )


def _section(desk: Desk) -> None:
    """The part of the page that was chosen; what does not apply to the tenant's mode is not there."""
    offered = _SECTIONS[desk.balance.mode]
    if tab.holds(SECTION) not in (None, *offered):
        tab.drop(SECTION)
    chosen = st.segmented_control(
        "Part", offered, default=offered[0], required=True, key=SECTION, bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    if desk.balance.mode == "internal":
        st.caption("Nothing is sold to your team: budgets decide, and this shows what was used.")
    if chosen in {PLAN, TOPUP} and not desk.sells:
        _not_set_up()
    elif chosen == PLAN:
        billing_plans.draw(desk)
    elif chosen == TOPUP:
        billing_topup.draw(desk)
    elif chosen == PAYMENTS:
        billing_payments.draw(desk)
    elif chosen == STATEMENT:
        billing_statement.draw(desk)
    else:
        _credit(desk)


def _credit(desk: Desk) -> None:
    """What can be bought, and what the balance is made of."""
    if desk.sells:
        billing_packages.draw(desk)
    elif desk.balance.mode == "prepaid":
        _not_set_up()
    billing_balance.expiring(desk)
    with db.transaction(desk.who) as session:
        found = ledger.lots(session, desk.who.tenant_id)
    billing_balance.lots(desk, found)


def _not_set_up() -> None:
    st.info(
        "Buying is not set up here. Your operator can add credit by hand.", icon=":material/info:"
    )


draw(tab.require())
