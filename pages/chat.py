"""Chat: one conversation with its running answer, the composer under it, the others beside it.
It asks core for everything and starts answers only through the composer's callbacks."""

from __future__ import annotations

from functools import partial

import streamlit as st

from core.chat import turns
from core.chat.turns import Live
from core.identity.access import Principal
from pages.widgets import address, composer, follow, frame, offered, session, sidebar, thread
from pages.widgets.composer import Started
from pages.widgets.messages import Acts
from pages.widgets.offered import Offer
from pages.widgets.text import plain
from pages.widgets.thread import Opened

_ACTS = Acts(composer.regenerate, composer.show_branch)
_SUGGESTIONS = (
    (":material/lightbulb:", "What can Purser do for my team?"),
    (":material/code:", "Write a Python function that reads a CSV file and sums one column."),
    (":material/table:", "Compare three ways to plan a project in a table."),
)


def main() -> None:
    """Draw the page; a running answer is followed to its end, then the page is drawn anew."""
    who = session.require()
    offer = offered.now(who)
    started = composer.take_started()
    if started is not None:
        address.open_conversation(started.live.conversation_id)
        _draw_started(who, offer, started)
        return
    conversation_id = address.conversation_id()
    # First what runs, then what is stored: an answer that ends in between is in the second.
    live = turns.running(who, conversation_id) if conversation_id else None
    opened = thread.read(who, conversation_id) if conversation_id else None
    if address.asked() and opened is None:
        _draw_missing(who)
        return
    _draw(who, offer, opened, live)


def _draw_started(who: Principal, offer: Offer, started: Started) -> None:
    """Draw an answer that this run's callback began: its first words before everything else."""
    live = started.live
    fill_in_left = composer.draw(offer, model_id=None, on_stop=partial(follow.stop, live))
    opened = None if started.question else thread.read(who, live.conversation_id)
    with thread.place():
        if opened is not None:
            thread.draw(opened, offer, _ACTS, live)
        fill = thread.draw_asked(started.question) if started.question else None

        def rest() -> None:
            found = thread.read(who, live.conversation_id) if fill else None
            if fill and found:
                fill(found, offer, _ACTS)
            frame.person(session.require_signed_in())
            sidebar.draw(who)
            fill_in_left(who)

        follow.attach(live, meanwhile=rest)


def _draw(who: Principal, offer: Offer, opened: Opened | None, live: Live | None) -> None:
    """Draw the open conversation (None: a new one), and follow the answer that runs in it."""
    fill_in_left = composer.draw(
        offer,
        model_id=opened.model_id if opened else None,
        on_stop=partial(follow.stop, live) if live else None,
    )
    sidebar.draw(who)
    fill_in_left(who)
    with thread.place():
        if opened is None:
            _greet(who, offer)
        else:
            thread.draw(opened, offer, _ACTS, live)
        if live is not None:
            follow.attach(live)


def _draw_missing(who: Principal) -> None:
    """Somebody else's conversation, a deleted one and no conversation at all look the same."""
    sidebar.draw(who)
    with thread.place():
        st.info("There is no such conversation.", icon=":material/search_off:")
        st.button("Start a new chat", icon=":material/edit_square:", on_click=sidebar.new_chat)


def _greet(who: Principal, offer: Offer) -> None:
    """What an empty chat says: whom it greets, what could be asked, which models answer."""
    first_name = who.name.split(" ")[0] if who.name else ""
    st.space("large")
    st.header(f"Hello {plain(first_name)}".strip() + ", what shall we do?", anchor=False)
    free = sum(row.is_free for row in offer.by_id.values())
    st.caption(
        f"{len(offer.by_id)} models answer here, {free} of them free: pick one below. Every answer"
        " shows what it cost."
    )
    for number, (icon, text) in enumerate(_SUGGESTIONS):
        st.button(
            text, icon=icon, key=f"suggestion_{number}", on_click=composer.send, args=(text,),
            width="stretch",
        )  # fmt: skip


main()
