"""What an invitation's link opens: into which team, as what, and the way in. Takes a password and
keeps none; says the same of every link that cannot be used."""

from __future__ import annotations

import streamlit as st

from core import db, errors
from core.identity import invites, passwords, sessions
from core.identity.access import SignedIn
from core.identity.invites import Opened, Proof
from pages.widgets import address, exchange, refusals
from pages.widgets import session as tab
from pages.widgets.shown import moment
from pages.widgets.text import plain

_RULE = f"At least {passwords.LENGTH_MIN} characters, at most {passwords.BYTES_MAX} bytes."
_ICON = ":material/mail:"


def draw(found: SignedIn | None) -> bool:
    """Draw what the address' invitation says; False where the sign-in is to be drawn below it."""
    token = address.invite()
    if not token:
        return False
    opened = invites.opened(token)
    if opened is None or opened.is_member:
        address.forget_invite()
        _say(invites.ENDED if opened is None else _member_already(opened), found)
        return found is not None
    with st.container(border=True):
        st.subheader(f"Join {plain(opened.tenant_name)}", anchor=False)
        st.markdown(
            f"**{plain(opened.email)}** is invited as **{opened.role}**."
            f" The link is good once, until {moment(opened.expires_at)}."
        )
        _way_in(token, opened, found)
        if found is not None and st.button("Not now", type="tertiary", key="invite_later"):
            address.forget_invite()
            st.rerun()
    return found is not None or opened.proof is not Proof.SESSION


def _say(sentence: str, found: SignedIn | None) -> None:
    st.info(sentence, icon=_ICON)
    if found is not None:  # the address is clean by now: any next run shows the page
        st.button("Go on", type="primary", key="invite_go_on")


def _member_already(opened: Opened) -> str:
    return f"{plain(opened.email)} is a member of {plain(opened.tenant_name)} already: sign in as ever."


def _way_in(token: str, opened: Opened, found: SignedIn | None) -> None:
    if found is not None and found.who.email == opened.email:
        st.caption("You are signed in as this person: nothing else is asked.")
        if st.button("Accept", type="primary", key="invite_accept_as"):
            _accept_as(token, opened, found)
        return
    if opened.proof is Proof.SESSION:
        st.info(invites.SIGN_IN_FIRST, icon=":material/login:")
        if found is not None:
            st.caption(f"You are signed in as {plain(found.who.email)}: sign out there first.")
        return
    if found is not None:
        st.caption(f"You are signed in as {plain(found.who.email)}: accepting ends that here.")
    _form(token, opened)


def _form(token: str, opened: Opened) -> None:
    with st.form("invite_accept", border=False):
        if opened.proof is Proof.PASSWORD:
            st.caption("You have an account: its password lets you in, and stays as it is.")
            name, again = "", None
            password = _password("Password", "invite_password", "current-password")
        else:
            name = st.text_input("Your name", key="invite_name", max_chars=200, autocomplete="name")
            password = _password("Choose a password", "invite_password", "new-password", _RULE)
            again = _password("The password again", "invite_again", "new-password")
        if st.form_submit_button("Accept and sign in", type="primary"):
            _accept(token, opened, name, password, again)


def _password(label: str, key: str, autocomplete: str, help_: str | None = None) -> str:
    return st.text_input(label, type="password", key=key, autocomplete=autocomplete, help=help_)


def _accept(token: str, opened: Opened, name: str, password: str, again: str | None) -> None:
    try:
        if again is not None and password != again:
            raise errors.BadInput("The two passwords are not the same.", param="again")
        user_id = invites.accept(
            token, password, name=name, address=st.context.ip_address, known=tab.known_browser()
        )
        ticket = sessions.issue_ticket(user_id, tenant_id=opened.tenant_id)
        exchange.sign_in(ticket, to="/")
    except errors.Refusal as refusal:
        refusals.show(refusal)


def _accept_as(token: str, opened: Opened, found: SignedIn) -> None:
    """Accept as whoever is signed in, whose session then works in that team."""
    try:
        invites.accept_as(token, tab.token())
        with db.transaction(found.who) as session:
            sessions.choose_tenant(session, found, opened.tenant_id)
    except errors.Refusal as refusal:
        refusals.show(refusal)
        return
    address.forget_invite()
    st.rerun()
