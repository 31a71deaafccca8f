"""Rows of usage as a table: each a call, or a correction with what it changed. No content of any."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.analytics.charts.parts import exact_usd
from core.analytics.details import EventRow
from core.analytics.selection import Group
from core.identity.access import Operator
from pages.widgets import shown
from pages.widgets.usage_view import OUTCOMES, SOURCES, Sight, labels


def draw(sight: Sight, rows: tuple[EventRow, ...]) -> None:
    """The table; who sees one person's use alone is not told whose it is."""
    hidden = set() if sight.sees_many else {"person"}
    if not isinstance(sight.who, Operator):
        hidden |= {"tenant", "list"}
    column = st.column_config
    columns = {
        "time": column.DatetimeColumn("Time", format="MMM D, HH:mm", timezone=shown.zone(), width=105),
        "tenant": column.TextColumn("Tenant", width=120),
        "person": column.TextColumn("Person"),
        "model": column.TextColumn("Model served"),
        "prompt": column.NumberColumn("Tokens in", format="localized", width=80),
        "answer": column.NumberColumn("Tokens out", format="localized", width=80),
        "cost": column.TextColumn(
            "Cost", alignment="right",
            help="Exact. \N{ALMOST EQUAL TO} marks an estimate that may still change.",
        ),
        "list": column.TextColumn("List cost", alignment="right"),
        "outcome": column.TextColumn("Outcome", width=85),
        "seconds": column.NumberColumn("Seconds", format="%.1f", width=70),
        "source": column.TextColumn("From", width=90),
        "cost_center": column.TextColumn("Cost center", width=110),
        "project": column.TextColumn("Project", width=110),
    }  # fmt: skip
    st.dataframe(
        _frame(sight, rows), hide_index=True, key="usage_calls", height="content",
        column_order=[name for name in columns if name not in hidden], column_config=columns,
        alt="Time, model, tokens, cost and outcome of each call",
    )  # fmt: skip


def _frame(sight: Sight, rows: tuple[EventRow, ...]) -> pd.DataFrame:
    tenants = labels(sight, Group.TENANT) if isinstance(sight.who, Operator) else {}
    return pd.DataFrame(
        {
            "time": pd.to_datetime([row.occurred_at for row in rows], utc=True),
            "tenant": [tenants.get(row.tenant_id, "") for row in rows],
            "person": [row.person for row in rows],
            "model": [row.model for row in rows],
            "prompt": [row.prompt_tokens for row in rows],
            "answer": [row.completion_tokens for row in rows],
            "cost": [_cost(row) for row in rows],
            "list": ["" if row.list_nusd is None else exact_usd(row.list_nusd) for row in rows],
            "outcome": [_outcome(row) for row in rows],
            "seconds": [row.latency_ms / 1000 for row in rows],
            "source": [SOURCES.get(row.source, row.source) for row in rows],
            "cost_center": [row.cost_center for row in rows],
            "project": [row.project for row in rows],
        }
    )


def _cost(row: EventRow) -> str:
    return ("\N{ALMOST EQUAL TO} " if not row.final else "") + exact_usd(row.billed_nusd)


def _outcome(row: EventRow) -> str:
    return "Correction" if row.kind == "adjustment" else OUTCOMES.get(row.outcome, row.outcome)
