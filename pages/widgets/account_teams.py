"""The teams of a person who is in several, and the way from one to another. Draws nothing for others."""

from __future__ import annotations

import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.identity import sessions
from core.identity.access import SignedIn
from core.identity.sessions import Place
from pages.widgets import acts
from pages.widgets.text import plain


def draw(signed_in: SignedIn) -> None:
    """The card: each team with the role there, this session's marked."""
    with db.transaction(signed_in.who) as session:
        places = sessions.places(session, signed_in)
    here = signed_in.principal.tenant_id if signed_in.principal else None
    if len(places) < 2:
        return
    with st.container(border=True):
        st.markdown("**Teams**")
        for place in places:
            line = st.container(horizontal=True, vertical_alignment="center")
            line.markdown(f"{plain(place.name)}  \n:gray[:small[{place.role}]]", width="stretch")
            if place.tenant_id == here:
                line.badge("This browser", icon=":material/check:", color="green")
            elif line.button("Work here", key=f"team_{place.tenant_id}"):
                _go(signed_in, place)
        st.caption(
            "Chats, usage and limits are each team's own. Other browsers stay where they are."
        )


def _go(signed_in: SignedIn, place: Place) -> None:
    def work(session: Session) -> str:
        sessions.choose_tenant(session, signed_in, place.tenant_id)
        return f"You work in {plain(place.name)} now."

    if (said := acts.attempt(signed_in.who, work)) is not None:
        acts.done(said)
