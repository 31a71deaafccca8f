"""Draws the messages of a conversation, live and stored alike: text, thoughts, pictures, sources,
and under each answer its bar. It changes nothing; what a bar's buttons do is the caller's."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args
from uuid import UUID

import streamlit as st

from core.catalog.answers import Failure, FailureKind
from core.chat import outcomes
from core.chat.conversations import Shown
from pages.widgets import msgbar, refusals
from pages.widgets.msgbar import Bar
from pages.widgets.offered import Offer
from pages.widgets.text import clean, plain

QUESTION_ICON, ANSWER_ICON = ":material/person:", ":material/sailing:"
SHOWN_AT_ONCE = 30
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,([A-Za-z0-9+/=\s]+)")
_LINK = re.compile(r"https?://[^\s<>()\[\]\"'`\\]+")
_PICTURES_MAX, _SOURCES_MAX = 8, 20


@dataclass(frozen=True, slots=True)
class Acts:
    """What the buttons under messages do."""

    regenerate: Callable[[UUID], None]
    show_branch: Callable[[UUID], None]


def draw(message: Shown, offer: Offer, acts: Acts, *, busy: bool) -> None:
    """Draw one stored message; while an answer runs (`busy`) none can be made anew."""
    if message.role == "user":
        question(message.content)
    else:
        _answer(message, offer, acts, busy=busy)


def question(text: str) -> None:
    """Draw what a person wrote, as they typed it."""
    with st.chat_message("user", avatar=QUESTION_ICON):
        st.text(text)


def _answer(message: Shown, offer: Offer, acts: Acts, *, busy: bool) -> None:
    with st.chat_message("assistant", avatar=ANSWER_ICON):
        if message.left_out:
            left_out(message.left_out)
        if message.reasoning:
            _thoughts(message.reasoning)
        if message.content:
            st.markdown(clean(message.content))
        _extras(message.extras or {})
        _mark(message)
        _bar(message, offer, acts, busy=busy)
        if message.status == "error" and not busy:
            st.button(
                "Try again", icon=":material/refresh:", key=f"again_{message.message_id}",
                on_click=acts.regenerate, args=(message.message_id,),
            )  # fmt: skip


def left_out(count: int) -> None:
    """Say that the model did not see the oldest messages."""
    words = "1 older message was" if count == 1 else f"{count} older messages were"
    st.caption(f":material/compress: {words} left out: the model can only read so much at once.")


def _thoughts(reasoning: str) -> None:
    with st.expander("Thoughts", icon=":material/psychology:", type="compact"):
        st.markdown(clean(reasoning))


def _extras(extras: Mapping[str, Sequence[object]]) -> None:
    for picture in list(extras.get("images", ()))[:_PICTURES_MAX]:
        if (raw := _picture_bytes(picture)) is not None:
            st.image(raw)
    sources = [link for note in extras.get("annotations", ()) if (link := _source(note))]
    if sources:
        unique = list(dict.fromkeys(sources))[:_SOURCES_MAX]
        st.caption("Sources: " + " · ".join(unique))


def _picture_bytes(picture: object) -> bytes | None:
    """The bytes of a picture that came inside the answer; addresses elsewhere are never loaded."""
    found = _PICTURE.fullmatch(_text_at(picture, "image_url", "url"))
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=False)
    except binascii.Error:
        return None


def _source(annotation: object) -> str | None:
    """A cited page as a Markdown link; None for anything but a web address."""
    url = _text_at(annotation, "url_citation", "url")
    if not _LINK.fullmatch(url):
        return None
    title = _text_at(annotation, "url_citation", "title") or url
    return f"[{plain(title[:80])}]({url})"


def _text_at(value: object, *path: str) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def _mark(message: Shown) -> None:
    """Say how an answer ended, where it did not end well."""
    if message.status == "stopped":
        st.caption(":material/stop_circle: Stopped. What was written so far is kept.")
    elif message.status == "interrupted":
        why = message.charge.sentence()
        if message.failure_code:
            why = outcomes.refusal_of(_failure(message), message.charge).message
        st.caption(f":material/bolt: Interrupted. {clean(why)}")
    elif message.status == "error":
        refusals.show(outcomes.refusal_of(_failure(message), message.charge))


def _failure(message: Shown) -> Failure | None:
    kind = message.failure_code
    known = kind in get_args(FailureKind)
    return Failure(cast("FailureKind", kind), None, None, "") if known else None


def _bar(message: Shown, offer: Offer, acts: Acts, *, busy: bool) -> None:
    siblings = message.siblings or (message.message_id,)
    place = siblings.index(message.message_id)

    def act(chosen: str) -> None:
        step = {"previous": -1, "next": 1}.get(chosen)
        if step is None:
            acts.regenerate(message.message_id)
        elif 0 <= place + step < len(siblings):
            acts.show_branch(siblings[place + step])

    bar = Bar(
        text=message.content, note=note(message, offer),
        can_regenerate=message.status != "running" and not busy, place=place + 1,
        count=len(siblings),
    )  # fmt: skip
    msgbar.draw(f"bar_{message.message_id}", bar, act)


def note(message: Shown, offer: Offer) -> str:
    """What an answer cost: model, tokens, money, seconds; an ellipsis until that is settled."""
    parts = [offer.name(message.model_id)]
    if message.billed_nusd is None:
        return " · ".join([*parts, message.charge.in_short()])
    parts += [f"{message.tokens or 0:,} tokens", message.charge.in_short()]
    if message.latency_ms:
        parts.append(f"{message.latency_ms / 1000:.1f} s")
    return " · ".join(parts)
