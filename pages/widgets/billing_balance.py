"""The balance in cards, and the lots it is made of with what ends soon. Draws what was read."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.billing import ledger
from core.billing.balance import EXPIRING_DAYS, PACE_DAYS, Balance
from core.billing.tables import Lot
from core.money import show
from pages.widgets import billing_desk, purse, shown
from pages.widgets.billing_desk import Desk

_LOSSES_SHOWN = 3
_KINDS = {
    "purchase": "Bought", "plan": "Plan", "promo": "Bonus or promotion", "manual": "By hand",
}  # fmt: skip


def cards(desk: Desk) -> None:
    """What is left, set aside and owed, and what was bought and spent over all time."""
    balance = desk.balance
    facts = _facts(desk, balance)
    with st.grid(min(len(facts), 3), min_column_width=150, gap="small"):
        for label, value, about in facts:
            st.metric(
                label, value, border=True, help=about, height="stretch",
                delta=_warning(balance) if label == "Available" else None,
                delta_color="inverse", delta_arrow="off",
            )  # fmt: skip
    st.caption(" ".join([_pace(balance), *_losses(desk)]))


def _facts(desk: Desk, balance: Balance) -> list[tuple[str, str, str]]:
    spent = ("Spent so far", show(balance.spent_nusd), "What all calls have cost over all time.")
    if balance.mode == "internal":
        used = ("Shown back", show(balance.receivable_nusd), "What calls cost that no credit paid.")
        return [spent, used]
    available = (
        "Available", purse.cents(balance.available_nusd or 0),
        "What new calls can spend now: the balance less what is reserved for calls.",
    )  # fmt: skip
    held = (
        "Held",
        show(balance.held_nusd),
        "Reserved for calls that run, at their worst case, and for those whose cost may still change.",
    )
    if balance.mode == "postpaid":
        due = balance.next_invoice_at
        return [
            ("Used, not billed", show(balance.receivable_nusd), "What the next invoice will ask."),
            available,
            ("Credit limit", show(balance.credit_limit_nusd or 0), "How far you may go unpaid."),
            held, spent,
            ("Next invoice", billing_desk.day(due, desk) if due else shown.NONE, "End of the period."),
        ]  # fmt: skip
    ends = balance.runs_out_on
    return [
        available, held,
        ("Owed", show(balance.debt_nusd), "Debt: the next credit pays it first."),
        ("Bought so far", show(balance.purchased_nusd), "All credit bought, less what went back."),
        spent,
        ("Lasts until", f"{ends:%b} {ends.day}, {ends:%Y}" if ends else shown.NONE,
         f"At the mean cost of the last {PACE_DAYS} whole days; what expires before it is used is"
         " not counted."),
    ]  # fmt: skip


def _warning(balance: Balance) -> str | None:
    """What is wrong with what is available, in three words."""
    if balance.is_low:
        return f"Below {show(balance.low_balance_nusd)}"
    lost = sum(loss.amount_nusd for loss in balance.course.losses)
    return f"{show(lost)} expires unused" if lost else None


def _losses(desk: Desk) -> list[str]:
    """What will be lost, and when."""
    losses = desk.balance.course.losses
    if not losses:
        return []
    parts = [
        f"{shown.usd(loss.amount_nusd)} on {billing_desk.day(loss.expires_at, desk)}"
        for loss in losses[:_LOSSES_SHOWN]
    ]
    more = f" and {len(losses) - _LOSSES_SHOWN:,} more" if len(losses) > _LOSSES_SHOWN else ""
    return [f":orange[:material/warning:] Will expire unused: {', '.join(parts)}{more}."]


def _pace(balance: Balance) -> str:
    if balance.pace_nusd <= 0:
        return f"Nothing was spent in the last {PACE_DAYS} whole days, so no end is in sight."
    rate = shown.usd(balance.pace_nusd)
    return f"At the present pace: {rate} a day, the mean of the last {PACE_DAYS} whole days."


def expiring(desk: Desk) -> None:
    """What ends within the next days, the soonest first; nothing where nothing does."""
    balance = desk.balance
    if not balance.expiring:
        return
    total = sum(lot.remaining_nusd for lot in balance.expiring)
    with st.container(border=True):
        st.markdown(f"**Expiring within {EXPIRING_DAYS} days: {shown.usd(total)}**")
        for lot in balance.expiring:
            left = shown.usd(lot.remaining_nusd)
            ends = billing_desk.end(lot.expires_at, desk)
            st.markdown(f"{left} · {_KINDS.get(lot.kind, lot.kind)} · ends {ends}")


def lots(desk: Desk, found: Sequence[Lot]) -> None:
    """Grants with what is left of each, the newest first; of very many, the newest only."""
    with st.container(border=True):
        st.markdown("**Your credit, grant by grant**")
        if not found:
            st.caption("No credit was granted yet. Buy a package or a plan to start.")
            return
        frame = pd.DataFrame(
            {
                "since": [billing_desk.day(lot.effective_at, desk) for lot in found],
                "kind": [_KINDS.get(lot.kind, lot.kind) for lot in found],
                "granted": [shown.usd_exact(lot.granted_nusd) for lot in found],
                "remaining": [shown.usd_exact(lot.remaining_nusd) for lot in found],
                "expires": [billing_desk.end(lot.expires_at, desk) for lot in found],
            }
        )
        st.dataframe(
            frame, hide_index=True, key="lots", height="content" if len(found) <= 10 else 390,
            alt="Each grant of credit: since when, its kind, granted, remaining and expiry",
            column_config={
                "since": st.column_config.TextColumn("Since"),
                "kind": st.column_config.TextColumn("Kind"),
                "granted": st.column_config.TextColumn("Granted", alignment="right"),
                "remaining": st.column_config.TextColumn("Remaining", alignment="right"),
                "expires": st.column_config.TextColumn("Expires"),
            },
        )  # fmt: skip
        if len(found) == ledger.LOTS_MAX:
            st.caption(f"These are the newest {ledger.LOTS_MAX}; the statement has them all.")
        st.caption(
            "What ends first is spent first; bonus and plan credit goes before bought credit."
        )
