"""Who did what across the platform, newest first, for operators. Nothing here can be changed."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from core import db
from core.identity import audit, tenants
from core.identity.access import Operator
from core.identity.audit import Entry
from core.identity.tenants import TenantEntry
from pages.widgets import session as tab
from pages.widgets import shown

_PAGE = 50
_TRAIL = "audit_trail"


def draw(operator: Operator) -> None:
    """A filter by tenant, the table, the way to older entries."""
    with db.transaction(operator) as session:
        every = tenants.every_tenant(session, operator)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="bottom")
        head.markdown("**Audit log**", width="stretch")
        names = {entry.tenant_id: entry.name for entry in every}
        tenant_id = head.selectbox(
            "Tenant", [None, *names], key="audit_tenant", width=260,
            format_func=lambda of: names.get(of, "") if of else "All tenants",
        )  # fmt: skip
        trail = _trail(str(tenant_id))
        with db.transaction(operator) as session:
            rows = audit.recent(
                session, operator, tenant_id=tenant_id, limit=_PAGE + 1,
                before_id=trail[-1] if trail else None,
            )  # fmt: skip
        _table(rows[:_PAGE], every)
        _foot(str(tenant_id), trail, rows)


def _trail(selection: str) -> tuple[int, ...]:
    name, trail = tab.recall(_TRAIL, ("", ()))
    return trail if name == selection else ()


def _table(rows: tuple[Entry, ...], every: tuple[TenantEntry, ...]) -> None:
    people = {str(person.user_id): person.email for entry in every for person in entry.members}
    places = {entry.tenant_id: entry.name for entry in every}
    st.dataframe(
        pd.DataFrame(
            {
                "time": pd.to_datetime([row.occurred_at for row in rows], utc=True),
                "actor": [_named(row.actor, people) for row in rows],
                "action": [row.action for row in rows],
                "object": [_named(row.object, people) for row in rows],
                "tenant": [places.get(row.tenant_id, "") if row.tenant_id else "" for row in rows],
                "outcome": [row.outcome for row in rows],
                "before": [_facts(row.before) for row in rows],
                "after": [_facts(row.after) for row in rows],
            }
        ),
        hide_index=True, key="audit", height=560,
        alt="Time, actor, action, object, tenant and outcome of each act, newest first",
        column_config={
            "time": st.column_config.DatetimeColumn(
                "Time", format="MMM D, HH:mm:ss", timezone=shown.zone(), pinned=True
            ),
            "actor": st.column_config.TextColumn("Who", width=200),
            "action": st.column_config.TextColumn("Did", width=125),
            "object": st.column_config.TextColumn("To", width=200),
            "tenant": st.column_config.TextColumn("Tenant", width=120),
            "outcome": st.column_config.TextColumn("Outcome", width=75),
            "before": "Before", "after": "After",
        },
    )  # fmt: skip


def _named(subject: str, people: dict[str, str]) -> str:
    """'user:<id>' with the e-mail of a person who is in a tenant; anything else as it is."""
    kind, _, of = subject.partition(":")
    return f"{kind}: {people[of]}" if of in people else subject


def _facts(facts: dict[str, object] | None) -> str:
    return "" if facts is None else json.dumps(facts, ensure_ascii=False, sort_keys=True)


def _foot(selection: str, trail: tuple[int, ...], rows: tuple[Entry, ...]) -> None:
    foot = st.container(horizontal=True, vertical_alignment="center")
    foot.caption(f"Times are {shown.zone()}. Entries are never changed.", width="stretch")
    newer = foot.button("Newer", key="audit_newer", disabled=not trail)
    older = foot.button("Older", key="audit_older", disabled=len(rows) <= _PAGE)
    if newer and trail:
        tab.keep(_TRAIL, (selection, trail[:-1]))
        st.rerun()
    elif older and len(rows) > _PAGE:
        tab.keep(_TRAIL, (selection, (*trail, rows[_PAGE - 1].audit_id)))
        st.rerun()
