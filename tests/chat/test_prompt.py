"""The prompt fits the window: oldest whole exchanges go first, the question always stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

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
