"""How one tenant pays, for operators: credit first, billed later up to a limit, or not at all."""

from __future__ import annotations

import streamlit as st
from sqlalchemy.orm import Session

from core.analytics.overview import TenantRow
from core.billing import accounts
from core.billing.ledger import Mode
from core.identity.access import Operator
from core.money import parse_usd
from pages.widgets import acts, shown
from pages.widgets.text import plain

_MEANS: dict[Mode, str] = {
    "prepaid": "Prepaid: credit gates every call",
    "postpaid": "Postpaid: billed monthly, up to a limit",
    "internal": "Internal: budgets gate, nothing is sold",
}


def draw(operator: Operator, row: TenantRow, place: st.delta_generator.DeltaGenerator) -> None:
    """The popover that switches the mode, and sets the limit of a postpaid tenant."""
    with place.popover("Change mode", icon=":material/swap_horiz:", key=acts.fresh("mode")):
        if row.mode == "postpaid":
            _limit_form(operator, row)
        _mode_form(operator, row)


def _mode_form(operator: Operator, row: TenantRow) -> None:
    others = [mode for mode in _MEANS if mode != row.mode]
    with st.form(acts.fresh("mode_form"), border=False):
        mode = st.radio(
            "From now on", others, format_func=_MEANS.__getitem__, key=acts.fresh("mode_to")
        )
        limit = ""
        if "postpaid" in others:
            limit = st.text_input(
                "Credit limit in USD", placeholder="A month's budget of the plan",
                key=acts.fresh("mode_limit"),
                help="Only for postpaid: how far it may go below zero.",
            )  # fmt: skip
        owed_nusd = row.debt_nusd + (row.receivable_nusd if row.mode == "postpaid" else 0)
        write_off = owed_nusd > 0 and st.checkbox(
            f"Write off the {shown.usd(owed_nusd)} that is not paid yet",
            key=acts.fresh("mode_write_off"),
            help="A prepaid tenant keeps its debt: the next credit pays it.",
        )
        st.caption("Calls that run are finished as they began. Credit, keys and chats are kept.")
        if st.form_submit_button("Change mode", type="primary"):
            said = acts.attempt(
                operator,
                lambda session: _switch(session, operator, row, mode, limit, write_off=write_off),
            )
            if said is not None:
                acts.done(said)


def _limit_form(operator: Operator, row: TenantRow) -> None:
    with st.form(acts.fresh("credit_limit_form"), border=False):
        limit = st.text_input(
            "Credit limit in USD", placeholder="500", key=acts.fresh("credit_limit_to"),
            help="How far it may go below zero. Below what it used, new calls wait for a payment.",
        )  # fmt: skip
        if st.form_submit_button("Set the credit limit"):
            said = acts.attempt(operator, lambda session: _limit(session, operator, row, limit))
            if said is not None:
                acts.done(said)


def _switch(
    session: Session, operator: Operator, row: TenantRow, mode: Mode, limit: str, *, write_off: bool
) -> str:
    accounts.switch_mode(
        session, operator, row.tenant_id, mode, write_off=write_off,
        credit_limit_nusd=parse_usd(limit) if limit.strip() else None,
    )  # fmt: skip
    return f"{plain(row.name)} is {mode} from now on."


def _limit(session: Session, operator: Operator, row: TenantRow, limit: str) -> str:
    limit_nusd = parse_usd(limit)
    accounts.set_credit_limit(session, operator, row.tenant_id, limit_nusd)
    return f"{plain(row.name)} may use up to {shown.usd(limit_nusd)} before it pays."
