"""One chart on its card: its title, and what a click on a bar, a slice or a point opens. What a click
says comes from the browser, so it is only an address until the core has read it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias
from uuid import UUID

import plotly.graph_objects as go
import streamlit as st
from streamlit.elements.lib.skeleton_placeholder import SkeletonPlaceholder

from core.analytics.charts import paper
from core.analytics.parameters import NONE
from core.analytics.selection import IDS, Group, Selection, Value
from pages.widgets import session as tab
from pages.widgets import usage_address
from pages.widgets.usage_address import Opened, Rest
from pages.widgets.usage_view import Sight

# What a point says, as the usage behind it and what of it is "other". Raises ValueError for nonsense.
Narrow: TypeAlias = Callable[[Sequence[str]], tuple[Selection, Rest | None]]


@contextmanager
def card(title: str, words: str) -> Iterator[None]:
    """The frame of a chart, drawn before what it shows is read. Both texts are Markdown."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown(f"**{title}**")
        st.caption(words)
        yield


def waiting(height_px: int = paper.HEIGHT_PX) -> SkeletonPlaceholder:
    """What stands in a card's place while its figures are read."""
    return st.skeleton(height=height_px)


def draw(sight: Sight, on: str, figure: go.Figure, narrow: Narrow, alt: str) -> None:
    """A figure whose points open the rows behind them."""
    opened = sight.view.opened
    if opened is not None and opened.on == on:
        _light(figure, opened, narrow)
    key = key_of(on)
    st.plotly_chart(
        figure, key=key, config=paper.CONFIG, alt=alt, selection_mode="points",
        on_select=lambda: _clicked(sight, on, key, narrow),
    )  # fmt: skip


def key_of(on: str) -> str:
    """A widget's key that starts anew with another view, so that nothing stays chosen on it."""
    return f"{on}_{hashlib.sha256(usage_address.mark().encode()).hexdigest()[:12]}"


def of_value(sight: Sight, group: Group, key: str, count: int) -> tuple[Selection, Rest | None]:
    """The usage of one value of a group; where the key is empty, of all after the first `count`."""
    if not key:
        return sight.selection, Rest(group, count)
    return sight.selection.only(group, value_of(group, key)), None


def value_of(group: Group, key: str) -> Value:
    """What a click named. Raises ValueError."""
    if key == NONE:
        return None
    return UUID(key) if group in IDS else key


def _clicked(sight: Sight, on: str, key: str, narrow: Narrow) -> None:
    said = _said(tab.holds(key))
    if said is None:
        return
    try:
        selection, rest = narrow(said)
    except (ValueError, IndexError):
        return  # no point of this chart says that
    usage_address.open_rows(sight.view, on, selection, rest)
    st.rerun()


def _said(state: object) -> list[str] | None:
    """What the first chosen point carries besides its text."""
    points = state.get("selection", {}).get("points", []) if isinstance(state, dict) else []
    said = points[0].get("customdata") if points else None
    if not isinstance(said, list) or not all(isinstance(word, str) for word in said):
        return None
    return said[1:]


def _light(figure: go.Figure, opened: Opened, narrow: Narrow) -> None:
    """Show which point is opened: all others pale."""
    for trace in figure.data:
        if trace.customdata is not None:
            trace.selectedpoints = [
                place for place, said in enumerate(trace.customdata)
                if narrow(said[1:]) == (opened.selection, opened.rest)
            ]  # fmt: skip
