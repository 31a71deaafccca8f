"""One tenant in an operator's hands: credit, mode, payments, people, limits, settings, suspension. Shows
no chat, no key."""

from __future__ import annotations

from datetime import UTC, datetime, time

import streamlit as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import db
from core.analytics.overview import TenantRow
from core.billing import credit, subscriptions
from core.billing.sales_tables import CreditRequest
from core.identity import tenants
from core.identity.access import Operator
from core.money import parse_usd
from pages.widgets import (
    acts,
    admin_keys,
    admin_limits,
    admin_members,
    admin_mode,
    admin_models,
    admin_payments,
    admin_settings,
    shown,
)
from pages.widgets.text import plain

_STATES = {
    "waiting": "waits for a second operator",
    "granted": "granted before",
    "refused": "refused before",
}


def draw(operator: Operator, row: TenantRow) -> None:
    """The tenant's card and its acts."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(f"**{plain(row.name)}**", width="stretch")
        if row.status != "active":
            head.badge("Suspended", icon=":material/block:", color="red")
        _grant(operator, row, head)
        admin_mode.draw(operator, row, head)
        _suspension(operator, row, head)
        _facts(row)
        admin_payments.draw(operator, row)
        admin_members.draw(operator, row.tenant_id, row.name)
        admin_limits.draw(operator, row.tenant_id)
    admin_keys.draw(operator, row.tenant_id)
    admin_settings.draw(operator, row.tenant_id)
    admin_models.draw(operator, row.tenant_id)


def _facts(row: TenantRow) -> None:
    gates = "budgets gate" if row.available_nusd is None else shown.usd(row.available_nusd)
    used = shown.NONE if row.limit_percent is None else f"{row.limit_percent:,} %"
    facts = {
        "Balance": shown.usd(row.posted_nusd), "Available": gates,
        "Held": shown.usd(row.held_nusd), "Debt": shown.usd(row.debt_nusd),
        "Receivable": shown.usd(row.receivable_nusd),
        "Spent this month": shown.usd(row.spent_nusd), "Of its limit": used,
        "Alerts": f"{row.open_notices:,}", "Id": f"`{row.tenant_id}`",
    }  # fmt: skip
    with st.grid(4, min_column_width=160, gap="small"):
        for title, value in facts.items():
            with st.container(gap=None):
                st.caption(title)
                st.markdown(value)


def _grant(operator: Operator, row: TenantRow, place: st.delta_generator.DeltaGenerator) -> None:
    with (
        place.popover("Grant credit", icon=":material/add_card:", key=acts.fresh("grant")),
        st.form(acts.fresh("grant_form"), border=False),
    ):
        amount = st.text_input("Amount in USD", placeholder="25.00", key=acts.fresh("grant_amount"))
        reason = st.text_input("Reason", max_chars=500, key=acts.fresh("grant_reason"))
        key = st.text_input(
            "Key", max_chars=200, key=acts.fresh("grant_key"),
            placeholder="Such as the invoice's number",
            help="The same key never grants twice, however often it is sent.",
        )  # fmt: skip
        until = st.date_input(
            "Valid until",
            value=None,
            key=acts.fresh("grant_until"),
            help="Empty: for good. Otherwise to the end of that day, UTC.",
        )
        st.caption(f"Adds credit to {plain(row.name)} at once; its debt is paid first.")
        if st.form_submit_button("Grant", type="primary"):
            ends = datetime.combine(until, time(23, 59, 59), UTC) if until else None
            said = acts.attempt(
                operator, lambda session: _book(session, operator, row, amount, reason, key, ends)
            )
            if said is not None:
                acts.done(said)


def _book(
    session: Session, operator: Operator, row: TenantRow, amount: str, reason: str, key: str,
    expires_at: datetime | None,
) -> str:  # fmt: skip
    """Grant, and say whether it was booked now, had been before, or waits for another operator."""
    entry = credit.ask(
        session, operator, row.tenant_id, parse_usd(amount), key=key, reason=reason,
        expires_at=expires_at,
    )  # fmt: skip
    amount_said = shown.usd(entry.amount_nusd)
    if isinstance(entry, CreditRequest):
        return f"{amount_said} for {plain(row.name)}: {_STATES[entry.state]}."
    if entry.occurred_at == session.scalar(select(func.now())):
        return f"Granted {amount_said} to {plain(row.name)}."
    return f"This key granted {amount_said} before; nothing was booked again."


def _suspension(
    operator: Operator, row: TenantRow, place: st.delta_generator.DeltaGenerator
) -> None:
    active = row.status == "active"
    label, icon = ("Suspend", ":material/block:") if active else ("Activate", ":material/undo:")
    with place.popover(label, icon=icon, key=acts.fresh("suspension")):
        if active:
            st.markdown(
                f"Everybody in {plain(row.name)} is refused at once, in the browser and by API key."
                " Answers that run are finished and charged. Chats, credit and keys are kept."
            )
            if _has_plan(operator, row):
                st.warning(
                    "Its plan goes on at Stripe and is charged each month. Cancel the subscription"
                    " there first if it is to end.",
                    icon=":material/autorenew:",
                )
        else:
            st.markdown(f"{plain(row.name)} may work again at once, with everything it had.")
        if st.button(f"{label} this tenant", type="primary", key=acts.fresh("suspension_now")):
            said = acts.attempt(
                operator, lambda session: _switch(session, operator, row, active=not active)
            )
            if said is not None:
                acts.done(said)


def _has_plan(operator: Operator, row: TenantRow) -> bool:
    """Whether Stripe goes on charging this tenant for a plan."""
    with db.transaction(operator) as session:
        running = subscriptions.current(session, row.tenant_id)
        return running is not None and running.status in subscriptions.LIVE


def _switch(session: Session, operator: Operator, row: TenantRow, *, active: bool) -> str:
    tenants.set_tenant_active(session, operator, row.tenant_id, active=active)
    return f"{plain(row.name)} is {'active' if active else 'suspended'}."
