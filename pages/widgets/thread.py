"""Draws a conversation: its title, its newest messages, and the place of a running answer. It reads
nothing before a question just asked is drawn, so that nothing delays the answer's first words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import db, errors
from core.chat import conversations
from core.chat.conversations import Shown
from core.chat.turns import Live
from core.identity.access import Principal
from pages.widgets import address, messages, session, sidebar
from pages.widgets.messages import Acts
from pages.widgets.offered import Offer
from pages.widgets.text import plain

_EARLIER, _SHOWN, _DRAWN = "_earlier", "_shown", "_drawn"


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation of the person's: its title, the model it last used, and its shown branch."""

    conversation_id: UUID
    title: str
    model_id: str | None
    messages: list[Shown]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where everything of a conversation is drawn: the same in every run, to change in place."""

    head: DeltaGenerator
    earlier: DeltaGenerator
    messages: list[DeltaGenerator]


def read(who: Principal, conversation_id: UUID) -> Opened | None:
    """The person's conversation; None for a missing and a foreign one alike."""
    try:
        with db.transaction(who) as opened:
            row = conversations.find(opened, who, conversation_id)
            branch = conversations.branch(opened, who, conversation_id)
            return Opened(conversation_id, row.title, row.model_id, branch)
    except errors.NotFound:
        return None


def place() -> DeltaGenerator:
    """Where the conversation is drawn: over itself in place, but another one beside the one before,
    which is emptied at once; otherwise its rest would stay in sight while an answer streams."""
    conversation, is_second = session.recall(_SHOWN, ("", False))
    if conversation != address.asked():
        is_second = not is_second
        session.keep(_SHOWN, (address.asked(), is_second))
    if is_second:
        st.empty()
        return st.container()
    first = st.container()
    st.empty()
    return first


def draw(opened: Opened, offer: Offer, acts: Acts, live: Live | None) -> None:
    """Draw what is stored, without the running answer, which is followed below it."""
    settled = [m for m in opened.messages if live is None or m.message_id != live.answer_id]
    shown = min(len(settled), messages.SHOWN_AT_ONCE + _extra())
    places = _places(shown)
    _head(places.head, opened)
    _fill(places, settled, offer, acts, busy=live is not None)
    session.keep(_DRAWN, (address.asked(), shown))
    left_out = next((m.left_out for m in opened.messages if live and m not in settled), 0)
    if left_out:
        messages.left_out(left_out)


def draw_asked(question: str) -> Callable[[Opened, Offer, Acts], None]:
    """Draw a question just asked below the messages that are in sight already.

    Returns the function that draws those once they are read; the browser keeps them until then.
    """
    conversation, shown = session.recall(_DRAWN, ("", 0))
    places = _places(shown if conversation == address.asked() else 0)
    with st.container():
        messages.question(question)

    def fill(opened: Opened, offer: Offer, acts: Acts) -> None:
        _head(places.head, opened)
        _fill(places, opened.messages[:-2], offer, acts, busy=True)

    return fill


def _places(count: int) -> _Places:
    return _Places(st.container(), st.container(), [st.container() for _ in range(count)])


def _head(place: DeltaGenerator, opened: Opened) -> None:
    with place:
        row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    row.subheader(plain(opened.title) or "Chat", anchor=False, width="stretch")
    act = row.menu_button(
        "", ["Rename", "Delete"], icon=":material/more_horiz:", type="tertiary", key="chat_menu",
        help="Rename or delete this chat",
    )  # fmt: skip
    if act is not None:
        dialog = sidebar.rename_dialog if act == "Rename" else sidebar.remove_dialog
        dialog(opened.conversation_id, opened.title)


def _fill(places: _Places, settled: list[Shown], offer: Offer, acts: Acts, *, busy: bool) -> None:
    """The newest messages in their places, and a button for the earlier ones."""
    hidden = max(0, len(settled) - len(places.messages))
    if hidden:
        places.earlier.button(
            f"Load earlier messages ({hidden})", icon=":material/expand_less:", type="tertiary",
            key="earlier", on_click=_load_earlier, width="stretch",
        )  # fmt: skip
    for spot, message in zip(places.messages, settled[hidden:], strict=False):
        with spot:
            messages.draw(message, offer, acts, busy=busy)


def _extra() -> int:
    """How many earlier messages were asked for in the open conversation."""
    conversation, extra = session.recall(_EARLIER, ("", 0))
    return extra if conversation == address.asked() else 0


def _load_earlier() -> None:
    session.keep(_EARLIER, (address.asked(), _extra() + messages.SHOWN_AT_ONCE))
