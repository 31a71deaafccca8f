"""Who did what, newest first: across the platform for operators, in their tenant for its admins. Nothing
here can be changed; the whole log of the last days is an export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import get_args
from urllib.parse import urlencode
from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session
from streamlit.delta_generator import DeltaGenerator

from core import clock, db, errors
from core.analytics import labels
from core.finance import exports
from core.finance.exports import Asked, State
from core.finance.files import writing
from core.identity import audit, members, tenants, zones
from core.identity.access import Operator, Principal
from core.identity.audit import Entry, Outcome
from core.periods import last_days
from pages.widgets import acts, paging, shown
from pages.widgets import session as tab

_PAGE = 50
_EXPORT_DAYS = 30
_LIST, _ASKED = "audit", "audit_asked"
_OUTCOMES = {"done": "Done", "denied": "Denied", "failed": "Failed"}


def draw(who: Principal | Operator) -> None:
    """The search, the table, the way to older entries."""
    places, people = _names(who)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="bottom")
        head.markdown("**Audit log**", width="stretch")
        tenant_id = who.bound_tenant_id
        if isinstance(who, Operator):
            tenant_id = head.selectbox(
                "Tenant", [None, *places], key="audit_tenant", width=180,
                format_func=lambda of: places[of] if of else "All tenants",
            )  # fmt: skip
        outcome: Outcome | None = head.selectbox(
            "Outcome", [None, *get_args(Outcome)], key="audit_outcome", width=110,
            format_func=lambda of: _OUTCOMES[of] if of else "Any",
        )  # fmt: skip
        words = head.text_input(
            "Search", key="audit_words", width=200, placeholder="Act, object, person",
        )  # fmt: skip
        _export(who, tenant_id, head)
        _exported(who)
        selection = repr((tenant_id, outcome, words))
        passed: tuple[int, ...] = paging.trail(_LIST, selection)
        named = places | people
        with db.transaction(who) as session:
            rows = audit.recent(
                session, who, tenant_id=tenant_id, words=words, outcome=outcome,
                subjects=_meant(words, named), before_id=passed[-1] if passed else None,
                limit=_PAGE + 1,
            )  # fmt: skip
        if not rows:
            st.caption("Nothing was recorded that fits.")
            return
        _table(rows[:_PAGE], places, named)
        last = rows[_PAGE - 1].audit_id if len(rows) > _PAGE else None
        said = f"Times are {shown.zone()}. Entries are never changed."
        paging.turn(_LIST, selection, passed, last, said)


def _export(who: Principal | Operator, tenant_id: UUID | None, place: DeltaGenerator) -> None:
    with place.popover("Export", icon=":material/download:", key=acts.fresh("audit_export")):
        name = st.selectbox(
            "Format", list(writing.FORMATS), key=acts.fresh("audit_format"),
            format_func=lambda of: writing.FORMATS[of].title,
        )  # fmt: skip
        whose = "of all tenants" if tenant_id is None else "of the tenant that is shown"
        whose = "of your team" if isinstance(who, Principal) else whose
        st.caption(
            f"Every entry {whose} of the last {_EXPORT_DAYS} days, whatever is searched for."
        )
        if st.button("Ask for the file", type="primary", key=acts.fresh("audit_ask")):
            asked = acts.attempt(who, lambda session: _ask(session, who, tenant_id, name))
            if asked is not None:
                tab.keep(_ASKED, asked.export_id)
                acts.renew()


def _ask(
    session: Session, who: Principal | Operator, tenant_id: UUID | None, format_name: str
) -> Asked:
    today = clock.now().date()
    if tenant_id is not None:
        today = zones.calendar_of(session, tenant_id).today()
    return exports.ask(
        session, who, "audit", format_name, last_days(_EXPORT_DAYS, today), tenant_id=tenant_id
    )


def _exported(who: Principal | Operator) -> None:
    """The file asked for last in this tab, or where it will be."""
    export_id = tab.holds(_ASKED)
    if not isinstance(export_id, UUID):
        return
    try:
        with db.transaction(who) as session:
            asked = exports.find(session, who, export_id)
    except errors.NotFound:
        tab.drop(_ASKED)
        return
    line = st.container(horizontal=True, vertical_alignment="center")
    days = f"{asked.period.first} to {asked.period.last}"
    if asked.state is State.READY:
        line.link_button("Download", f"/exports/{export_id}", icon=":material/download:")
        line.markdown(f"The audit log of {days} is ready.", width="stretch")
        return
    line.markdown(
        f"The audit log of {days} could not be made. Please ask again."
        if asked.state is State.FAILED
        else f"The audit log of {days} is being made; a notice tells when it is ready.",
        width="stretch",
    )
    of_one = isinstance(who, Operator) and asked.tenant_id is not None
    whose = {"tenant": str(asked.tenant_id)} if of_one else {}
    line.link_button(
        "Exports", f"/finance?{urlencode({'part': 'Exports', **whose})}",
        icon=":material/open_in_new:",
    )  # fmt: skip


def _meant(words: str, named: Mapping[UUID, str]) -> list[UUID]:
    """Whom or what the words may name: the log itself names by id."""
    sought = words.strip().lower()
    return [of for of, name in named.items() if sought and sought in name.lower()]


def _names(who: Principal | Operator) -> tuple[dict[UUID, str], dict[UUID, str]]:
    """The tenants by id, and the people's e-mails, as far as this reader knows them."""
    with db.transaction(who) as session:
        if isinstance(who, Principal):
            found = members.colleagues(session, who)
            return {who.tenant_id: who.tenant_name}, {p.user_id: p.email for p in found}
        every = tenants.every_tenant(session, who)
    people = {person.user_id: person.email for entry in every for person in entry.members}
    places = labels.told_apart({entry.tenant_id: entry.name for entry in every})
    return places, people | {who.user_id: who.email}


def _table(rows: tuple[Entry, ...], places: Mapping[UUID, str], named: Mapping[UUID, str]) -> None:
    by_text = {str(of): name for of, name in named.items()}
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
        hide_index=True, key="audit", height="content" if len(rows) < 15 else 560,
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


def _named(subject: str, by_text: Mapping[str, str]) -> str:
    """'user:<id>' with the name of whom or what is known; anything else as it is."""
    kind, _, of = subject.partition(":")
    return f"{kind}: {by_text[of]}" if of in by_text else subject


def _facts(facts: dict[str, object] | None) -> str:
    return "" if facts is None else json.dumps(facts, ensure_ascii=False, sort_keys=True)
