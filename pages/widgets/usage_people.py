"""The team's people and what each used, for admins and finance."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.analytics import people
from core.analytics.charts.parts import dollars
from core.analytics.people import PersonRow
from core.identity.access import SignedIn
from core.periods import Period
from pages.widgets import cached, fragments, over_bar, usage_chart
from pages.widgets.text import plain
from pages.widgets.usage_view import days


@fragments.fragment(parallel=True)
def draw(found: SignedIn, period: Period) -> None:
    """The table of people, the costliest first."""
    who = found.in_tenant
    words = f"{plain(days(period))} · days of {plain(who.time_zone)} · all use, without filters"
    with usage_chart.card("Members", words):
        with usage_chart.waiting(200):
            rows = cached.read(people.of_period, who, period)
        if not rows:
            st.caption("Nobody used anything in this period.")
            return
        _table(rows)


def _table(rows: tuple[PersonRow, ...]) -> None:
    budgets = any(row.budget_nusd is not None for row in rows)
    columns = ["member", "email", "cost", "used", "over", "trend", "requests", "model"]
    over = any((row.budget_percent or 0) > 100 for row in rows)
    hidden = (set() if budgets else {"used"}) | (set() if over else {"over"})
    st.dataframe(
        _frame(rows), hide_index=True, key="members", height="content" if len(rows) < 15 else 520,
        column_order=[column for column in columns if column not in hidden],
        alt="Cost, requests and costliest model of each member",
        column_config={
            "member": st.column_config.TextColumn("Member", pinned=True),
            "email": st.column_config.TextColumn("E-mail"),
            "cost": st.column_config.NumberColumn("Cost", format="$%.4f"),
            "used": st.column_config.ProgressColumn(
                "Budget used this month", format="percent", min_value=0, max_value=1
            ),
            "over": st.column_config.ProgressColumn(
                "Over budget", format="percent", min_value=0, max_value=1, color="red"
            ),
            "trend": st.column_config.AreaChartColumn("Last 14 days", y_min=0),
            "requests": st.column_config.NumberColumn("Requests", format="localized"),
            "model": st.column_config.TextColumn("Costliest model"),
        },
    )  # fmt: skip


def _frame(rows: tuple[PersonRow, ...]) -> pd.DataFrame:
    percents = [row.budget_percent for row in rows]
    used, over = over_bar.colors([None if part is None else part / 100 for part in percents])
    return pd.DataFrame(
        {
            "member": [row.name for row in rows],
            "email": [row.email for row in rows],
            "cost": [dollars(row.cost_nusd) for row in rows],
            "used": used,
            "over": over,
            "trend": [[dollars(day) for day in row.trend_nusd] for row in rows],
            "requests": [row.requests for row in rows],
            "model": [row.top_model for row in rows],
        }
    )
