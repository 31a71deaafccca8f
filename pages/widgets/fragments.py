"""Parts of a page that run again by themselves: on a click within, every few seconds, beside the others.
The only user of Streamlit's fragments and dialogs. What drew a part keeps its arguments, so whoever
looks is looked up in every run of it, and handed to it first. A part reads on its page's lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, Literal, ParamSpec

import streamlit as st

from core import lanes
from core.identity.access import SignedIn
from core.lanes import Lane
from pages.widgets import session as tab

_LOOK_EVERY_S = 60.0
P = ParamSpec("P")
Part = Callable[Concatenate[SignedIn, P], None]


@dataclass(frozen=True, slots=True)
class _Drew:
    """Who drew a part, and on which lane of the database."""

    found: SignedIn
    lane: Lane


def fragment(
    *, parallel: bool = False, run_every: float | None = None
) -> Callable[[Part[P]], Callable[P, None]]:
    """Make a function a part of the page of its own. It gets whoever looks now, as its first argument;
    where that is not who drew the page any more, nothing of it runs and the page is drawn anew."""

    def make(draw: Part[P]) -> Callable[P, None]:
        return _looked_up(st.fragment(parallel=parallel, run_every=run_every)(_checked(draw)))

    return make


def dialog(
    title: str, *, icon: str | None = None, width: Literal["small", "medium", "large"] = "small"
) -> Callable[[Part[P]], Callable[P, None]]:
    """The same for a dialog over the page."""

    def make(draw: Part[P]) -> Callable[P, None]:
        return _looked_up(st.dialog(title, icon=icon, width=width)(_checked(draw)))

    return make


def _checked(draw: Part[P]) -> Callable[Concatenate[_Drew, P], None]:
    @wraps(draw)
    def drawn(drew: _Drew, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if (found := tab.still(drew.found)) is not None:
            with lanes.use(drew.lane):
                draw(found, *args, **kwargs)

    return drawn


def _looked_up(part: Callable[Concatenate[_Drew, P], None]) -> Callable[P, None]:
    @wraps(part)
    def begin(*args: P.args, **kwargs: P.kwargs) -> None:
        part(_Drew(tab.require_signed_in(), lanes.current()), *args, **kwargs)

    return begin


@fragment(run_every=_LOOK_EVERY_S)
def watch(found: SignedIn) -> None:
    """Draws nothing. While a page repeats a part of itself, the browser draws it anew after its
    connection was closed, as the server does when a session ends; and a quiet page looks by itself."""
    del found
