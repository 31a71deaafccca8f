"""Pages of a long list that goes from newest to oldest: which page a tab shows, and the buttons to the
next. A page is remembered by where the ones before it ended, so nothing is repeated or skipped."""

from __future__ import annotations

from typing import TypeVar

import streamlit as st

from pages.widgets import session as tab

Place = TypeVar("Place")


def trail(name: str, selection: str) -> tuple[Place, ...]:
    """Where the pages before the shown one of list `name` ended; none once the selection changed."""
    of, found = tab.recall(_key(name), ("", ()))
    return found if of == selection else ()


def turn(
    name: str, selection: str, passed: tuple[Place, ...], last: Place | None, said: str = ""
) -> None:
    """The buttons to newer and older rows; `last` is where the shown page ends, None at the end.

    `said` stands beside them, safe to draw. A list of one page has no buttons.
    """
    if not passed and last is None:
        if said:
            st.caption(said)
        return
    foot = st.container(horizontal=True, vertical_alignment="center")
    foot.caption(said, width="stretch")
    foot = foot.container(horizontal=True, width="content", wrap=False)
    newer = foot.button(
        "Newer", icon=":material/chevron_left:", key=f"{name}_newer", disabled=not passed
    )
    older = foot.button(
        "Older", icon=":material/chevron_right:", key=f"{name}_older", disabled=last is None,
        icon_position="right",
    )  # fmt: skip
    if newer and passed:
        _go(name, selection, passed[:-1])
    elif older and last is not None:
        _go(name, selection, (*passed, last))


def _go(name: str, selection: str, passed: tuple[Place, ...]) -> None:
    tab.keep(_key(name), (selection, passed))
    st.rerun()


def _key(name: str) -> str:
    return f"{name}_trail"
