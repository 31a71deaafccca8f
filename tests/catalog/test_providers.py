"""The provider against every recorded answer: outcome, tokens, exact cost, lookups, one retry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from core.catalog.answers import Answer
from core.catalog.providers import (
    Generation,
    MaxPrice,
    ProviderUnreachable,
)
from tests.catalog.asking import (
    CANARY_KEY,
    CHATS,
    EXPECTED,
    ask,
    listen,
    lookup,
    provider_at,
)
from tests.upstream import SSE_DIR, Upstream

# What expected.json does not say: the kind of failure, the text, how the answer finished.
KINDS = {
    "05_midstream_error.txt": "provider_error",
    "06_error_first_event_http200.txt": "provider_error",
    "07_abrupt_end_no_usage_no_done.txt": "provider_error",
    "08_abrupt_end_partial_json.txt": "provider_error",
    "20_error_400_model_not_found.txt": "model_not_found",
    "21_error_401.txt": "provider_unavailable",
    "22_error_402_insufficient_credits.txt": "provider_unavailable",
    "23_error_402_max_tokens_unaffordable.txt": "provider_unavailable",
    "24_error_403_moderation.txt": "content_refused",
    "25_error_403_guardrail.txt": "content_refused",
    "26_error_404_privacy_restricted.txt": "model_unavailable",
    "27_error_408_timeout.txt": "provider_timeout",
    "28_error_429_platform_free_limit.txt": "provider_overloaded",
    "29_error_429_capacity_retry_after.txt": "provider_overloaded",
    "30_error_500_masked.txt": "provider_error",
    "31_error_502_provider.txt": "provider_error",
    "32_error_503_no_provider.txt": "provider_overloaded",
    "33_error_502_html_edge.txt": "provider_error",
    "41_nonstream_error_in_choice.txt": "provider_error",
    "42_nonstream_error_top_level_200.txt": "provider_error",
}
TEXTS = {
    "01_normal_usage_cost.txt": "Hello! The invoice total is **$42.50** — due on 30 November.",
    "02_keepalive_comments_free_model.txt": "Sure, here you go.",
    "03_reasoning_details.txt": "9.9 is bigger than 9.11.",
    "05_midstream_error.txt": "Once upon a time",
    "07_abrupt_end_no_usage_no_done.txt": "This answer stops half",
    "08_abrupt_end_partial_json.txt": "Voilà la réponse",
    "09_finish_length.txt": "A list of primes: 2, 3, 5, 7, 11",
    "10_image_output.txt": "Here is your red pixel.",
    "12_byok_cost_zero.txt": "Hi there!",
    "13_sub_micro_cost.txt": "OK",
    "40_nonstream_ok.txt": "Hello there!",
    "41_nonstream_error_in_choice.txt": "",
}
FINISHES = {
    "04_tool_calls_parallel.txt": "tool_calls",
    "05_midstream_error.txt": "error",
    "06_error_first_event_http200.txt": None,
    "07_abrupt_end_no_usage_no_done.txt": None,
    "08_abrupt_end_partial_json.txt": None,
    "09_finish_length.txt": "length",
    "41_nonstream_error_in_choice.txt": "error",
    "42_nonstream_error_top_level_200.txt": None,
}


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("slice_bytes", [None, 1, 997], ids=["events", "bytes", "slices"])
def test_transcript(up: Upstream, name: str, slice_bytes: int | None) -> None:
    said = CHATS[name]
    up.play(name, slice_bytes=slice_bytes)
    heard = ask(up)
    answer = heard.answer
    assert answer.outcome == said["outcome"]
    assert (answer.failure.kind if answer.failure else None) == KINDS.get(name)
    assert heard.deltas == answer.deltas
    if name in TEXTS:
        assert answer.text == TEXTS[name]
    if said["http"] == 200:
        assert answer.finish_reason == FINISHES.get(name, "stop")
        assert heard.generations == [answer.generation_id]
    else:
        assert not answer.has_output and heard.generations == []
    check_usage(answer, said)


def check_usage(answer: Answer, said: dict[str, Any]) -> None:
    if "prompt_tokens" not in said:
        assert answer.usage is None or answer.usage.cost_usd == 0
        return
    assert answer.usage is not None
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"):
        assert getattr(answer.usage, name) == said[name]
    is_priced_here = said["cost_source"] == "price_table"
    assert answer.usage.cost_usd == (None if is_priced_here else Decimal(said["charged_usd"]))


def test_all_transcripts_are_tried() -> None:
    lookups = {name for name, said in EXPECTED.items() if "outcome" not in said}
    files = {path.name for path in SSE_DIR.glob("*.txt")}
    assert set(CHATS) | lookups == files
    assert lookups == {"43_generation_lookup.txt", "44_generation_404_not_ready.txt"}
    assert set(KINDS) == {name for name, said in CHATS.items() if said["outcome"] != "ok"}


def test_tool_calls_are_put_together_from_their_pieces(up: Upstream) -> None:
    up.play("04_tool_calls_parallel.txt")
    answer = ask(up).answer
    weather = {"name": "get_weather", "arguments": '{"city":"Paris","unit":"c"}'}
    clock = {"name": "get_time", "arguments": '{"tz":"Europe/Paris"}'}
    assert answer.tool_calls == [
        {"id": "call_a1B2c3", "type": "function", "function": weather},
        {"id": "call_d4E5f6", "type": "function", "function": clock},
    ]
    assert answer.delivered_tokens > 10


def test_a_tool_call_without_an_index_keeps_its_signature(up: Upstream) -> None:
    up.play("14_google_compat_tool_call_no_index.txt")
    (call,) = ask(up).answer.tool_calls
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    assert call["extra_content"] == {"google": {"thought_signature": "EjQKMgEMFAKESIGNATURE=="}}


def test_reasoning_searches_and_images_are_kept(up: Upstream) -> None:
    up.play_first("03_reasoning_details.txt", "11_web_search_annotations.txt")
    reasoned, searched = ask(up).answer, ask(up).answer
    assert reasoned.reasoning.startswith("The user asks for the bigger number.")
    details = [d.extra["reasoning_details"] for d in reasoned.deltas if d.extra]
    assert len(details) == 5 and "signature" in details[-1][0]  # type: ignore[index]
    assert searched.usage is not None and searched.usage.searches == 2
    assert searched.usage.cache_write_tokens == 4379
    up.play("10_image_output.txt")
    drawn = ask(up).answer
    assert drawn.usage is not None and drawn.usage.image_tokens == 1120
    assert drawn.deltas[-1].extra is not None and "images" in drawn.deltas[-1].extra


def test_first_token_and_latency_are_measured(up: Upstream) -> None:
    up.play("02_keepalive_comments_free_model.txt", gap_s=0.02)
    answer = ask(up).answer
    assert answer.first_token_ms is not None and answer.latency_ms is not None
    assert 80 <= answer.first_token_ms < answer.latency_ms


def test_the_request_says_what_was_admitted_and_nothing_of_the_environment(
    up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "leak-me")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Leak: leak-me\nAuthorization: leak-me")
    price = MaxPrice(Decimal("1.50"), Decimal("1E+1"))
    ask(up, fields={"temperature": 0.5}, session_id="s1", max_price=price)
    (sent,) = up.chats
    assert sent.json == {
        "model": "acme/one",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 77,
        "user": "hash",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "session_id": "s1",
        "provider": {"max_price": {"prompt": "1.50", "completion": "10"}},
    }
    assert sent.headers["authorization"] == f"Bearer {CANARY_KEY}"
    assert sent.headers["http-referer"] == "https://chat.example"
    assert "leak-me" not in str(sent.headers)
    assert sent.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("name", ["model", "max_tokens", "stream", "user", "provider", "models"])
def test_a_field_that_is_not_allowed_never_leaves(up: Upstream, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ask(up, fields={name: "x"})
    assert up.requests == []


def test_streams_read_to_the_end_share_a_connection(up: Upstream) -> None:
    async def thrice() -> list[Answer]:
        provider = provider_at(up.url, connections=1)
        answers = [(await listen(provider)).answer for _ in range(3)]
        await provider.close()
        return answers

    assert [answer.outcome for answer in asyncio.run(thrice())] == ["ok"] * 3


@pytest.mark.parametrize(
    "name", ["29_error_429_capacity_retry_after.txt", "32_error_503_no_provider.txt"]
)
def test_a_busy_provider_is_asked_once_more_when_it_says_soon(up: Upstream, name: str) -> None:
    up.play_first(name)
    answer = ask(up).answer
    assert (answer.outcome, answer.failure, len(up.chats)) == ("ok", None, 2)


@pytest.mark.parametrize("name", [name for name, said in CHATS.items() if said["http"] != 200])
def test_nothing_is_asked_more_than_twice_or_twice_without_leave(up: Upstream, name: str) -> None:
    up.play(name)
    answer = ask(up).answer
    may_repeat = name[:2] in ("29", "32")
    assert len(up.chats) == (2 if may_repeat else 1)
    assert answer.failure is not None
    assert answer.failure.retry_after_s == (1 if may_repeat else None)


def test_a_lost_connection_is_not_asked_again(up: Upstream) -> None:
    up.play_until("01_normal_usage_cost.txt", 0, "reset")
    ask(up)
    assert len(up.chats) == 1


def test_generation_record_is_exact(up: Upstream) -> None:
    up.play_lookup("43_generation_lookup.txt")
    assert lookup(up) == Generation(
        cost_usd=Decimal("0.0007144"),
        prompt_tokens=1240,
        completion_tokens=18,
        reasoning_tokens=0,
        cached_tokens=1024,
        model="openai/gpt-6.1-sol-20260929",
        finish_reason="stop",
        cancelled=False,
    )


def test_generation_that_is_not_ready_is_none(up: Upstream) -> None:
    up.play_lookup("44_generation_404_not_ready.txt")
    assert lookup(up) is None


def test_generation_is_looked_up_in_the_bill_by_its_id(up: Upstream) -> None:
    up.play("12_byok_cost_zero.txt", fresh_ids=True)
    generation_id = ask(up).answer.generation_id
    assert generation_id is not None
    found = lookup(up, generation_id)
    assert found is not None and found.cost_usd == Decimal("0.0000096") == up.billed_usd
    assert lookup(up, "gen-1-other") is None


@pytest.mark.parametrize("name", ["30_error_500_masked.txt", "33_error_502_html_edge.txt"])
def test_a_lookup_that_fails_is_unreachable_and_not_none(up: Upstream, name: str) -> None:
    up.play_lookup(name)
    with pytest.raises(ProviderUnreachable):
        lookup(up)


def test_a_provider_that_is_down_is_unreachable(up: Upstream) -> None:
    up.refuse_connections()
    with pytest.raises(ProviderUnreachable):
        lookup(up)


def test_models_ask_for_every_kind_and_keep_amounts_exact(up: Upstream) -> None:
    up.list_models([{"id": "a", "pricing": {"prompt": "0.1", "discount": 0.1}}, "junk"])  # type: ignore[list-item]

    async def once() -> list[dict[str, object]]:
        provider = provider_at(up.url)
        try:
            return await provider.models()
        finally:
            await provider.close()

    rows = asyncio.run(once())
    assert rows == [{"id": "a", "pricing": {"prompt": "0.1", "discount": Decimal("0.1")}}]
    assert up.requests[0].path.endswith("/models?output_modalities=all")
