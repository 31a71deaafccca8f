"""Conversations as metadata, for admins and operators: who, when, which model, what it cost. Never a title
and never a text: those are their owner's."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import pandas as pd
import streamlit as st

from core import clock, db
from core.alerts.rules import DEAR_CONVERSATION_NUSD
from core.analytics import conversations, labels
from core.analytics.conversations import Metadata, Place
from core.analytics.selection import Group, Selection
from core.identity import tenants
from core.identity.access import Operator, Principal
from core.periods import last_days
from pages.widgets import paging, shown

_DAYS = {"7 days": 7, "30 days": 30, "90 days": 90}
_LINES = 50
_LIST = "conversations"


def draw(who: Principal | Operator, tenant_id: UUID | None = None) -> None:
    """The conversations last used in a period, newest first; of one tenant, or (operators) of all."""
    places = _places(who)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Conversations**", width="stretch")
        is_dear = head.toggle("Over $10 only", key="conversations_dear", bind="query-params")
        span = head.segmented_control(
            "Period", list(_DAYS), default="30 days", required=True, key="conversations_span",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
        st.caption(
            "Who, when, which model and what it cost so far. What was said is its owner's alone."
            f" Times are {shown.zone()}."
        )
        period = last_days(_DAYS.get(str(span), 30), clock.now().date())
        selection = Selection(period)
        if tenant_id is not None:
            selection = selection.only(Group.TENANT, tenant_id)
        asked = repr((selection, is_dear))
        trail: tuple[Place, ...] = paging.trail(_LIST, asked)
        with db.transaction(who) as session:
            page = conversations.metadata(
                session, who, selection, after=trail[-1] if trail else None, limit=_LINES,
                above_nusd=DEAR_CONVERSATION_NUSD if is_dear else None,
            )  # fmt: skip
        if not page.rows:
            dear = " and cost more than \\$10" if is_dear else ""
            st.caption(f"No conversation was used in this period{dear}.")
            return
        _table(page.rows, places)
        paging.turn(_LIST, asked, trail, page.next)


def _places(who: Principal | Operator) -> dict[UUID, str]:
    """The tenants by id, for operators, who see more than one."""
    if isinstance(who, Principal):
        return {}
    with db.transaction(who) as session:
        every = tenants.every_tenant(session, who)
    return labels.told_apart({entry.tenant_id: entry.name for entry in every})


def _table(rows: tuple[Metadata, ...], places: Mapping[UUID, str]) -> None:
    column = st.column_config
    columns = {
        "last": column.DatetimeColumn(
            "Last used", format="MMM D, HH:mm", timezone=shown.zone(), pinned=True, width=105
        ),
        "person": column.TextColumn("Person", width=180),
        "cost": column.TextColumn("Cost", alignment="right", width=95),
        "state": column.TextColumn("State", width=80),
        "model": column.TextColumn("Last model"),
        "tenant": column.TextColumn("Tenant", width=130),
        "requests": column.NumberColumn("Requests", format="localized", width=80),
        "tokens": column.NumberColumn("Tokens", format="localized", width=90),
        "first": column.DatetimeColumn(
            "Begun", format="MMM D, HH:mm", timezone=shown.zone(), width=105
        ),
    }
    st.dataframe(
        pd.DataFrame(
            {
                "last": pd.to_datetime([row.last_at for row in rows], utc=True),
                "tenant": [places.get(row.tenant_id, "") for row in rows],
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
        column_order=[name for name in columns if places or name != "tenant"],
        column_config=columns,
    )  # fmt: skip
