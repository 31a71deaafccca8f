"""Reading under deadlines and faults: what ends a call, and that it ends at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.catalog.answers import Answer, Delta
from tests.catalog.asking import (
    PATIENT,
    ask,
    listen,
    provider_at,
)
from tests.upstream import Ending, Script, Upstream, transcript


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def test_no_headers_time_out_at_the_first_token_deadline(up: Upstream) -> None:
    up.play("01_normal_usage_cost.txt", delay_s=30)
    check_timeout(ask(up, replace(PATIENT, first_token_ms=150)).answer, "first token", 150)


@pytest.mark.parametrize("ending", ["comments", "silence"])
def test_neither_comments_nor_silence_are_a_first_token(up: Upstream, ending: Ending) -> None:
    up.play_until("02_keepalive_comments_free_model.txt", 4, ending)
    answer = ask(up, replace(PATIENT, first_token_ms=200)).answer
    check_timeout(answer, "first token", 200)
    assert answer.generation_id == "gen-1795150922-Zp1sVw9XoQ4uHkE6tB3r"


def test_an_empty_first_chunk_is_no_first_token(up: Upstream) -> None:
    up.play_until("01_normal_usage_cost.txt", 1, "comments")
    check_timeout(ask(up, replace(PATIENT, first_token_ms=150)).answer, "first token", 150)


@pytest.mark.parametrize("ending", ["comments", "silence"])
def test_neither_comments_nor_silence_are_progress(up: Upstream, ending: Ending) -> None:
    up.play_until("01_normal_usage_cost.txt", 5, ending)
    answer = ask(up, replace(PATIENT, idle_ms=200)).answer
    check_timeout(answer, "next event", 200)
    assert answer.text == "Hello! The invoice"


def test_a_slow_stream_that_goes_on_meets_only_the_total_deadline(up: Upstream) -> None:
    up.play("01_normal_usage_cost.txt", gap_s=0.05)
    deadlines = replace(PATIENT, first_token_ms=250, idle_ms=250)
    assert ask(up, deadlines).answer.outcome == "ok"
    check_timeout(ask(up, replace(deadlines, total_ms=400)).answer, "total", 400)


def test_a_whole_answer_may_take_longer_than_a_first_token(up: Upstream) -> None:
    up.play("40_nonstream_ok.txt", slice_bytes=300, gap_s=0.1)
    assert ask(up, replace(PATIENT, first_token_ms=150)).answer.outcome == "ok"


def check_timeout(answer: Answer, waiting_for: str, after_ms: int) -> None:
    assert answer.outcome == "timeout"
    assert answer.failure is not None
    assert answer.failure.kind == "provider_timeout"
    assert answer.failure.reason == f"deadline: {waiting_for}"
    assert answer.latency_ms is not None and after_ms <= answer.latency_ms < after_ms + 1500


def test_a_connection_that_never_opens_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(30)

    async def connect() -> Answer:
        # No address on a test machine swallows packets for certain; a deaf resolver does.
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
        provider = provider_at("http://provider.example/v1")
        return (await listen(provider, deadlines=replace(PATIENT, connect_ms=150))).answer

    check_timeout(asyncio.run(connect()), "connect", 150)


def test_a_finished_answer_is_ok_though_the_connection_stays_open(up: Upstream) -> None:
    up.play("01_normal_usage_cost.txt", ending="comments")
    answer = ask(up).answer
    assert answer.outcome == "ok"
    assert answer.latency_ms is not None and answer.latency_ms < 2000


def test_an_error_event_ends_the_call_though_the_connection_stays_open(up: Upstream) -> None:
    up.play("05_midstream_error.txt", ending="silence")
    answer = ask(up).answer
    assert answer.outcome == "error"
    assert answer.latency_ms is not None and answer.latency_ms < 2000


@pytest.mark.parametrize("ending", ["reset", "drop"])
def test_a_broken_connection_is_a_cut_that_keeps_the_text(up: Upstream, ending: Ending) -> None:
    up.play_until("01_normal_usage_cost.txt", 5, ending, gap_s=0.01)
    answer = ask(up).answer
    assert (answer.outcome, answer.text) == ("cut", "Hello! The invoice")
    assert answer.failure is not None and answer.failure.kind == "provider_error"


def test_a_connection_lost_after_the_usage_is_still_a_good_answer(up: Upstream) -> None:
    up.play_until("01_normal_usage_cost.txt", 15, "drop")
    assert ask(up).answer.outcome == "ok"


@pytest.mark.parametrize("missing", [b'"usage"', b'"finish_reason":"stop"'])
def test_an_end_without_usage_or_finish_is_a_cut(up: Upstream, missing: bytes) -> None:
    script = transcript("01_normal_usage_cost.txt")
    pieces = tuple(piece for piece in script.pieces if missing not in piece)
    up.play_script(replace(script, pieces=pieces))
    assert ask(up).answer.outcome == "cut"


def test_a_refused_connection_is_an_error(up: Upstream) -> None:
    up.refuse_connections()
    answer = ask(up).answer
    assert answer.outcome == "error"
    assert answer.failure is not None and answer.failure.kind == "provider_error"


def test_too_few_connections_mean_overloaded(up: Upstream) -> None:
    up.play_until("01_normal_usage_cost.txt", 3, "silence")

    async def two() -> Answer:
        provider = provider_at(up.url, connections=1)
        first = asyncio.create_task(listen(provider))
        await asyncio.sleep(0.1)
        second = await listen(provider, deadlines=replace(PATIENT, connect_ms=100))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return second.answer

    answer = asyncio.run(two())
    assert answer.outcome == "error"
    assert answer.failure is not None and answer.failure.kind == "provider_overloaded"


def test_a_line_of_ten_megabytes_ends_the_call(up: Upstream) -> None:
    line = b'data: {"choices": [{"delta": {"content": "' + b"x" * 10_000_000
    up.play_script(replace(transcript("01_normal_usage_cost.txt"), pieces=(line,)))
    answer = ask(up).answer
    assert (answer.outcome, answer.has_output) == ("error", False)
    assert answer.failure is not None and "larger than" in answer.failure.reason


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/html", b"<html>"), ("application/json", b"not json"), ("application/json", b"[1]")],
)
def test_a_good_status_with_a_strange_body_is_an_error(
    up: Upstream, content_type: str, body: bytes
) -> None:
    up.play_script(Script("HTTP/1.1 200 OK", (f"Content-Type: {content_type}",), (body,)))
    assert ask(up).answer.outcome == "error"


def test_a_redirect_is_not_followed(up: Upstream) -> None:
    headers = (f"Location: {up.url}/elsewhere", "Content-Type: text/plain")
    up.play_script(Script("HTTP/1.1 307 Temporary Redirect", headers, (b"",)))
    assert ask(up).answer.outcome == "error"
    assert len(up.requests) == 1


def test_strange_types_in_events_are_ignored(up: Upstream) -> None:
    events = (
        '{"id": 7, "model": [], "choices": null}',
        '{"choices": [7, {"delta": null}]}',
        '{"choices": [{"delta": {"content": [{"text": "a\\u0000b"}], "tool_calls": [1]}}]}',
        '{"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": -1, "cost": true}}',
    )
    pieces = tuple(f"data: {event}\n\n".encode() for event in events)
    up.play_script(replace(transcript("01_normal_usage_cost.txt"), pieces=pieces))
    answer = ask(up).answer
    assert (answer.outcome, answer.text, answer.tool_calls) == ("ok", "ab", [])
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.cost_usd) == (0, None)


def test_cancelling_closes_the_connection_at_once(up: Upstream) -> None:
    up.play_until("01_normal_usage_cost.txt", 5, "silence")
    answer = Answer()

    async def stop_after_first_delta() -> float:
        provider = provider_at(up.url)
        seen = asyncio.Event()
        task = asyncio.create_task(listen(provider, answer, on_delta=lambda _: seen.set()))
        await seen.wait()
        stopped_at = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(up.disconnected.wait, 5)
        return time.monotonic() - stopped_at

    assert asyncio.run(stop_after_first_delta()) < 0.5
    assert up.disconnected.is_set()
    assert (answer.outcome, answer.failure) == ("stopped", None)
    assert answer.latency_ms is not None
    (record,) = up.bill.values()
    assert record.cancelled


def test_a_timeout_closes_the_connection_at_once(up: Upstream) -> None:
    up.play_until("01_normal_usage_cost.txt", 5, "silence")

    async def leave() -> bool:
        await listen(provider_at(up.url), deadlines=replace(PATIENT, idle_ms=100))
        return await asyncio.to_thread(up.disconnected.wait, 1)

    assert asyncio.run(leave())


def test_an_error_in_a_listener_is_raised_and_closes_the_connection(up: Upstream) -> None:
    up.play_until("01_normal_usage_cost.txt", 5, "silence")

    def fail(_: Delta) -> None:
        raise ArithmeticError

    async def leave() -> bool:
        with pytest.raises(ArithmeticError):
            await listen(provider_at(up.url), on_delta=fail)
        return await asyncio.to_thread(up.disconnected.wait, 1)

    assert asyncio.run(leave())


def test_an_answer_left_unread_gives_its_connection_back(up: Upstream) -> None:
    page = Script("HTTP/1.1 200 OK", ("Content-Type: text/html",), (b"<html>" * 10_000,))

    async def twice() -> list[str]:
        provider = provider_at(up.url, connections=1)
        deadlines = replace(PATIENT, connect_ms=500)
        up.play_script(page)
        first = await listen(provider, deadlines=deadlines)
        up.play("01_normal_usage_cost.txt")
        second = await listen(provider, deadlines=deadlines)
        await provider.close()
        return [first.answer.outcome, second.answer.outcome]

    assert asyncio.run(twice()) == ["error", "ok"]
