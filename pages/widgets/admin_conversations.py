"""Conversations as metadata, for admins and operators: who, when, which model, what it cost. Never a title
and never a text: those are their owner's."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pandas as pd
import streamlit as st

from core import db
from core.alerts.rules import DEAR_CONVERSATION_NUSD
from core.analytics import conversations
from core.analytics.conversations import Metadata, Place
from core.analytics.selection import Group, Selection
from core.identity.access import Operator, Principal
from core.periods import last_days
from pages.widgets import paging, shown

_DAYS = {"7 days": 7, "30 days": 30, "90 days": 90}
_LINES = 50
_LIST = "conversations"


def draw(who: Principal | Operator, tenant_id: UUID | None = None) -> None:
    """The conversations last used in a period, newest first; of one tenant, or (operators) of all."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Conversations**", width="stretch")
        span = head.segmented_control(
            "Period", list(_DAYS), default="30 days", required=True, key="conversations_span",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
        st.caption("Who, when, which model and what it cost. What was said is its owner's alone.")
        period = last_days(_DAYS.get(str(span), 30), datetime.now(UTC).date())
        selection = Selection(period)
        if tenant_id is not None:
            selection = selection.only(Group.TENANT, tenant_id)
        trail: tuple[Place, ...] = paging.trail(_LIST, repr(selection))
        with db.transaction(who) as session:
            page = conversations.metadata(
                session, who, selection, after=trail[-1] if trail else None, limit=_LINES
            )
        if not page.rows:
            st.caption("No conversation was used in this period.")
            return
        _table(page.rows)
        paging.turn(_LIST, repr(selection), trail, page.next)


def _table(rows: tuple[Metadata, ...]) -> None:
    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "last": pd.to_datetime([row.last_at for row in rows], utc=True),
                "person": [row.person for row in rows],
                "model": [row.model for row in rows],
                "requests": [row.requests for row in rows],
                "tokens": [row.tokens for row in rows],
                "cost": [shown.usd_exact(row.billed_nusd) for row in rows],
                "state": [
                    "Over $10" if row.billed_nusd > DEAR_CONVERSATION_NUSD else "" for row in rows
                ],
                "first": pd.to_datetime([row.first_at for row in rows], utc=True),
            }
        ),
        hide_index=True, key="conversations", height="content" if len(rows) < 15 else 520,
        alt="Last use, person, model, requests, tokens and cost of each conversation",
        column_config={
            "last": column.DatetimeColumn(
                "Last used", format="MMM D, HH:mm", timezone=shown.zone(), pinned=True
            ),
            "person": column.TextColumn("Person", width=190),
            "model": column.TextColumn("Last model"),
            "requests": column.NumberColumn("Requests", format="localized", width=80),
            "tokens": column.NumberColumn("Tokens", format="localized", width=90),
            "cost": column.TextColumn("Cost", alignment="right"),
            "state": column.TextColumn("", width=80),
            "first": column.DatetimeColumn("Begun", format="MMM D, HH:mm", timezone=shown.zone()),
        },
    )  # fmt: skip
