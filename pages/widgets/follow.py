"""Follows a running answer on a page: after a prompt, a reload, in a second tab, or coming back. It
only reads; leaving it changes nothing for the answer, except when the person pressed stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import streamlit as st

from core import errors
from core.chat import turns
from core.chat.turns import Live
from core.identity.access import SignedIn
from pages.widgets import fragments, messages, runs, session
from pages.widgets.markdown import Cleaner

_PATIENCE_S = 0.3
_WAITING = ":shimmer[Thinking …]"


def _nothing() -> None:
    """Nothing waits to be drawn."""


def attach(live: Live, *, meanwhile: Callable[[], None] = _nothing) -> None:
    """Stream the answer to its end, or until who reads it is not signed in any more, then draw the
    page anew. `meanwhile` is called once, as soon as nothing waits to be drawn: for what would delay
    the first words."""
    found = session.require_signed_in()
    _watch(live, _Once(_nothing))
    run_number = runs.newest()
    try:
        with st.chat_message("assistant", avatar=messages.ANSWER_ICON):
            waiting = st.empty()
            waiting.caption(_WAITING)
            st.write_stream(_pieces(found, live, _Once(meanwhile), waiting.empty))
    except BaseException:
        # Streamlit ends a run with exceptions of this kind; nothing is swallowed.
        runs.on_interruption(run_number, lambda: turns.stop(found.in_tenant, live))
        raise
    st.rerun()


def stop(live: Live) -> None:
    """Stop the answer for whoever this connection's cookie stands for; a widget's callback."""
    found = session.signed_in()
    if found is not None and found.principal is not None:
        turns.stop(found.principal, live)


@fragments.fragment(run_every=0.5)
def _watch(found: SignedIn, live: Live, first: _Once) -> None:
    """Draws the page anew once the answer has ended, where no run follows it any more."""
    if not first.is_spent:
        first()  # the page's own run: it follows the answer and needs no look at the database
    elif turns.running(found.in_tenant, live.conversation_id) is None:
        st.rerun()


def _pieces(
    reader: SignedIn, live: Live, meanwhile: Callable[[], None], on_first: Callable[[], object]
) -> Iterator[str]:
    """The answer, safe to draw; what cannot be judged yet comes with the next piece."""
    cleaner = Cleaner()
    is_first = True
    patient_until = time.monotonic() + _PATIENCE_S

    def tick() -> None:
        # A tick may come just before the first piece, so silence alone must have lasted a while.
        if not is_first or time.monotonic() > patient_until:
            meanwhile()
        session.tick()
        session.still(reader)

    for piece in turns.follow(reader.in_tenant, live, tick=tick):
        if text := cleaner.feed(piece):
            if is_first:
                on_first()
                is_first = False
            yield text
    if text := cleaner.close():
        yield text
    on_first()
    meanwhile()


class _Once:
    """Calls a function the first time only. A refusal in it must not end the answer's display."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    @property
    def is_spent(self) -> bool:
        return self._function is None

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            try:
                function()
            except errors.Unavailable:
                st.toast("Some figures could not be read just now.")
