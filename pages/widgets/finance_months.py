"""The months of a team: what was used in each, what is closed, what came late; and the one that is open.
Over all tenants: a month of each, closed together."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.finance.months import Month, State
from pages.widgets import finance_all_tenants, finance_desk, finance_month, shown
from pages.widgets.finance_desk import Desk

_MANY = 13


def draw(desk: Desk) -> None:
    """The table and one month of it."""
    if (operator := desk.operator) is not None and desk.tenant_id is None:
        finance_all_tenants.draw(desk, operator)
        return
    rows = finance_desk.months_of(desk)
    with st.container(border=True):
        st.markdown("**Months**")
        _table(rows)
    month = finance_desk.pick_month(desk, rows, label="Open a month")
    finance_month.draw(desk, next(row for row in rows if row.month == month))


def state_of(row: Month) -> str:
    """A month's state in a word or two."""
    if row.state is State.CLOSED:
        return "Closed"
    if not row.ended:
        return "Running"
    return "Reopened" if row.state is State.REOPENED else "To close"


def _table(rows: Sequence[Month]) -> None:
    column = st.column_config
    st.dataframe(
        _frame(rows), hide_index=True, key="months", placeholder="",
        height="content" if len(rows) <= _MANY else 460,
        alt="State, calls, tokens, cost and late adjustments of each month, newest first",
        column_config={
            "month": column.TextColumn("Month", pinned=True, width=125),
            "state": column.TextColumn("State", width=85),
            "billed": column.TextColumn("Cost", alignment="right", width=120),
            "list": column.TextColumn("List cost", alignment="right", width=120),
            "requests": column.NumberColumn("Calls", format="localized", width=70),
            "tokens": column.NumberColumn("Tokens", format="localized", width=95),
            "late": column.NumberColumn(
                "Late", format="localized", width=60,
                help="Adjustments of the month's calls that came after it was closed.",
            ),
            "late_cost": column.TextColumn("Late cost", alignment="right", width=105),
            "closed": column.TextColumn("Closed", width=150),
        },
    )  # fmt: skip


def _frame(rows: Sequence[Month]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "month": [finance_desk.month_name(row.month) for row in rows],
            "state": [state_of(row) for row in rows],
            "billed": [shown.usd_exact(row.billed_nusd) for row in rows],
            "list": [shown.usd_exact(row.list_nusd or 0) for row in rows],
            "requests": [row.requests for row in rows],
            "tokens": [row.tokens for row in rows],
            "late": pd.array([row.late_count or None for row in rows], dtype="Int64"),
            "late_cost": [shown.usd_exact(row.late_nusd) if row.late_count else "" for row in rows],
            "closed": [
                shown.moment(row.closing.closed_at)
                if row.closing and row.state is State.CLOSED
                else ""
                for row in rows
            ],
        }
    )
    hidden = [] if any(row.list_nusd is not None for row in rows) else ["list"]
    if not any(row.late_count for row in rows):
        hidden += ["late", "late_cost"]
    if not any(row.state is State.CLOSED for row in rows):
        hidden += ["closed"]
    return frame.drop(columns=hidden)
