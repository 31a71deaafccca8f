"""The demo provider seen through the real client: replies, money, stopping, and its doors."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

import httpx2
import pytest

from core.catalog import demo
from core.catalog.answers import Answer, Delta
from core.catalog.demo_replies import Reply, pieces_of, reply_to
from core.catalog.demo_texts import FALLBACK, GREETING, TOPICS
from core.catalog.providers import ChatRequest, Deadlines, Generation, Provider
from tests.catalog.asking import PATIENT, Admitted, Heard

T = TypeVar("T")
FAST = demo.Pace(first_token_s=0.0, tokens_per_s=20_000)
ADMIRAL_PROMPT_USD, ADMIRAL_COMPLETION_USD = Decimal("0.000003"), Decimal("0.000015")


@dataclass
class Stage:
    """A running demo provider and a client of it."""

    server: demo.DemoServer
    provider: Provider

    async def say(
        self,
        *messages: str,
        model: str = "demo/purser",
        max_tokens: int = 4096,
        deadlines: Deadlines = PATIENT,
        on_delta: Callable[[Delta], None] = lambda _: None,
        answer: Answer | None = None,
        **fields: Any,
    ) -> Answer:
        heard = Heard(answer or Answer(), [], [])
        asked: list[dict[str, object]] = [{"role": "user", "content": text} for text in messages]
        await self.provider.stream(
            Admitted(uuid4(), uuid4(), max_tokens),
            ChatRequest(model, asked, "hash", fields),
            heard.answer,
            deadlines=deadlines,
            on_delta=on_delta,
            on_generation=heard.generations.append,
        )
        return heard.answer

    async def record(self, answer: Answer) -> Generation:
        assert answer.generation_id is not None
        for _ in range(200):
            if found := await self.provider.generation(answer.generation_id):
                return found
            await asyncio.sleep(0.01)
        raise AssertionError("no record of the generation")


def on_stage(play: Callable[[Stage], Awaitable[T]], pace: demo.Pace = FAST) -> T:
    async def run() -> T:
        server = await demo.serve(pace=pace)
        provider = Provider("demo", server.url, "", site="http://x", max_connections=20)
        try:
            return await play(Stage(server, provider))
        finally:
            await provider.close()
            await server.close()

    return asyncio.run(run())


def say(*messages: str, pace: demo.Pace = FAST, **how: Any) -> Answer:
    return on_stage(lambda stage: stage.say(*messages, **how), pace)


# --- money -------------------------------------------------------------------------------------


def test_models_are_one_free_and_two_priced() -> None:
    rows = on_stage(lambda stage: stage.provider.models())
    assert {str(row["id"]): row["pricing"] for row in rows} == {
        "demo/free-sailor": {"prompt": "0", "completion": "0"},
        "demo/purser": {"prompt": "0.000001", "completion": "0.000004"},
        "demo/admiral": {"prompt": "0.000003", "completion": "0.000015"},
    }


def test_usage_counts_the_pieces_and_costs_them_exactly() -> None:
    async def play(stage: Stage) -> tuple[Answer, Generation]:
        answer = await stage.say("What is a hold?", model="demo/admiral")
        return answer, await stage.record(answer)

    answer, record = on_stage(play)
    usage = answer.usage
    assert answer.outcome == "ok" and answer.finish_reason == "stop" and usage is not None
    assert usage.completion_tokens == len(answer.deltas) > 50
    assert 0 < usage.reasoning_tokens == sum(bool(delta.reasoning) for delta in answer.deltas)
    spent = usage.prompt_tokens * ADMIRAL_PROMPT_USD
    spent += usage.completion_tokens * ADMIRAL_COMPLETION_USD
    assert usage.cost_usd == spent == record.cost_usd
    assert record.completion_tokens == usage.completion_tokens and not record.cancelled


def test_the_free_model_costs_nothing() -> None:
    usage = say("hello", model="demo/free-sailor").usage
    assert usage is not None
    assert usage.cost_usd == 0 and usage.completion_tokens > 0


def test_a_longer_prompt_has_more_tokens() -> None:
    short, long = say("hello").usage, say("hello " * 400).usage
    assert short is not None and long is not None
    assert long.prompt_tokens - short.prompt_tokens == pytest.approx(600, abs=5)


@pytest.mark.parametrize("model", ["demo/purser", "demo/admiral"])
def test_max_tokens_ends_the_answer_with_length(model: str) -> None:
    answer = say("What is Purser?", model=model, max_tokens=7)
    assert (answer.outcome, answer.finish_reason, len(answer.deltas)) == ("ok", "length", 7)
    assert answer.usage is not None and answer.usage.completion_tokens == 7


def test_streamed_and_whole_answers_agree() -> None:
    body = {
        "model": "demo/admiral",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is a hold?"}]}],
    }

    async def play(stage: Stage) -> tuple[httpx2.Response, Answer]:
        async with httpx2.AsyncClient() as client:
            whole = await client.post(f"{stage.server.url}/chat/completions", json=body)
        return whole, await stage.say("What is a hold?", model="demo/admiral")

    response, streamed = on_stage(play)
    whole = Answer()
    whole.absorb(response.json())
    assert response.headers["x-generation-id"] == whole.generation_id
    assert (whole.text, whole.reasoning) == (streamed.text, streamed.reasoning)
    assert '"cost":0.00' in response.text
    assert whole.usage is not None and streamed.usage is not None
    assert whole.usage.completion_tokens == streamed.usage.completion_tokens


# --- stopping and pace ---------------------------------------------------------------------------


def test_stopping_ends_the_generation_and_bills_what_was_produced() -> None:
    answer = Answer()

    async def play(stage: Stage) -> Generation:
        seen = asyncio.Event()
        task = asyncio.create_task(
            stage.say("[[long 5000]]", answer=answer, on_delta=lambda _: seen.set())
        )
        await seen.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await stage.record(answer)

    record = on_stage(play, demo.Pace(first_token_s=0, tokens_per_s=50))
    assert answer.outcome == "stopped" and record.cancelled
    assert len(answer.deltas) <= record.completion_tokens < 20
    spent = record.prompt_tokens * Decimal("0.000001")
    assert record.cost_usd == spent + record.completion_tokens * Decimal("0.000004")


def test_a_running_answer_has_no_record_yet() -> None:
    async def play(stage: Stage) -> tuple[Generation | None, str]:
        answer, seen = Answer(), asyncio.Event()
        task = asyncio.create_task(
            stage.say("[[long 500]]", answer=answer, on_delta=lambda _: seen.set())
        )
        await seen.wait()
        found = await stage.provider.generation(answer.generation_id or "")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return found, answer.outcome

    pace = demo.Pace(first_token_s=0, tokens_per_s=50)
    assert on_stage(play, pace) == (None, "stopped")


def test_the_default_pace_is_that_of_a_person_reading() -> None:
    answer = say("[[long 50]]", pace=demo.Pace())
    assert answer.first_token_ms is not None and answer.latency_ms is not None
    assert 250 <= answer.first_token_ms < 2_000
    assert 10 <= 50 / ((answer.latency_ms - answer.first_token_ms) / 1000) <= 60


def test_closing_ends_running_answers_and_frees_the_port() -> None:
    async def run() -> tuple[Answer, float, int]:
        before = signal.getsignal(signal.SIGINT)
        server = await demo.serve()
        assert signal.getsignal(signal.SIGINT) is before
        provider = Provider("demo", server.url, "", site="http://x", max_connections=5)
        seen = asyncio.Event()
        stage = Stage(server, provider)
        task = asyncio.create_task(stage.say("[[long 5000]]", on_delta=lambda _: seen.set()))
        await seen.wait()
        started = time.monotonic()
        await server.close()
        took_s = time.monotonic() - started
        answer = await task
        await provider.close()
        return answer, took_s, int(server.url.split(":")[2].split("/")[0])

    answer, took_s, port = asyncio.run(run())
    assert answer.outcome == "cut"
    assert took_s < 3
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


# --- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("What is Purser?", "Purser"),
        ("Who are you?", "Purser"),
        ("how do holds work", "holds"),
        ("Where can I buy credits?", "credits and the wallet"),
        ("what does a message cost", "costs"),
        ("Which limits do I have?", "limits"),
        ("How do I revoke my keys?", "API keys"),
        ("Is there an API?", "the API"),
        ("what happens when I press stop", "stopping"),
        ("How do I connect OpenRouter?", "connecting a provider"),
        ("Which models should I choose?", "models"),
        ("Show me a Python example", "code"),
    ],
)
def test_question_finds_its_subject(question: str, topic: str) -> None:
    (replies,) = [subject.replies for subject in TOPICS if subject.name == topic]
    assert "".join(reply_to([question]).pieces) in replies


def test_greetings_and_strange_questions_have_replies_of_their_own() -> None:
    assert "".join(reply_to(["Hello!"]).pieces) in GREETING.replies
    assert "".join(reply_to(["Why is the sky blue on Mars?"]).pieces) in FALLBACK.replies
    assert reply_to([]).pieces


def test_the_same_conversation_gets_the_same_reply_and_others_vary() -> None:
    def replies() -> list[Reply]:
        return [reply_to([f"strange matter {n}"]) for n in range(30)]

    assert replies() == replies()
    assert len(set(replies())) == len(FALLBACK.replies)


@pytest.mark.parametrize("topic", [*TOPICS, GREETING, FALLBACK], ids=lambda topic: topic.name)
def test_pieces_join_to_the_text(topic: Any) -> None:
    for reply in topic.replies:
        assert "".join(pieces_of(reply)) == reply


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("echo: one  two\nthree", "one  two\nthree"),
        ("Echo:x", "x"),
        ("Repeat after me: ahoy!", "ahoy!"),
        ("say exactly 'so it is'", "so it is"),
        ("Please reply with exactly: 42", "42"),
        ("echo: " + "w" * 100 + " é世", "w" * 100 + " é世"),
    ],
)
def test_echo_sends_the_text_back(message: str, text: str) -> None:
    assert say(message).text == text


def test_a_title_is_made_of_the_words_of_the_question() -> None:
    prompt = "Write a short title for this conversation.\n\nUser: how do holds work in the ledger?"
    assert say(prompt).text == "How do holds work in the"


def test_admiral_thinks_unless_told_not_to() -> None:
    assert "holds" in say("How do holds work?", model="demo/admiral").reasoning
    off = say("How do holds work?", model="demo/admiral", reasoning={"effort": "none"})
    assert off.reasoning == "" and off.usage is not None and off.usage.reasoning_tokens == 0
    hidden = say("How do holds work?", model="demo/admiral", reasoning={"exclude": True})
    assert hidden.reasoning == "" and hidden.usage is not None
    assert hidden.usage.reasoning_tokens > 0


def test_a_tool_is_called_by_name() -> None:
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
    answer = say('Please call get_weather {"city": "Oslo"}', tools=tools)
    (call,) = answer.tool_calls
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    assert (answer.outcome, answer.finish_reason) == ("ok", "tool_calls")
    assert say("call get_time", tools=tools).tool_calls == []


# --- doors ---------------------------------------------------------------------------------------


def test_long_has_exactly_that_many_words() -> None:
    assert len(say("[[long 123]]").text.split()) == 123


def test_error_fails_after_some_words() -> None:
    answer = say("[[error]] What is Purser?")
    assert (answer.outcome, answer.has_output) == ("error", True)
    assert answer.failure is not None and answer.failure.reason.endswith("provider_unavailable")


def test_cut_ends_without_usage_and_leaves_a_record() -> None:
    async def play(stage: Stage) -> tuple[Answer, Generation]:
        answer = await stage.say("[[cut]] What is Purser?")
        return answer, await stage.record(answer)

    answer, record = on_stage(play)
    assert (answer.outcome, answer.usage) == ("cut", None)
    assert record.completion_tokens == len(answer.deltas) > 0


def test_silent_says_some_words_and_then_nothing() -> None:
    deadlines = Deadlines(connect_ms=1000, first_token_ms=5000, idle_ms=150, total_ms=5000)
    answer = say("[[silent 60]] What is Purser?", deadlines=deadlines)
    assert (answer.outcome, len(answer.deltas)) == ("timeout", 8)


def test_slow_is_ten_times_slower() -> None:
    pace = demo.Pace(first_token_s=0.01, tokens_per_s=500)
    slow, normal = say("[[slow]] [[long 20]]", pace=pace), say("[[long 20]]", pace=pace)
    assert slow.latency_ms is not None and normal.latency_ms is not None
    assert slow.latency_ms > 3 * normal.latency_ms and slow.latency_ms >= 400


# --- refusals ------------------------------------------------------------------------------------


def test_an_unknown_model_is_not_found() -> None:
    answer = say("hello", model="demo/stowaway")
    assert answer.failure is not None and answer.failure.kind == "model_not_found"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"model": "demo/purser", "messages": []}',
        b'{"model": "demo/purser", "messages": [{"role": "user"}], "max_tokens": -1}',
    ],
)
def test_a_broken_request_is_refused_in_the_usual_shape(body: bytes) -> None:
    async def play(stage: Stage) -> httpx2.Response:
        async with httpx2.AsyncClient() as client:
            return await client.post(f"{stage.server.url}/chat/completions", content=body)

    response = on_stage(play)
    assert response.status_code == 400
    assert response.json()["error"]["metadata"] == {"error_type": "invalid_request"}
