"""One's own account: who one is, one's API keys, one's password, and where one is signed in."""

from __future__ import annotations

import streamlit as st

from core.identity.access import Role, SignedIn
from pages.widgets import account_keys, account_password, account_sessions, account_teams
from pages.widgets import session as tab

_ROLES = {Role.MEMBER: "Member", Role.FINANCE: "Finance", Role.ADMIN: "Admin"}


def draw(signed_in: SignedIn) -> None:
    """The whole page, for one person."""
    st.header("Account", anchor=False)
    _profile(signed_in)
    account_teams.draw(signed_in)
    if signed_in.principal is not None:
        account_keys.draw(signed_in.principal)
    account_password.draw()
    account_sessions.draw(signed_in)


def _profile(signed_in: SignedIn) -> None:
    who, member = signed_in.who, signed_in.principal
    facts = {"Name": who.name or "not given", "E-mail": who.email}
    if member is not None:
        facts |= {
            "Team": member.tenant_name,
            "Role": _ROLES[member.role],
            "Plan": member.plan.capitalize(),
            "Time zone": member.time_zone,
        }
    if signed_in.operator is not None:
        facts |= {"Platform": "Operator"}
    with st.container(border=True):
        st.markdown("**Profile**")
        with st.grid(3, min_column_width=230, gap="small"):
            for title, value in facts.items():
                with st.container(gap=None):
                    st.caption(title)
                    st.text(value)


draw(tab.require_signed_in())
