"""A person's own recent conversations and what each has cost. Nobody sees those of others here."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.analytics import conversations
from core.analytics.charts.parts import exact_usd
from core.analytics.conversations import ConversationRow
from core.identity.access import SignedIn
from pages.widgets import cached, fragments, shown, usage_chart

_ROWS = 10
_DELETED = "Deleted; only its cost is kept"


@fragments.fragment(parallel=True)
def draw(found: SignedIn) -> None:
    """The last few, each with the way back into it."""
    words = "Your own, whatever the period; each with all it ever cost"
    with usage_chart.card("Recent conversations", words):
        with usage_chart.waiting(200):
            rows = cached.read(conversations.recent, found.in_tenant, _ROWS)
        if not rows:
            st.caption("You have none yet. Ask a first question in Chat.")
            st.page_link("chat.py", label="Open Chat", icon=":material/forum:")
            return
        _table(rows)


def _table(rows: tuple[ConversationRow, ...]) -> None:
    column = st.column_config
    st.dataframe(
        _frame(rows), hide_index=True, key="usage_talks", height="content",
        alt="Title, model, calls and cost of your recent conversations",
        column_config={
            "open": column.LinkColumn("", display_text="Open", width=60),
            "title": column.TextColumn("Conversation"),
            "time": column.DatetimeColumn(
                "Last used", format="MMM D, HH:mm", timezone=shown.zone(), width=110
            ),
            "model": column.TextColumn("Last model"),
            "requests": column.NumberColumn("Calls", format="localized", width=60),
            "tokens": column.NumberColumn("Tokens", format="localized", width=90),
            "cost": column.TextColumn("Cost", alignment="right"),
        },
    )  # fmt: skip


def _frame(rows: tuple[ConversationRow, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "title": [_DELETED if row.title is None else row.title or "Untitled" for row in rows],
            "time": pd.to_datetime([row.last_at for row in rows], utc=True),
            "model": [row.model for row in rows],
            "requests": [row.requests for row in rows],
            "tokens": [row.tokens for row in rows],
            "cost": [exact_usd(row.billed_nusd) for row in rows],
            "open": [f"/?c={row.conversation_id}" if row.title is not None else None
                     for row in rows],
        }
    )  # fmt: skip
