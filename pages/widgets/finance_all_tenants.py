"""A month of every tenant, for operators: who has closed it, what was used, and closing it for all. Says
afterwards who could not be closed, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import db
from core.finance import closing, months
from core.finance.closing import AllClosed
from core.finance.months import OfTenant, State
from core.identity.access import Operator
from core.money import show
from pages.widgets import acts, finance_desk, shown
from pages.widgets import session as tab
from pages.widgets.finance_desk import Desk
from pages.widgets.text import plain

_REPORT = "finance_all_closed"
_NOTHING = AllClosed(date.min, (), 0, ())
_STATES = {State.CLOSED: "Closed", State.OPEN: "Open", State.REOPENED: "Reopened"}
_MANY = 15


def draw(desk: Desk, operator: Operator) -> None:
    """The month, its sums, its tenants."""
    month = finance_desk.pick_month(desk, ())
    with db.transaction(operator) as session:
        rows = months.of_all(session, operator, month)
    _sums(rows)
    report = tab.recall(_REPORT, _NOTHING)
    if report.month == month and report.blocked:
        _blocked(report)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(f"**{finance_desk.month_name(month)}**", width="stretch")
        if not rows:
            st.caption("No tenant had begun by then. Choose a later month.")
            return
        _close_all(operator, month, rows, head)
        st.caption("Choose a tenant at the top to see its checks, or to open its month again.")
        _table(rows)


def _sums(rows: Sequence[OfTenant]) -> None:
    closed = sum(row.state is State.CLOSED for row in rows)
    billed, listed = sum(row.billed_nusd for row in rows), sum(row.list_nusd for row in rows)
    with st.grid(4, min_column_width=160, gap="small"):
        st.metric("Closed", f"{closed:,} of {len(rows):,}", border=True)
        st.metric("Cost", show(billed), border=True)
        st.metric("List cost", show(listed), border=True)
        st.metric("Calls", sum(row.requests for row in rows), format="compact", border=True)


def _table(rows: Sequence[OfTenant]) -> None:
    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "name": [row.name for row in rows],
                "state": [_STATES[row.state] for row in rows],
                "billed": [shown.usd_exact(row.billed_nusd) for row in rows],
                "list": [shown.usd_exact(row.list_nusd) for row in rows],
                "requests": [row.requests for row in rows],
                "closed": [shown.moment(row.closed_at) if row.closed_at else "" for row in rows],
            }
        ),
        hide_index=True, key="months_of_all", height="content" if len(rows) < _MANY else 520,
        alt="State, cost, list cost and calls of the month of each tenant",
        column_config={
            "name": column.TextColumn("Tenant", pinned=True),
            "state": column.TextColumn("State", width=95),
            "billed": column.TextColumn("Cost", alignment="right"),
            "list": column.TextColumn("List cost", alignment="right"),
            "requests": column.NumberColumn("Calls", format="localized"),
            "closed": column.TextColumn("Closed"),
        },
    )  # fmt: skip


def _close_all(
    operator: Operator, month: date, rows: Sequence[OfTenant], head: DeltaGenerator
) -> None:
    """The button, which asks once."""
    left = sum(row.state is not State.CLOSED for row in rows)
    name = finance_desk.month_name(month)
    with head.popover(
        "Close for all tenants", icon=":material/lock:", key=acts.fresh("close_all"),
        disabled=not left,
    ):  # fmt: skip
        st.markdown(
            f"Closes {name} of {left:,} tenant{'' if left == 1 else 's'}, each by itself. Those that"
            " are not at rest are left open and listed. Nothing is deleted."
        )
        accepts = st.checkbox(
            "Also over calls whose cost is not final", key=acts.fresh("close_all_accept")
        )
        if st.button(f"Close {name}", type="primary", key=acts.fresh("close_all_now")):
            with st.spinner("Closing …"):
                report = acts.attempt_alone(
                    lambda: closing.close_all(operator, month, accept_unreconciled=accepts)
                )
            if report is not None:
                tab.keep(_REPORT, report)
                acts.done(
                    f"{name}: {len(report.closed):,} closed, {len(report.blocked):,} blocked."
                )


def _blocked(report: AllClosed) -> None:
    """Who was left open, and why."""
    lines = [
        f"- **{plain(one.name)}**: {plain(closing.reasons(one.blocking))}" for one in report.blocked
    ]
    st.warning(
        f"{len(report.blocked):,} could not be closed:\n" + "\n".join(lines),
        icon=":material/warning:",
    )
