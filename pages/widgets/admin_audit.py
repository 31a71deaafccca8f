"""Who did what, newest first: across the platform for operators, in their tenant for its admins. Nothing
here can be changed; the whole log of a period is an export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import get_args
from uuid import UUID

import pandas as pd
import streamlit as st

from core import db
from core.identity import audit, members, tenants
from core.identity.access import Operator, Principal
from core.identity.audit import Entry, Outcome
from pages.widgets import paging, shown

_PAGE = 50
_LIST = "audit"
_OUTCOMES = {"done": "Done", "denied": "Denied", "failed": "Failed"}


def draw(who: Principal | Operator) -> None:
    """The search, the table, the way to older entries."""
    places, people = _names(who)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="bottom")
        head.markdown("**Audit log**", width="stretch")
        tenant_id = None
        if isinstance(who, Operator):
            tenant_id = head.selectbox(
                "Tenant", [None, *places], key="audit_tenant", width=200,
                format_func=lambda of: places[of] if of else "All tenants",
            )  # fmt: skip
        outcome: Outcome | None = head.selectbox(
            "Outcome", [None, *get_args(Outcome)], key="audit_outcome", width=120,
            format_func=lambda of: _OUTCOMES[of] if of else "Any",
        )  # fmt: skip
        words = head.text_input(
            "Search", key="audit_words", width=220, placeholder="Act, object, person",
        )  # fmt: skip
        selection = repr((tenant_id, outcome, words))
        passed: tuple[int, ...] = paging.trail(_LIST, selection)
        with db.transaction(who) as session:
            rows = audit.recent(
                session, who, tenant_id=tenant_id, words=words, outcome=outcome,
                subjects=[of for of, email in people.items() if words and words in email],
                before_id=passed[-1] if passed else None, limit=_PAGE + 1,
            )  # fmt: skip
        if not rows:
            st.caption("Nothing was recorded that fits.")
            return
        _table(rows[:_PAGE], places, people)
        last = rows[_PAGE - 1].audit_id if len(rows) > _PAGE else None
        said = f"Times are {shown.zone()}. Entries are never changed."
        paging.turn(_LIST, selection, passed, last, said)


def _names(who: Principal | Operator) -> tuple[dict[UUID, str], dict[UUID, str]]:
    """The tenants by id, and the people's e-mails, as far as this reader knows them."""
    with db.transaction(who) as session:
        if isinstance(who, Principal):
            found = members.colleagues(session, who)
            return {who.tenant_id: who.tenant_name}, {p.user_id: p.email for p in found}
        every = tenants.every_tenant(session, who)
    people = {person.user_id: person.email for entry in every for person in entry.members}
    return {entry.tenant_id: entry.name for entry in every}, people


def _table(rows: tuple[Entry, ...], places: Mapping[UUID, str], people: Mapping[UUID, str]) -> None:
    by_text = {str(user_id): email for user_id, email in people.items()}
    st.dataframe(
        pd.DataFrame(
            {
                "time": pd.to_datetime([row.occurred_at for row in rows], utc=True),
                "actor": [_named(row.actor, by_text) for row in rows],
                "action": [row.action for row in rows],
                "object": [_named(row.object, by_text) for row in rows],
                "tenant": [places.get(row.tenant_id, "") if row.tenant_id else "" for row in rows],
                "outcome": [_OUTCOMES.get(row.outcome, row.outcome) for row in rows],
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


def _named(subject: str, people: Mapping[str, str]) -> str:
    """'user:<id>' with the e-mail of a person who is known; anything else as it is."""
    kind, _, of = subject.partition(":")
    return f"{kind}: {people[of]}" if of in people else subject


def _facts(facts: dict[str, object] | None) -> str:
    return "" if facts is None else json.dumps(facts, ensure_ascii=False, sort_keys=True)
