"""Where the use of a team, its people and its keys is booked for chargeback, and the form that sets it,
for the team's admins and operators."""

from __future__ import annotations

from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.identity import cost_centres
from core.identity.access import Operator, Principal
from core.identity.cost_centres import NAME_LENGTH_MAX, Assignment
from core.identity.limits import Subject
from pages.widgets import acts, shown
from pages.widgets.text import plain

_KINDS = {Subject.TENANT: "Team", Subject.USER: "Person", Subject.KEY: "API key"}
_EMPTY = {
    Subject.TENANT: "None", Subject.USER: "The team's", Subject.KEY: "The person's",
}  # fmt: skip
_ROWS_SHORT = 12


def draw(who: Principal | Operator, tenant_id: UUID) -> None:
    """The table and the form; people and keys that ended are left out."""
    with db.transaction(who) as session:
        found = cost_centres.of_tenant(session, who, tenant_id)
    rows = [row for row in found if row.active or row.subject is Subject.TENANT]
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Cost centres and projects**", width="stretch")
        _assign(who, tenant_id, rows, head)
        st.caption(
            "A call is booked to what stands here when it is made, and stays there. What is set for"
            " a key counts first, then for its person, then for the team."
        )
        _table(rows)


def _table(rows: list[Assignment]) -> None:
    st.dataframe(
        pd.DataFrame(
            {
                "name": [_name(row) for row in rows],
                "center": [_booked(row.cost_center, row.booked_cost_center) for row in rows],
                "project": [_booked(row.project, row.booked_project) for row in rows],
                "kind": [_KINDS[row.subject] for row in rows],
            }
        ),
        hide_index=True, key="cost_centres",
        height="content" if len(rows) <= _ROWS_SHORT else 420,
        alt="Cost centre and project of the team, of each person and of each API key",
        column_config={
            "name": st.column_config.TextColumn("Name", pinned=True),
            "center": "Cost centre", "project": "Project",
            "kind": st.column_config.TextColumn("Of", width=70),
        },
    )  # fmt: skip


def _assign(
    who: Principal | Operator, tenant_id: UUID, rows: list[Assignment],
    place: st.delta_generator.DeltaGenerator,
) -> None:  # fmt: skip
    by_id = {row.subject_id: row for row in rows}
    with place.popover("Assign", icon=":material/sell:", key=acts.fresh("assign")):
        chosen = st.selectbox(
            "Of whom", list(by_id), key=acts.fresh(f"assign_of_{tenant_id}"),
            format_func=lambda of: f"{_KINDS[by_id[of].subject]}: {_name(by_id[of])}",
        )  # fmt: skip
        row = by_id[chosen]
        with st.form(acts.fresh(f"assign_form_{chosen}"), border=False):
            center = st.text_input(
                "Cost centre", row.cost_center or "", max_chars=NAME_LENGTH_MAX,
                placeholder=_EMPTY[row.subject],
                key=acts.fresh(f"assign_center_{chosen}"),
            )  # fmt: skip
            project = st.text_input(
                "Project", row.project or "", max_chars=NAME_LENGTH_MAX,
                placeholder=_EMPTY[row.subject],
                key=acts.fresh(f"assign_project_{chosen}"),
            )  # fmt: skip
            st.caption("From the next call on. Left empty, what stands above it counts.")
            if st.form_submit_button("Assign", type="primary"):
                said = acts.attempt(
                    who, lambda session: _book(session, who, tenant_id, row, center, project)
                )
                if said is not None:
                    acts.done(said)


def _book(
    session: Session, who: Principal | Operator, tenant_id: UUID, row: Assignment, center: str,
    project: str,
) -> str:  # fmt: skip
    cost_centres.assign(session, who, tenant_id, row.subject, row.subject_id, center, project)
    return f"Set for {plain(_name(row))}, from the next call on."


def _name(row: Assignment) -> str:
    return row.name if row.owner is None else f"{row.name} ({row.owner})"


def _booked(own: str | None, booked: str | None) -> str:
    """What counts for a subject, marked where it comes from above."""
    if booked is None:
        return shown.NONE
    return booked if own is not None else f"{booked} (inherited)"
