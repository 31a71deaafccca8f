"""The models of the offer as one team has them: which are on, what they were used for, and the way to
switch them off and on, for the team's admins and operators."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import db, settings
from core.analytics import model_use
from core.analytics.model_use import ModelUse
from core.catalog import blocks, models, registry
from core.catalog.models import ModelRow
from core.identity.access import Actor, Operator, Principal
from core.money import NANO_PER_USD
from pages.widgets import acts, composer, offered
from pages.widgets.text import plain

Place = st.delta_generator.DeltaGenerator
_UNUSED = ModelUse(0, 0)
_NAMED_MAX = 3


def draw(who: Principal | Operator, tenant_id: UUID) -> None:
    """The card: what is on and off, as a table, and the two ways between."""
    configured = settings.current()
    with db.transaction(who) as session:
        rows = models.list_models(
            session, tenant_id=None, offered_to="api", development=configured.development,
            configured=registry.offered(configured),
        )  # fmt: skip
        off = blocks.of_tenant(session, tenant_id)
        uses = model_use.of_models(session, who, tenant_id)
    names = {row.model_id: row.name for row in rows}
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Models**", width="stretch")
        on = {of: name for of, name in names.items() if of not in off}
        _turn(who, tenant_id, on, head, off=True)
        _turn(who, tenant_id, {of: names[of] for of in names if of in off}, head, off=False)
        if not rows:
            st.caption("No model is offered here: no provider is set up.")
            return
        st.caption(
            f"{len(on):,} of {len(rows):,} models can be picked. Requests and cost are those of the"
            f" last {model_use.DAYS} days, by the name under which the provider answered."
        )
        _table(rows, off, uses)


def _table(rows: list[ModelRow], off: frozenset[str], uses: dict[str, ModelUse]) -> None:
    used = [(row, uses.get(row.model_id, _UNUSED)) for row in rows]
    used.sort(key=lambda pair: -pair[1].billed_nusd)
    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "name": [row.name for row, _ in used],
                "state": ["Off" if row.model_id in off else "On" for row, _ in used],
                "price": [composer.price(row) for row, _ in used],
                "requests": [use.requests for _, use in used],
                "cost": [use.billed_nusd / NANO_PER_USD for _, use in used],
                "id": [row.model_id for row, _ in used],
            }
        ),
        hide_index=True, key="team_models", height="content" if len(rows) < 12 else 460,
        alt="Name, state, price, requests and cost of each model",
        column_config={
            "name": column.TextColumn("Model", pinned=True),
            "state": column.TextColumn("State", width=80),
            "price": column.TextColumn("Price in / out", width=200),
            "requests": column.NumberColumn("Requests", format="localized"),
            "cost": column.NumberColumn("Cost", format="dollar"), "id": "Id",
        },
    )  # fmt: skip


def _turn(
    who: Principal | Operator, tenant_id: UUID, names: dict[str, str], place: Place, *, off: bool
) -> None:
    label, icon = ("Switch off", "toggle_off") if off else ("Switch on", "toggle_on")
    word = label.lower().replace(" ", "_")
    with place.popover(label, icon=f":material/{icon}:", key=acts.fresh(word), disabled=not names):
        chosen = st.multiselect(
            "Models", list(names), format_func=lambda of: names.get(of, of),
            key=acts.fresh(f"{word}_models_{tenant_id}"), placeholder="Choose or type a name",
        )  # fmt: skip
        st.caption(
            "Nobody in the team can pick it from now on, and calls by API key are refused. Answers"
            " that run are finished; chats and figures are kept."
            if off
            else "Everybody in the team can pick it again."
        )
        if st.button(label, type="primary", key=acts.fresh(f"{word}_now"), disabled=not chosen):
            turn = blocks.block if off else blocks.unblock
            said = acts.attempt(who, lambda session: _all(session, who, tenant_id, chosen, turn))
            if said is not None:
                offered.clear()
                acts.done(f"Switched {'off' if off else 'on'}: {_listed(chosen, names)}.")


def _all(
    session: Session, who: Principal | Operator, tenant_id: UUID, chosen: list[str],
    turn: Callable[[Session, Actor, UUID, str], None],
) -> int:  # fmt: skip
    for model_id in chosen:
        turn(session, who, tenant_id, model_id)
    return len(chosen)


def _listed(chosen: list[str], names: dict[str, str]) -> str:
    said = ", ".join(plain(names[of]) for of in chosen[:_NAMED_MAX])
    more = len(chosen) - _NAMED_MAX
    return f"{said} and {more:,} more" if more > 0 else said
