"""The bar of a limit that was passed: full and red, under the words that say by how much."""

from __future__ import annotations

from functools import cache

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_HTML = "<div id='bar'></div>"
_CSS = """
#bar { height: 8px; border-radius: 4px; background: var(--st-red-color, #d32f2f); }
"""


def draw(words: str, *, key: str) -> None:
    """Draw it under `words`, which are Markdown."""
    with st.container(gap="xxsmall"):
        st.markdown(f":small[:red[:material/error:] {words}]")
        _element()(key=key, height="content")


def colors(parts: list[float | None]) -> tuple[list[float | None], list[float | None]]:
    """Parts of a whole for two columns of bars in a table: up to all of it, and what was passed."""
    within = [part if part is not None and part <= 1 else None for part in parts]
    over = [part if part is not None and part > 1 else None for part in parts]
    return within, over


@cache
def _element() -> ComponentRenderer:
    return st.components.v2.component("purser_over_bar", html=_HTML, css=_CSS)
