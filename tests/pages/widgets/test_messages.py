"""What an answer shows besides its text: what it cost, its pictures and sources, how it ended."""

from __future__ import annotations

import base64
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from streamlit.testing.v1 import AppTest

from core.chat.conversations import Shown
from pages.widgets import messages
from pages.widgets.offered import Offer

OFFER = Offer({}, "", frozenset())
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ANSWER = Shown(
    message_id=UUID(int=1), parent_id=None, role="assistant", status="complete", content="Hello",
    reasoning="", model_id="acme/one", failure_code=None, left_out=0, extras=None, turn_id=uuid4(),
    siblings=(UUID(int=1),), billed_nusd=714_400, tokens=1_284, latency_ms=3_912, final=True,
)  # fmt: skip


SCRIPT = """
import streamlit as st
from pages.widgets import messages
from pages.widgets.offered import Offer

acts = messages.Acts(lambda _: None, lambda _: None)
messages.draw(st.session_state["shown"], Offer({}, "", frozenset()), acts, busy=False)
"""


def page(shown: Shown) -> AppTest:
    app = AppTest.from_string(SCRIPT)
    app.session_state["shown"] = shown
    app.run()
    assert not app.exception
    return app


def captions(shown: Shown) -> str:
    return " ".join(str(c.value) for c in page(shown).caption)


def test_the_note_tells_model_tokens_cost_and_seconds_to_the_last_digit() -> None:
    assert messages.note(ANSWER, OFFER) == "acme/one · 1,284 tokens · $0.0007144 · 3.9 s"


def test_the_note_of_an_estimate_says_so() -> None:
    assert "(estimated, may still change)" in messages.note(replace(ANSWER, final=False), OFFER)


def test_the_note_of_an_unsettled_answer_names_no_cost() -> None:
    assert messages.note(replace(ANSWER, billed_nusd=None), OFFER) == "acme/one · …"


def picture(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_a_picture_inside_the_answer_is_drawn() -> None:
    data = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    app = page(replace(ANSWER, extras={"images": [picture(data)]}))
    assert len(app.main.children[0].children) >= 3


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/a.png", "data:text/html;base64,PGI+", "data:image/svg+xml;base64,PGI+"],
)
def test_a_picture_from_elsewhere_is_not(url: str) -> None:
    with_picture = page(replace(ANSWER, extras={"images": [picture(url), 7, None]}))
    without = page(ANSWER)
    count = len(without.main.children[0].children)
    assert len(with_picture.main.children[0].children) == count


def test_sources_are_links_with_harmless_titles() -> None:
    note = {"url_citation": {"url": "https://a.example/x", "title": "A [bad](javascript:x)"}}
    bad = {"url_citation": {"url": "javascript:alert(1)", "title": "no"}}
    words = captions(replace(ANSWER, extras={"annotations": [note, note, bad]}))
    assert words == "Sources: [A \\[bad\\]\\(javascript:color[:]x\\)](https://a.example/x)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "stopped"}, "Stopped"),
        ({"status": "interrupted"}, "Interrupted"),
        ({"status": "interrupted", "failure_code": "provider_timeout"}, "did not answer in time"),
        ({"left_out": 4}, "4 older messages were left out"),
        ({"left_out": 1}, "1 older message was left out"),
    ],
)
def test_how_an_answer_ended_is_said(change: dict[str, object], said: str) -> None:
    assert said in captions(replace(ANSWER, **change))  # type: ignore[arg-type]


def test_a_failed_answer_shows_why_and_offers_another_try() -> None:
    app = page(replace(ANSWER, status="error", failure_code="provider_overloaded", content=""))
    assert "The provider is busy" in str(app.error[0].value)
    assert [b.label for b in app.button] == ["Try again"]


def test_thoughts_are_folded_away() -> None:
    app = page(replace(ANSWER, reasoning="first ![x](https://evil.example/a)"))
    assert app.expander[0].label == "Thoughts"
    assert "![" not in str(app.expander[0].markdown[0].value)
