"""The catalogue for operators: the passes over the provider's list, prices that wait, every model with
its price and use. For a team's admins, the models of the offer with on and off for their team."""

from __future__ import annotations

from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import clock, db
from core.analytics import model_use
from core.analytics.model_use import ModelUse
from core.catalog import blocks, models, sync
from core.catalog.models import ModelRow
from core.identity.access import Operator, Principal
from core.money import NANO_PER_USD
from pages.widgets import acts, admin_passes, admin_prices, admin_team_models, composer, offered
from pages.widgets.text import plain

_UNUSED = ModelUse(0, 0)


def draw(who: Principal | Operator, tenant_id: UUID | None) -> None:
    """Of one team, or (an operator, without a tenant) of the whole platform."""
    if tenant_id is not None:
        admin_team_models.draw(who, tenant_id)
    elif isinstance(who, Operator):
        admin_passes.draw(who)
        admin_prices.draw(who)
        _every_model(who)


def _every_model(operator: Operator) -> None:
    with db.transaction(operator) as session:
        rows = models.every(session)
        uses = model_use.of_models(session, operator, None)
        off = blocks.everywhere(session, operator)
    with st.container(border=True):
        st.markdown("**Models**")
        if not rows:
            st.caption("No models yet. Read the provider's list first.")
            return
        active = sum(row.is_active for row in rows)
        st.caption(
            f"{active:,} of {len(rows):,} are active. Requests and cost are those of all teams in the"
            f" last {model_use.DAYS} days of each, by the name under which the provider answered."
        )
        rows.sort(key=lambda row: -uses.get(row.model_id, _UNUSED).billed_nusd)
        _models_table(rows, uses, off)
        by_id = {row.model_id: row for row in rows}
        chosen = st.selectbox(
            "Open a model", list(by_id), index=None, key="model_open",
            format_func=lambda of: f"{by_id[of].name} ({of})", placeholder="Choose or type a name",
        )  # fmt: skip
        if chosen is not None:
            _one(operator, by_id[chosen], off.get(chosen, ()))


def _models_table(
    rows: list[ModelRow], uses: dict[str, ModelUse], off: dict[str, tuple[str, ...]]
) -> None:
    used = [uses.get(row.model_id, _UNUSED) for row in rows]
    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "name": [row.name for row in rows],
                "state": [_state(row) for row in rows],
                "price": [_price(row) for row in rows],
                "requests": [use.requests for use in used],
                "cost": [use.billed_nusd / NANO_PER_USD for use in used],
                "off": [len(off.get(row.model_id, ())) for row in rows],
                "provider": [row.provider for row in rows],
                "id": [row.model_id for row in rows],
            }
        ),
        hide_index=True, key="models", height="content" if len(rows) < 12 else 460,
        alt="State, price, requests and cost of each model",
        column_config={
            "name": column.TextColumn("Model", pinned=True),
            "state": column.TextColumn("State", width=110),
            "price": column.TextColumn("Price in / out", width=200),
            "requests": column.NumberColumn("Requests", format="localized"),
            "cost": column.NumberColumn("Cost", format="dollar"),
            "off": column.NumberColumn("Teams without", help="Teams that switched it off."),
            "provider": "Provider", "id": "Id",
        },
    )  # fmt: skip


def _state(row: ModelRow) -> str:
    if row.expires_on is not None and row.expires_on <= clock.now().date():
        return f"Ended {row.expires_on:%b} {row.expires_on.day}"
    return "Active" if row.is_active else "Off"


def _price(row: ModelRow) -> str:
    return "No price" if row.terms is None else composer.price(row)


def _one(operator: Operator, row: ModelRow, off: tuple[str, ...]) -> None:
    """One model: its state, who switched it off, and the way to take it out or put it back."""
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown(
        f"**{plain(row.name)}**  \n:gray[:small[{plain(row.model_id)} · {_state(row)} ·"
        f" {plain(_price(row))}]]",
        width="stretch",
    )
    _switch(operator, row, head)
    refusal = row.refusal(clock.now().date())
    if refusal is not None:
        st.caption(plain(refusal))
    if off:
        st.caption(f"Switched off by {plain(', '.join(off))}.")


def _switch(operator: Operator, row: ModelRow, place: st.delta_generator.DeltaGenerator) -> None:
    label, icon = ("Disable", "block") if row.is_active else ("Enable", "undo")
    with place.popover(label, icon=f":material/{icon}:", key=acts.fresh("model_switch")):
        st.markdown(
            f"No team can pick {plain(row.name)} from now on, and no pass over the list brings it"
            " back. Answers that run are finished; chats and figures are kept."
            if row.is_active
            else f"Every team that did not switch {plain(row.name)} off can pick it again."
        )
        if st.button(f"{label} this model", type="primary", key=acts.fresh("model_switch_now")):
            said = acts.attempt(operator, lambda session: _turn(session, operator, row))
            if said is not None:
                offered.clear()
                acts.done(said)


def _turn(session: Session, operator: Operator, row: ModelRow) -> str:
    active = not row.is_active
    sync.set_model_active(session, operator, row.model_id, active=active, now=clock.now())
    return f"{plain(row.name)} is {'active' if active else 'off'}."
