"""The team's people and what each used, for admins and finance. Reads nothing itself."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.analytics.queries import PersonRow
from core.analytics.report import Report
from core.money import NANO_PER_USD


def draw(report: Report) -> None:
    """The table of people, the costliest first."""
    with st.container(border=True):
        st.markdown("**Members**")
        if not report.people:
            st.caption("Nobody used anything in this period.")
            return
        budgets = any(person.budget_nusd is not None for person in report.people)
        columns = ["member", "cost", "used", "trend", "requests", "model"]
        st.dataframe(
            _frame(report.people), hide_index=True, key="members", height="content",
            column_order=[c for c in columns if budgets or c != "used"],
            alt="Cost, requests and costliest model of each member",
            column_config={
                "member": st.column_config.TextColumn("Member", pinned=True),
                "cost": st.column_config.NumberColumn("Cost", format="$%.4f"),
                "used": st.column_config.ProgressColumn(
                    "Budget used this month", format="percent", min_value=0, max_value=1
                ),
                "trend": st.column_config.AreaChartColumn("Last 14 days", y_min=0),
                "requests": st.column_config.NumberColumn("Requests", format="localized"),
                "model": st.column_config.TextColumn("Costliest model"),
            },
        )  # fmt: skip


def _frame(people: tuple[PersonRow, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "member": [person.name for person in people],
            "cost": [person.cost_nusd / NANO_PER_USD for person in people],
            "used": [_used(person) for person in people],
            "trend": [[day / NANO_PER_USD for day in person.trend_nusd] for person in people],
            "requests": [person.requests for person in people],
            "model": [person.top_model for person in people],
        }
    )


def _used(person: PersonRow) -> float | None:
    if person.budget_nusd is None:
        return None
    return person.month_nusd / person.budget_nusd if person.budget_nusd else 1.0
