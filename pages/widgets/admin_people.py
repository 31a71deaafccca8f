"""The people of one tenant, for operators: a table, and a form that adds one."""

from __future__ import annotations

from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import db, errors
from core.analytics.overview import TenantRow
from core.identity import passwords, tenants
from core.identity.access import Operator, Role
from core.identity.tenants import Member
from pages.widgets import acts
from pages.widgets.text import plain

_FIRST_HELP = "At least 8 characters. Leave it empty for a person who is known already."


def members_of(operator: Operator, tenant_id: UUID) -> tuple[Member, ...]:
    """The people of one tenant."""
    with db.transaction(operator) as session:
        every = tenants.every_tenant(session, operator)
    return next((entry.members for entry in every if entry.tenant_id == tenant_id), ())


def draw(operator: Operator, row: TenantRow) -> None:
    """The table and the form."""
    people = members_of(operator, row.tenant_id)
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown("**People**", width="stretch")
    _add(operator, row, head)
    if not people:
        st.caption("Nobody yet. Add a person, who can then sign in with the password you set.")
        return
    active = sum(person.active for person in people)
    st.caption(f"{active:,} of {len(people):,} can sign in.")
    st.dataframe(
        pd.DataFrame(
            {
                "name": [person.name for person in people],
                "email": [person.email for person in people],
                "role": [person.role.value for person in people],
                "status": ["active" if person.active else "disabled" for person in people],
            }
        ),
        hide_index=True, key="people", height="content" if len(people) < 12 else 420,
        alt="Name, e-mail, role and status of each person",
        column_config={"name": "Name", "email": "E-mail", "role": "Role", "status": "Status"},
    )  # fmt: skip


def _add(operator: Operator, row: TenantRow, place: st.delta_generator.DeltaGenerator) -> None:
    with (
        place.popover("Add a person", icon=":material/person_add:", key=acts.fresh("person_new")),
        st.form(acts.fresh("person_form"), border=False),
    ):
        email = st.text_input("E-mail", key=acts.fresh("person_email"))
        name = st.text_input("Name", key=acts.fresh("person_name"))
        role = st.selectbox("Role", [role.value for role in Role], key=acts.fresh("person_role"))
        password = st.text_input(
            "First password", type="password", key=acts.fresh("person_password"), help=_FIRST_HELP,
            autocomplete="new-password",
        )  # fmt: skip
        st.caption(f"They can sign in to {plain(row.name)} at once.")
        if st.form_submit_button("Add", type="primary"):
            added = acts.attempt(
                operator,
                lambda session: _join(session, operator, row, email, name, Role(role), password),
            )
            if added is not None:
                acts.done(f"Added {plain(email)} to {plain(row.name)}.")


def _join(
    session: Session, operator: Operator, row: TenantRow, email: str, name: str, role: Role,
    password: str,
) -> UUID:  # fmt: skip
    """Make the person unless they are known, and put them into the tenant.

    Raises errors.Conflict for a password given for a person who is known: theirs stays.
    """
    if password:
        user_id = tenants.create_user(
            session, operator, email, name=name, password_hash=passwords.hash_password(password)
        )
    else:
        try:
            user_id = tenants.find_user(session, operator, email)
        except errors.NotFound:
            raise errors.BadInput(
                "A new person needs a first password.", param="password"
            ) from None
    tenants.add_member(session, operator, row.tenant_id, user_id, role)
    return user_id
