"""The API keys of one tenant, for its admins and operators: whose they are, what each did this month, and
the way to end one. Operators also issue one in a person's name; an admin's own are made under Account."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from core import db
from core.analytics import budgets
from core.identity import keys, members
from core.identity.access import Operator, Principal
from core.identity.members import State
from pages.widgets import api_keys, shown


def draw(who: Principal | Operator, tenant_id: UUID) -> None:
    """The table, the newest first, those that ended too."""
    with db.transaction(who) as session:
        rows = keys.of_tenant(session, who, tenant_id)
        uses = budgets.key_uses(session, who, tenant_id)
        people = members.of_tenant(session, who, tenant_id)
    emails = {person.user_id: person.email for person in people}
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**API keys**", width="stretch")
        if isinstance(who, Operator):
            working = [person.user_id for person in people if person.state is State.ACTIVE]
            if working:
                owners = {of: emails[of] for of in working}
                api_keys.new(who, head, tenant_id=tenant_id, people=owners)
        else:
            head.page_link("account.py", label="Make one of your own", icon=":material/key:")
        api_keys.show_issued()
        if not rows:
            st.caption("No keys yet. People make their own under Account.")
            return
        st.caption(
            f"Months are the team's own, times {shown.zone()}. What a key may spend stands under Limits."
        )
        api_keys.table(rows, uses, emails)
        api_keys.revoke(who, rows)
