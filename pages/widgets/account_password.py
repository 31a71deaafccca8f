"""One's own password on the Account page: the old one, the new one, the new one again. Keeps none of
them after a change, and says no more of a wrong old one than the sign-in does."""

from __future__ import annotations

import streamlit as st

from core import errors
from core.identity import passwords
from pages.widgets import acts, refusals
from pages.widgets import session as tab

_RULE = f"At least {passwords.LENGTH_MIN} characters, at most {passwords.BYTES_MAX} bytes."


def draw() -> None:
    """The card: what a change does, and its form."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Password**", width="stretch")
        with head.popover(
            "Change password", icon=":material/password:", key=acts.fresh("password_change")
        ):
            _form()
        st.caption(
            "A change signs you out in every other browser. API keys go on working, unless you say"
            " otherwise."
        )


def _form() -> None:
    with st.form(acts.fresh("password_form"), border=False):
        old = _field("Old password", "password_old", autocomplete="current-password")
        new = _field("New password", "password_new", autocomplete="new-password", help_=_RULE)
        again = _field("New password again", "password_again", autocomplete="new-password")
        end_keys = st.checkbox(
            "Revoke my API keys too", key=acts.fresh("password_keys"),
            help="In all teams. For when somebody else may have used your account.",
        )  # fmt: skip
        if st.form_submit_button("Change password", type="primary"):
            _change(old, new, again, end_keys=end_keys)


def _field(label: str, name: str, *, autocomplete: str, help_: str | None = None) -> str:
    return st.text_input(
        label, type="password", key=acts.fresh(name), autocomplete=autocomplete, help=help_
    )


def _change(old: str, new: str, again: str, *, end_keys: bool) -> None:
    try:
        if new != again:
            raise errors.BadInput("The two new passwords are not the same.", param="again")
        ended = passwords.change_own(
            tab.token(), old, new, st.context.ip_address, known=tab.known_browser(),
            end_keys=end_keys,
        )  # fmt: skip
    except errors.Refusal as refusal:
        refusals.show(refusal)
    else:
        keys = f" API keys revoked: {ended.keys}." if end_keys else ""
        acts.done(f"Your password is changed. Signed out elsewhere: {ended.sessions}.{keys}")
