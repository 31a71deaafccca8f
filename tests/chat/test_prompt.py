"""The prompt fits the window: oldest whole exchanges go first, the question always stays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalog.tokens import guess_messages
from core.chat import prompt
from core.chat.tables import Message


def branch(*texts: str) -> list[Message]:
    return [
        Message(role="assistant" if number % 2 else "user", content=text)
        for number, text in enumerate(texts)
    ]


def test_a_short_conversation_is_sent_whole() -> None:
    built = prompt.build(branch("a", "b"), "c", window_tokens=1_000, answer_tokens=100)
    assert [m["content"] for m in built.messages] == ["a", "b", "c"]
    assert built.left_out == 0


def test_an_answer_without_text_is_not_sent() -> None:
    built = prompt.build(branch("a", ""), "c", window_tokens=1_000, answer_tokens=100)
    assert [m["content"] for m in built.messages] == ["a", "c"]


@given(st.lists(st.integers(1, 4_000), max_size=30), st.integers(200, 20_000))
def test_what_is_sent_fits_and_is_the_newest(lengths: list[int], window_tokens: int) -> None:
    history = branch(*("x" * length for length in lengths))
    built = prompt.build(history, "q", window_tokens=window_tokens, answer_tokens=100)
    assert built.messages[-1] == {"role": "user", "content": "q"}
    assert built.left_out + len(built.messages) - 1 == len(history)
    kept = [m.content for m in history[built.left_out :]]
    assert [m["content"] for m in built.messages[:-1]] == kept
    assert len(built.messages) == 1 or built.tokens_guess * 1.3 <= window_tokens


def test_a_long_history_in_any_script_is_trimmed_at_once() -> None:
    history = branch(*("Grüße aus Köln, übermäßig öde. " * 20 for _ in range(3_000)))
    began = time.process_time()
    built = prompt.build(history, "q", window_tokens=100_000, answer_tokens=4_000)
    assert time.process_time() - began < 0.1
    assert 0 < built.left_out < 3_000
    assert built.left_out % 4 == 0


def test_the_history_beyond_the_window_is_not_even_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guessed: list[int] = []

    def counting(messages: Sequence[Mapping[str, object]]) -> int:
        guessed.append(len(messages))
        return guess_messages(messages)

    monkeypatch.setattr(prompt, "guess_messages", counting)
    built = prompt.build(branch(*["x" * 400] * 1_000), "q", window_tokens=2_000, answer_tokens=100)
    assert sum(guessed) <= len(built.messages) + 4 + 1


@given(st.lists(st.integers(1, 4_000), max_size=30), st.integers(200, 20_000))
def test_as_much_is_kept_as_fits(lengths: list[int], window_tokens: int) -> None:
    history = branch(*("ü" * length for length in lengths))
    built = prompt.build(history, "q", window_tokens=window_tokens, answer_tokens=100)
    assert built.tokens_guess == guess_messages(built.messages)
    if built.left_out:
        earlier = [{"role": m.role, "content": m.content} for m in history]
        fuller = [*earlier[max(0, built.left_out - 4) :], built.messages[-1]]
        assert guess_messages(fuller) > int((window_tokens - 100) * 0.95 / 1.3)
