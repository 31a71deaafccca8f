"""Chat: one conversation with its running answer, the composer under it, the others beside it.
It asks core for everything and starts answers only through the composer's callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import db, errors
from core.chat import conversations, turns
from core.chat.conversations import Shown
from core.chat.turns import Live
from core.identity.access import Principal
from pages.widgets import address, composer, follow, messages, offered, session, sidebar
from pages.widgets.messages import Acts
from pages.widgets.offered import Offer
from pages.widgets.text import plain

_SUGGESTIONS = (
    (":material/lightbulb:", "What can Purser do for my team?"),
    (":material/code:", "Write a Python function that reads a CSV file and sums one column."),
    (":material/table:", "Compare three ways to plan a project in a table."),
)
_EARLIER, _SHOWN = "_earlier", "_shown"


@dataclass(frozen=True, slots=True)
class _Open:
    """The open conversation: its title, the model it last used, and its shown branch."""

    title: str
    model_id: str | None
    messages: list[Shown]


def main() -> None:
    """Draw the page; a running answer is followed to its end, then the page is drawn anew."""
    who = session.require()
    offer = offered.now(who)
    live = composer.take_started()
    if live is not None:
        address.open_conversation(live.conversation_id)
    conversation_id = live.conversation_id if live else address.conversation_id()
    opened = _read(who, conversation_id) if conversation_id else None
    if address.asked() and opened is None:
        _missing(who)
        return
    if live is None and conversation_id is not None:
        live = turns.running(who, conversation_id)
    _draw(who, offer, live, opened)


def _read(who: Principal, conversation_id: UUID) -> _Open | None:
    try:
        with db.transaction(who) as opened:
            row = conversations.find(opened, who, conversation_id)
            branch = conversations.branch(opened, who, conversation_id)
            return _Open(row.title, row.model_id, branch)
    except errors.NotFound:
        return None


def _missing(who: Principal) -> None:
    """Somebody else's conversation, a deleted one and no conversation at all look the same."""
    sidebar.draw(who)
    st.info("There is no such conversation.", icon=":material/search_off:")
    st.button("Start a new chat", icon=":material/edit_square:", on_click=sidebar.new_chat)


def _draw(who: Principal, offer: Offer, live: Live | None, opened: _Open | None) -> None:
    model_id = opened.model_id if opened else None
    fill_in_left = composer.draw(
        offer,
        model_id=model_id,
        conversation=address.asked(),
        on_stop=partial(follow.stop, live) if live else None,
    )

    def rest() -> None:
        sidebar.draw(who)
        fill_in_left(who)

    if live is None:
        rest()
    with _place():
        if opened is None:
            _greet(who, offer)
        else:
            _head(who, opened)
            _messages(opened.messages, offer, live)
        composer.draw_refusal(offer)
        if live is not None:
            follow.attach(who, live, meanwhile=rest)


def _place() -> DeltaGenerator:
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


def _head(who: Principal, opened: _Open) -> None:
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    row.subheader(plain(opened.title) or "Chat", anchor=False, width="stretch")
    act = row.menu_button(
        "", ["Rename", "Delete"], icon=":material/more_horiz:", type="tertiary", key="chat_menu",
        help="Rename or delete this chat",
    )  # fmt: skip
    conversation_id = address.conversation_id()
    if act is None or conversation_id is None:
        return
    dialog = sidebar.rename_dialog if act == "Rename" else sidebar.remove_dialog
    dialog(who, conversation_id, opened.title)


def _messages(shown: Sequence[Shown], offer: Offer, live: Live | None) -> None:
    """The newest messages, with a button for earlier ones; the running answer is drawn live."""
    settled = [m for m in shown if live is None or m.message_id != live.answer_id]
    more = session.recall(_EARLIER, ("", 0))
    extra = more[1] if more[0] == address.asked() else 0
    hidden = max(0, len(settled) - messages.SHOWN_AT_ONCE - extra)
    if hidden:
        st.button(
            f"Load earlier messages ({hidden})", icon=":material/expand_less:", type="tertiary",
            key="earlier", on_click=_load_earlier, args=(extra + messages.SHOWN_AT_ONCE,),
            width="stretch",
        )  # fmt: skip
    messages.draw_all(
        settled[hidden:],
        offer,
        Acts(composer.regenerate, composer.show_branch),
        busy=live is not None,
    )
    left_out = next((m.left_out for m in shown if live and m.message_id == live.answer_id), 0)
    if left_out:
        messages.left_out(left_out)


def _load_earlier(extra: int) -> None:
    session.keep(_EARLIER, (address.asked(), extra))


def _greet(who: Principal, offer: Offer) -> None:
    """What an empty chat says: whom it greets, what could be asked, which models answer."""
    first_name = who.name.split(" ")[0] if who.name else ""
    st.space("large")
    st.header(f"Hello {plain(first_name)}".strip() + ", what shall we do?", anchor=False)
    names = [row.name for row in offer.by_id.values()]
    free = sum(row.is_free for row in offer.by_id.values())
    st.caption(
        f"{len(names)} models answer here, {free} of them free: pick one below. Every answer shows"
        " what it cost."
    )
    for number, (icon, text) in enumerate(_SUGGESTIONS):
        st.button(
            text, icon=icon, key=f"suggestion_{number}", on_click=composer.send, args=(text,),
            width="stretch",
        )  # fmt: skip


main()
