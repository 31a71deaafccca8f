"""API keys on the Account page: one's own, and for an admin everyone's in the team."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from core import db, settings
from core.analytics import budgets
from core.analytics.budgets import KeyUse
from core.identity import keys, members
from core.identity.access import Principal, Role
from core.identity.keys import Key
from pages.widgets import api_keys, shown
from pages.widgets.text import plain


def draw(who: Principal) -> None:
    """The card: the keys, a form for a new one, and the way to end one."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**API keys**", width="stretch")
        api_keys.new(who, head)
        every = _choice(who)
        rows, uses, owners = _read(who, every=every)
        api_keys.show_issued()
        if rows:
            st.caption(_zones(who))
            api_keys.table(rows, uses, owners)
            api_keys.revoke(who, rows)
        else:
            st.caption(
                "No keys yet. With a key your programs use every model through"
                f" `{settings.current().app_url}/v1`, on the same limits and the same bill."
            )


def _choice(who: Principal) -> bool:
    """Whether an admin looks at everybody's keys."""
    if who.role is not Role.ADMIN:
        return False
    chosen = st.segmented_control(
        "Whose keys", ["Mine", "Everyone's"], default="Mine", required=True, key="keys_whose",
        label_visibility="collapsed",
    )  # fmt: skip
    return chosen == "Everyone's"


def _read(
    who: Principal, *, every: bool
) -> tuple[tuple[Key, ...], dict[UUID, KeyUse], dict[UUID, str]]:
    with db.transaction(who) as session:
        uses = budgets.key_uses(session, who, who.tenant_id)
        if not every:
            return keys.mine(session, who), uses, {}
        owners = {member.user_id: member.email for member in members.colleagues(session, who)}
        return keys.of_tenant(session, who, who.tenant_id), uses, owners


def _zones(who: Principal) -> str:
    """Which zone the table's months and times are in."""
    if who.time_zone == shown.zone():
        return f"Months and times are those of {plain(who.time_zone)}."
    return f"Months are those of {plain(who.time_zone)}, times of {plain(shown.zone())}."
