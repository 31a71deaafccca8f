"""Chat's sidebar: a new chat, the search, the conversations by day, and the two dialogs that change
one. Days are those of the tenant's time zone; deleting asks once and says what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from core import db, errors
from core.chat import conversations, turns
from core.chat.tables import Conversation
from core.identity.access import Principal, SignedIn
from pages.widgets import address, composer, convlist, fragments, refusals

_SEARCH = "find"
_UNTITLED = "Untitled chat"
_WEEK_DAYS = 7


def draw(who: Principal) -> None:
    """Draw the sidebar, and open what was clicked in it."""
    with st.sidebar:
        st.button(
            "New chat", icon=":material/edit_square:", type="primary", width="stretch", key="new",
            shortcut="Ctrl+Shift+O", on_click=new_chat,
        )  # fmt: skip
        search = st.text_input(
            "Search chats", type="search", placeholder="Search chats", live=True, key=_SEARCH,
            label_visibility="collapsed",
        )  # fmt: skip
        with db.transaction(who) as opened:
            rows = conversations.listing(opened, who, search=(search or "").replace("\x00", ""))
        empty = "No chats match." if search else "Your chats appear here."
        picked = convlist.draw(
            by_day(rows, datetime.now(ZoneInfo(who.time_zone))), active=address.asked(), empty=empty
        )
    if picked.open:
        composer.forget()
        address.open_conversation(picked.open)
        st.rerun()
    titles = {str(row.conversation_id): row.title or _UNTITLED for row in rows}
    if picked.rename in titles:
        rename_dialog(UUID(picked.rename), titles[picked.rename])
    elif picked.remove in titles:
        remove_dialog(UUID(picked.remove), titles[picked.remove])


def new_chat() -> None:
    """Open an empty conversation; a widget's callback."""
    composer.forget()
    address.open_none()


def by_day(rows: Sequence[Conversation], now: datetime) -> list[tuple[str, list[tuple[str, str]]]]:
    """Conversations (newest first) under the headings of their days, in the zone of `now`."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        day = row.updated_at.astimezone(now.tzinfo).date()
        groups.setdefault(_heading(day, now.date()), []).append(
            (str(row.conversation_id), row.title or _UNTITLED)
        )
    return list(groups.items())


def _heading(day: date, today: date) -> str:
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    if day >= today - timedelta(days=_WEEK_DAYS):
        return "Previous 7 days"
    return f"{day:%B}" if day.year == today.year else f"{day:%B %Y}"


@fragments.dialog("Rename chat", icon=":material/edit:")
def rename_dialog(found: SignedIn, conversation_id: UUID, title: str) -> None:
    """Ask for another title."""
    who = found.in_tenant
    with st.form("rename", border=False):
        wanted = st.text_input(
            "Title", value=title, max_chars=conversations.TITLE_LENGTH_MAX, key="rename_title"
        )
        if not st.form_submit_button("Rename", type="primary"):
            return
    try:
        with db.transaction(who) as opened:
            conversations.rename(opened, who, conversation_id, wanted or "")
    except errors.Refusal as refusal:
        refusals.show(refusal)
        return
    st.rerun()


@fragments.dialog("Delete chat", icon=":material/delete:")
def remove_dialog(found: SignedIn, conversation_id: UUID, title: str) -> None:
    """Ask once, saying what goes and what stays."""
    st.text(f"“{title}” and all its messages are deleted for good.")
    st.caption("What its answers cost stays in your team's books, without their text.")
    row = st.container(horizontal=True)
    if row.button("Keep it", key="keep_chat"):
        st.rerun()
    if not row.button("Delete", type="primary", key="delete_chat"):
        return
    try:
        turns.delete_conversation(found.in_tenant, conversation_id)
    except errors.Refusal as refusal:
        refusals.show(refusal)
        return
    if address.conversation_id() == conversation_id:
        composer.forget()
        address.open_none()
    st.toast("The chat is deleted.", icon=":material/delete:")
    st.rerun()
