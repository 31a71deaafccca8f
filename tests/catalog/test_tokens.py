"""Guesses of tokens: the recipe for each script, conversations, and the speed on large texts."""

from __future__ import annotations

import time

import pytest

from core.catalog.tokens import IMAGE_TOKENS, guess_messages, guess_tokens
from core.errors import BadInput


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("你好世界", 4),
        ("こんにちは", 5),
        ("안녕", 2),
        ("ÄÖÜ", 2),
        ("привет", 3),
        ("😀", 2),
        ("abcd你é😀", 5),
    ],
)
def test_a_text_is_guessed_by_its_scripts(text: str, tokens: int) -> None:
    assert guess_tokens(text) == tokens


def test_a_lone_surrogate_is_guessed_like_any_character() -> None:
    assert guess_tokens("\ud800") == 1


@pytest.mark.parametrize("letter", ["a", "é", "你", "😀", "a你"])
def test_a_megabyte_is_guessed_in_milliseconds(letter: str) -> None:
    text = letter * (1_000_000 // len(letter.encode()))
    runs = []
    for _ in range(5):
        started = time.perf_counter()
        guess_tokens(text)
        runs.append(time.perf_counter() - started)
    assert min(runs) < 0.03


def test_a_conversation_adds_four_per_message_and_three() -> None:
    messages = [{"role": "system", "content": "abcd"}, {"role": "user", "content": "abcdefgh"}]
    assert guess_messages(messages) == 3 + (4 + 1) + (4 + 2)


def test_an_image_counts_alike_whatever_its_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    message = {"role": "user", "content": [{"type": "text", "text": "abcd"}, image, image]}
    assert guess_messages([message]) == 3 + 4 + 1 + 2 * IMAGE_TOKENS


def test_tool_calls_tools_and_answer_schemas_count_as_their_text() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "x" * 400}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert guess_messages([message]) > 3 + 4 + 100
    bare = guess_messages([{"role": "user", "content": "hi"}])
    tools = [{"type": "function", "function": {"name": "f", "description": "y" * 800}}]
    schema = {"type": "json_schema", "json_schema": {"schema": {"description": "z" * 400}}}
    with_both = guess_messages(
        [{"role": "user", "content": "hi"}], tools=tools, response_format=schema
    )
    assert with_both > bare + 300


def test_a_file_counts_as_text_so_that_it_is_never_free() -> None:
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": "A" * 4_000}}
    assert guess_messages([{"role": "user", "content": [part]}]) > 1_000


def test_what_is_nested_beyond_json_is_refused_without_its_content() -> None:
    deep: list[object] = []
    for _ in range(2_000):
        deep = [deep]
    with pytest.raises(BadInput) as refused:
        guess_messages([{"role": "user", "content": "secret", "extra": deep}])
    assert "secret" not in str(refused.value)
    assert refused.value.__context__ is None
