"""API keys as the pages show them: the form of a new one (its secret is shown once), the table, and the
way to end one. The secret is in no table, URL or log; once its dialog is closed nobody can read it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session
from streamlit.delta_generator import DeltaGenerator

from core import clock, settings
from core.analytics.budgets import KeyUse
from core.identity import keys
from core.identity.access import Operator, Principal, Scope, SignedIn
from core.identity.keys import IssuedKey, Key
from core.identity.limits import percent_used
from core.money import parse_usd, show
from pages.widgets import acts, fragments, shown
from pages.widgets import session as tab
from pages.widgets.text import plain

_LIVES: dict[str, int | None] = {
    "30 days": 30, "90 days": 90, "1 year": 365, "Until revoked": None,
}  # fmt: skip
_SCOPES = {Scope.CHAT: "Ask models", Scope.MODELS: "List models", Scope.USAGE: "Read usage"}
_ISSUED = "issued_key"
_UNUSED = KeyUse(0, None)


def new(
    who: Principal | Operator, place: DeltaGenerator, *,
    tenant_id: UUID | None = None, people: Mapping[UUID, str] | None = None,
) -> None:  # fmt: skip
    """The form of a new key: one's own, or (operators) of one of the `people` of a tenant."""
    with (
        place.popover("New key", icon=":material/add:", key=acts.fresh("key_new")),
        st.form(acts.fresh("key_form"), border=False),
    ):
        user_id = None
        if people is not None:
            user_id = st.selectbox(
                "For whom",
                list(people),
                format_func=people.__getitem__,
                key=acts.fresh("key_owner"),
            )
        name = st.text_input(
            "Name", placeholder="What uses it", max_chars=100, key=acts.fresh("key_name")
        )
        scopes = st.pills(
            "May", list(_SCOPES), selection_mode="multi", default=list(_SCOPES),
            format_func=_SCOPES.__getitem__, key=acts.fresh("key_scopes"),
        )  # fmt: skip
        budget = st.text_input(
            "Budget a month, in USD", placeholder="No budget of its own", max_chars=20,
            key=acts.fresh("key_budget"),
            help="The key is refused once its calls of a month cost this much.",
        )  # fmt: skip
        life = st.selectbox("Valid for", list(_LIVES), index=1, key=acts.fresh("key_life"))
        if st.form_submit_button("Create key", type="primary"):
            days = _LIVES.get(life)
            _issue(
                who,
                lambda session: keys.issue(
                    session, who, name, tenant_id=tenant_id, user_id=user_id,
                    scopes=[str(scope) for scope in scopes],
                    budget_nusd=parse_usd(budget) if budget.strip() else None,
                    expires_at=None if days is None else clock.now() + timedelta(days=days),
                ),
            )  # fmt: skip


def _issue(who: Principal | Operator, work: acts.Work[IssuedKey]) -> None:
    issued = acts.attempt(who, work)
    if issued is not None:
        tab.keep(_ISSUED, issued)
        acts.renew()


def show_issued() -> None:
    """Show the secret of a key made in the run before, and forget it."""
    issued = tab.holds(_ISSUED)
    tab.drop(_ISSUED)
    if isinstance(issued, IssuedKey):
        _show_once(issued)


@fragments.dialog("The new API key", width="medium")
def _show_once(_found: SignedIn, issued: IssuedKey) -> None:
    st.markdown("Copy it now: **it is shown this once** and cannot be read again.")
    st.code(issued.secret, language=None, wrap_lines=True)
    st.markdown("Try it:")
    st.code(_example(issued.secret), language="bash", wrap_lines=True)


def _example(secret: str) -> str:
    address, model = settings.current().app_url, settings.current().openrouter_default_model
    if settings.current().openrouter_api_key is None:
        model = "demo/purser"
    return (
        f"curl {address}/v1/chat/completions \\\n"
        f'  -H "Authorization: Bearer {secret}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Ahoy"}}]}}\''
    )


def table(rows: Sequence[Key], uses: Mapping[UUID, KeyUse], owners: Mapping[UUID, str]) -> None:
    """Each key with what it did this month; `owners` by id where they are several people's."""
    found = [(row, uses.get(row.key_id, _UNUSED)) for row in rows]
    frame = pd.DataFrame(
        {
            "name": [row.name for row, _ in found],
            "owner": [owners.get(row.user_id, "") for row, _ in found],
            "prefix": [f"{row.prefix}…" for row, _ in found],
            "state": [_state_beside(row, use) for row, use in found],
            "spent": [show(use.spent_nusd) for _, use in found],
            "budget": [_budget(row) for row, _ in found],
            "center": [row.cost_center or shown.NONE for row, _ in found],
            "project": [row.project or shown.NONE for row, _ in found],
            "scopes": [", ".join(_scope(s) for s in sorted(row.scopes)) for row, _ in found],
            "used": [shown.moment(use.last_used_at) for _, use in found],
            "expires": [_expiry(row) for row, _ in found],
            "created": [shown.moment(row.created_at) for row, _ in found],
        }
    )
    right = st.column_config.TextColumn
    st.dataframe(
        frame, hide_index=True, key="keys", height="content",
        column_order=[c for c in frame.columns if owners or c != "owner"],
        alt="Name, prefix, state, spend, budget and dates of each API key",
        column_config={
            "name": st.column_config.TextColumn("Name", pinned=True),
            "owner": "Owner", "prefix": "Begins with", "state": "State",
            "spent": right("Spent this month", alignment="right"),
            "budget": right("Budget", alignment="right"), "scopes": "May",
            "center": st.column_config.TextColumn(
                "Cost centre", help="Where its calls are booked. Your admins set it."
            ),
            "project": "Project",
            "used": st.column_config.TextColumn("Last used", help="Within the last 90 days."),
            "expires": "Ends", "created": "Created",
        },
    )  # fmt: skip


def revoke(who: Principal | Operator, rows: Sequence[Key]) -> None:
    """The way to end one of those that still work."""
    live = [row for row in rows if _state(row) == "Active"]
    if not live:
        return
    with st.popover("Revoke a key", icon=":material/key_off:", key=acts.fresh("key_revoke")):
        names = {row.key_id: f"{row.name} ({row.prefix}…)" for row in live}
        chosen = st.selectbox(
            "Key", list(names), format_func=names.__getitem__, key=acts.fresh("key_chosen")
        )
        st.markdown(
            "Programs that use this key are refused at once, for good. Calls that run now end"
            " normally, and what the key did stays in your usage."
        )
        if st.button("Revoke this key", type="primary", key=acts.fresh("key_revoke_now")):
            said = acts.attempt(who, lambda session: _end(session, who, chosen, names[chosen]))
            if said is not None:
                acts.done(said)


def _end(session: Session, who: Principal | Operator, key_id: UUID, name: str) -> str:
    keys.revoke(session, who, key_id)
    return f"Revoked {plain(name)}."


def _state(row: Key) -> str:
    if row.revoked_at is not None:
        return "Revoked"
    if row.expires_at is not None and row.expires_at <= clock.now():
        return "Expired"
    return "Active"


def _state_beside(row: Key, use: KeyUse) -> str:
    """Its state; of one that works, also that its budget does not let it any more."""
    state = _state(row)
    if state != "Active" or row.budget_nusd is None or use.spent_nusd < row.budget_nusd:
        return state
    return f"Budget used: {percent_used(use.spent_nusd, row.budget_nusd):,} %"


def _budget(row: Key) -> str:
    return "No limit" if row.budget_nusd is None else show(row.budget_nusd)


def _scope(scope: str) -> str:
    return _SCOPES[Scope(scope)].lower()


def _expiry(row: Key) -> str:
    ended = row.revoked_at or row.expires_at
    return "When revoked" if ended is None else shown.moment(ended)
