"""Where a person is signed in, and the way to end it there. Shows one's own sessions only."""

from __future__ import annotations

import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.identity import sessions
from core.identity.access import SignedIn
from core.identity.sessions import OpenSession
from pages.widgets import acts, shown
from pages.widgets.text import plain

_SHOWN_MAX = 20


def draw(signed_in: SignedIn) -> None:
    """The card: one row per browser, this one marked."""
    with db.transaction(signed_in.who) as session:
        found = sessions.mine(session, signed_in)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Signed in**", width="stretch")
        if len(found) > 1:
            _end_others(signed_in, head)
        for row in found[:_SHOWN_MAX]:
            _row(signed_in, row)
        if len(found) > _SHOWN_MAX:
            st.caption(f"And {len(found) - _SHOWN_MAX} more.")
        st.caption(f"Times are {shown.zone()}.")


def _row(signed_in: SignedIn, row: OpenSession) -> None:
    line = st.container(horizontal=True, vertical_alignment="center")
    where = f" · {plain(row.address)}" if row.address else ""
    line.markdown(
        f"{shown.browser(row.user_agent)}{where}  \n:gray[:small[Signed in"
        f" {shown.moment(row.created_at)} · last seen {shown.ago(row.last_seen_at)}]]",
        width="stretch",
    )
    if row.is_this:
        line.badge("This browser", icon=":material/check:", color="green")
        return
    with line.popover("Sign out", key=acts.fresh(f"end_{row.session_id}")):
        st.markdown("That browser is signed out at once. Answers that run there are finished.")
        if st.button("Sign that browser out", type="primary", key=f"end_now_{row.session_id}"):
            said = acts.attempt(signed_in.who, lambda session: _end_one(session, signed_in, row))
            if said is not None:
                acts.done(said)


def _end_one(session: Session, signed_in: SignedIn, row: OpenSession) -> str:
    sessions.end_one(session, signed_in, row.session_id)
    return f"{shown.browser(row.user_agent)} is signed out."


def _end_others(signed_in: SignedIn, place: st.delta_generator.DeltaGenerator) -> None:
    with place.popover(
        "Sign out everywhere else", icon=":material/logout:", key=acts.fresh("end_others")
    ):
        st.markdown("Every other browser is signed out at once. You stay signed in here.")
        if st.button("Sign out all others", type="primary", key="end_others_now"):
            ended = acts.attempt(
                signed_in.who, lambda session: sessions.end_others(session, signed_in)
            )
            if ended is not None:
                acts.done(f"Signed out elsewhere: {ended}.")
