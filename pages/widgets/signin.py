"""The sign-in: a name and a password become a one-time ticket, which the browser trades for a session.
It says the same for a wrong password, an unknown name and a locked one, and sets no cookie itself."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from core import errors, settings
from core.identity import passwords, sessions
from core.identity.demo import DEMO_PEOPLE, DEMO_PASSWORD
from pages.widgets import door, exchange, refusals

WRONG = "The e-mail or the password is not right, or there were too many attempts. Please try again."


def draw() -> None:
    """Draw the sign-in form; in development also the demo accounts."""
    _, middle, _ = st.columns([1, 3, 1])
    with middle:
        st.header("Sign in to Purser", anchor=False)
        st.caption("Team chat with every AI model, where every cent is accounted for.")
        try:
            user_id = door.form(_address())
            if settings.current().development:
                user_id = _demo() or user_id
            if user_id is not None:
                exchange.sign_in(sessions.issue_ticket(user_id))
        except errors.NotFound:
            st.error(WRONG, icon=":material/lock:")
        except errors.Refusal as refusal:
            refusals.show(refusal)


def _demo() -> UUID | None:
    """Offer the demo accounts, which exist only in development."""
    with st.container(border=True):
        st.markdown("**Just looking?** Use a demo account:")
        for person in DEMO_PEOPLE:
            ...
    return None


def _address() -> str | None:
    address = st.context.ip_address
    return str(address) if address else None
