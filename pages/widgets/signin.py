"""The sign-in: name and password become a one-time ticket, which the browser trades for a session.
It says the same for a wrong password, an unknown name and a locked one, and sets no cookie."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from core import errors, settings
from core.demonstration import script
from core.identity import passwords, sessions
from pages.widgets import door, exchange, refusals
from pages.widgets import session as tab

_DEMO = (
    ("Member", ":material/person:", script.DEMO_EMAIL),
    ("Operator", ":material/shield_person:", script.OPERATOR_EMAIL),
)


def draw() -> None:
    """Draw the sign-in; who passes gets a session and then the page they asked for."""
    _, middle, _ = st.columns([1, 4, 1])
    with middle:
        try:
            user_id = door.form(_address(), tab.known_browser())
            if settings.current().development:
                user_id = _demo() or user_id
            if user_id is not None:
                exchange.sign_in(sessions.issue_ticket(user_id))
        except errors.NotFound:
            door.say_wrong()  # the right password of somebody who may be in no team any more
        except errors.Refusal as refusal:
            refusals.show(refusal)


def _demo() -> UUID | None:
    """Offer the accounts of the demo data; the person of the one that was clicked."""
    with st.container(border=True):
        st.markdown("**Just looking?** Take a demo account of this development server.")
        row = st.container(horizontal=True)
        clicked = [
            email
            for label, icon, email in _DEMO
            if row.button(f"Use demo {label.lower()}", icon=icon, key=f"demo_{label.lower()}")
        ]
        names = " or ".join(f"`{email}`" for _, _, email in _DEMO)
        st.caption(f"Or sign in as {names} with the password `{script.PASSWORD}`.")
        if not clicked:
            return None
        found = passwords.verify(clicked[0], script.PASSWORD, _address(), known=tab.known_browser())
        if found is None:
            st.info("There is no demo data here yet: `python -m core seed --demo` makes it.")
        return found


def _address() -> str | None:
    address = st.context.ip_address
    return str(address) if address else None
