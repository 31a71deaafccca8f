"""The life of cache writes in a provider's usage: read wherever one says it, else not known."""

from __future__ import annotations

import pytest

from core.catalog.answers import read_usage

SPLIT = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70}
TOKENS = {"prompt_tokens": 500, "completion_tokens": 5}


@pytest.mark.parametrize(
    ("said", "written", "written_1h"),
    [
        ({}, 0, None),
        ({"prompt_tokens_details": {"cache_write_tokens": 100}}, 100, None),
        ({"prompt_tokens_details": {"cache_write_tokens": 100}, "cache_creation": SPLIT}, 100, 70),
        ({"prompt_tokens_details": {"cache_write_tokens": 100, "cache_creation": SPLIT}}, 100, 70),
        ({"prompt_tokens_details": {"cache_creation_token_details": SPLIT}}, 100, 70),
        ({"cache_creation_input_tokens": 100, "cache_creation": SPLIT}, 100, 70),
        ({"cache_creation_input_tokens": 100}, 100, None),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 9}}, 9, 9),
        ({"cache_creation": {"ephemeral_1h_input_tokens": "9"}}, 0, 0),
        ({"cache_creation": "many", "prompt_tokens_details": {"cache_write_tokens": 4}}, 4, None),
        ({"cache_creation": {}}, 0, None),
    ],
)  # fmt: skip
def test_the_split_is_read_where_it_is_said(
    said: dict[str, object], written: int, written_1h: int | None
) -> None:
    usage = read_usage(TOKENS | said)
    assert usage is not None
    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens) == (written, written_1h)
