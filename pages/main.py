"""The frame of every page: who is here, which pages they may open, and for all others the sign-in or
the invitation they hold. The server runs it for every page and in every run; it decides nothing that
core does not check."""

from __future__ import annotations

import streamlit as st

from pages.widgets import (
    acts,
    address,
    composer,
    fragments,
    frame,
    invite_accept,
    runs,
    session,
    signin,
)


def main() -> None:
    """Draw the frame, and in it the page of the address or the sign-in."""
    runs.begin()
    frame.set_icon()
    found = session.signed_in()
    apart = bool(address.invite())
    page = st.navigation(
        frame.pages_of(found), position="hidden" if found is None or apart else "top"
    )
    if found is None or apart:
        frame.set_page("Sign in", wide=False)
        if not invite_accept.draw(found):
            signin.draw()
        return
    frame.set_page(page.title, wide=page.title not in {"Chat", "Account"})
    if not composer.has_started():  # then Chat draws it, once the answer's first words are there
        frame.person(found)
    acts.tell()
    fragments.watch()
    page.run()


main()
