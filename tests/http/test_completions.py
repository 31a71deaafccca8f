"""The API against every recorded answer of a provider, and against clients that misbehave."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest

from core import errors, money
from core.chat import turns
from core.http import completions
from tests.factories import make_model
from tests.http.serving import (
    Client,
    Service,
    a_client,
    calls_of,
    event_of,
    question,
    rows,
    wait_until,
    wallet,
)
from tests.upstream import SSE_DIR

EXPECTED: dict[str, dict[str, Any]] = json.loads((SSE_DIR / "expected.json").read_text())
GOOGLES = "14_google_compat_tool_call_no_index.txt"  # another provider, which reports no cost
CHATS = {n: said for n, said in EXPECTED.items() if "outcome" in said}
STREAMS = [name for name in CHATS if not name.startswith("4")]
ENDED_WELL = [name for name, said in CHATS.items() if said["outcome"] == "ok"]


def charged_nusd(said: dict[str, Any]) -> int | None:
    try:
        return int(Decimal(said["charged_usd"]) * money.NANO_PER_USD)
    except ArithmeticError:
        return None  # 'price table', 'from the text received'


def check_books(call_id: str, name: str) -> None:
    """The books say of this call what the table says."""
    said, booked = CHATS[name], event_of(call_id)
    assert booked.outcome == said["outcome"]
    assert booked.cost_source == said["cost_source"]
    assert booked.final is (said["final"] if name != GOOGLES else booked.final)
    assert (booked.state, booked.hold_state) == (
        "settled",
        "captured" if booked.billed_nusd else "released",
    )
    assert booked.billed_nusd == booked.captured_nusd
    if (charged := charged_nusd(said)) is not None:
        assert booked.billed_nusd - charged in (0, 1)
    else:
        assert booked.billed_nusd > 0
    for kind in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"):
        if kind in said:
            assert getattr(booked, kind) == said[kind]


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_answer_comes_out_as_expected(service: Service, model: str, name: str) -> None:
    client = a_client(credit_usd=100)
    service.up.play(name, fresh_ids=True)
    answer = service.stream(client.key, model)
    said = CHATS[name]
    call_id = answer.headers["x-purser-call-id"]
    assert answer.status == said.get("api_status", 200)
    if answer.status != 200:
        assert answer.error is not None
        assert answer.error["code"] == said["api_code"]
        assert answer.error["request_id"] == answer.headers["x-request-id"]
    else:
        assert answer.usage["cost"] == pytest.approx(event_of(call_id).billed_nusd / 1e9, abs=1e-15)
        assert (answer.error is None) == answer.is_done == (said["outcome"] == "ok")
    if "finish_reason" in said:
        assert answer.finish_reason == said["finish_reason"]
    check_books(call_id, name)
    after = wallet(client.place)
    assert after.held_nusd == after.kept_nusd
    assert (after.kept_nusd > 0) is not event_of(call_id).final


@pytest.mark.parametrize("name", CHATS)
def test_a_whole_answer_comes_out_as_expected(service: Service, model: str, name: str) -> None:
    client = a_client(credit_usd=100)
    service.up.play(name, fresh_ids=True)
    response = service.ask(client.key, model)
    said = CHATS[name]
    call_id = response.headers["x-purser-call-id"]
    assert response.status_code == said.get("api_status", 200)
    booked = event_of(call_id)
    assert response.headers["x-purser-cost-usd"] == money.exact(booked.billed_nusd)
    if response.status_code != 200:
        assert response.json()["error"]["code"] == said["api_code"]
    else:
        choice = response.json()["choices"][0]
        assert ("error" in choice) == (said["outcome"] != "ok")
        assert f'"cost":{money.exact(booked.billed_nusd)}' in response.text
    check_books(call_id, name)


def test_the_parts_of_an_answer_are_put_together(
    service: Service, client: Client, model: str
) -> None:
    service.up.play("04_tool_calls_parallel.txt", fresh_ids=True)
    tools = service.ask(client.key, model).json()["choices"][0]
    assert tools["finish_reason"] == "tool_calls"
    assert len(tools["message"]["tool_calls"]) == 2
    for call in tools["message"]["tool_calls"]:
        json.loads(call["function"]["arguments"])
    service.up.play("03_reasoning_details.txt", fresh_ids=True)
    thought = service.ask(client.key, model).json()["choices"][0]["message"]
    assert thought["reasoning"]
    assert thought["reasoning_details"]
    service.up.play("10_image_output.txt", fresh_ids=True)
    assert service.ask(client.key, model).json()["choices"][0]["message"]["images"]


def test_the_answer_names_the_model_that_served(
    service: Service, client: Client, model: str
) -> None:
    answer = service.ask(client.key, model)
    assert answer.json()["model"] == "openai/gpt-6.1-sol"
    call_id = answer.headers["x-purser-call-id"]
    assert answer.json()["id"] == f"chatcmpl-{call_id.replace('-', '')}"


def test_the_provider_gets_a_hash_a_cap_and_nothing_else(
    service: Service, client: Client, model: str
) -> None:
    service.ask(client.key, model, user="ada@example.com", temperature=0.5, n=1, store=False)
    sent = service.up.chats[-1].json
    assert sent.keys() == {
        "model", "messages", "max_tokens", "user", "stream", "stream_options", "temperature"
    }  # fmt: skip
    assert sent["max_tokens"] == 4_096
    assert "ada" not in sent["user"]
    assert sent["stream"] is True


def test_fifty_at_once_on_a_wallet_for_three_admit_three(service: Service) -> None:
    # A call holds 1,000 answer tokens at $0.001: one dollar and its prompt.
    priced = make_model(terms={"prompt": "0", "completion": "0.001"})
    client = a_client(credit_usd=3)
    service.up.play("01_normal_usage_cost.txt", fresh_ids=True, delay_s=3.0)
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(service.ask, client.key, priced, max_tokens=1_000) for _ in range(50)]
        answers = [each.result() for each in asked]
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(402)) == (3, 47)
    refused = next(a.json()["error"] for a in answers if a.status_code == 402)
    assert refused["code"] == "insufficient_credit"
    assert (refused["limit"], refused["scope"]) == ("credit", "tenant")
    assert wallet(client.place).posted_nusd == 3 * money.NANO_PER_USD - 3 * 714_400
    assert wallet(client.place).held_nusd == 0


def test_chats_and_calls_at_once_share_one_wallet(service: Service) -> None:
    priced = make_model(terms={"prompt": "0", "completion": "0.001"})
    rows(
        "update app.models set answer_tokens_default = 1000 where model_id = :m returning 1",
        m=priced,
    )
    client = a_client(credit_usd=3)
    service.up.play("01_normal_usage_cost.txt", fresh_ids=True, delay_s=4)
    offered = frozenset({"openrouter"})

    def chat(_: int) -> bool:
        try:
            turns.start(client.place.who, "hi", model_id=priced, offered=offered)
        except errors.InsufficientCredit:
            return False
        return True

    def call(_: int) -> bool:
        return service.ask(client.key, priced, max_tokens=1_000).status_code == 200

    before = len(service.up.chats)
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit((chat, call)[number % 2], number) for number in range(50)]
        admitted = [each.result() for each in asked].count(True)
    wait_until(lambda: wallet(client.place).held_nusd == 0)
    assert admitted == 3
    assert len(service.up.chats) == before + 3
    assert wallet(client.place).posted_nusd == 3 * money.NANO_PER_USD - 3 * 714_400


def test_an_idempotency_key_is_good_for_one_call(
    service: Service, client: Client, model: str
) -> None:
    first = service.post(client.key, question(model), **{"idempotency-key": "once"})
    again = service.post(client.key, question(model), **{"idempotency-key": "once"})
    assert (first.status_code, again.status_code) == (200, 409)
    assert first.headers["x-purser-call-id"] in again.json()["error"]["message"]
    assert calls_of(client.place) == 1
    other = a_client()
    assert service.post(
        other.key, question(model), **{"idempotency-key": "once"}
    ).status_code == 200  # fmt: skip


def test_a_client_that_leaves_pays_for_what_was_served(
    service: Service, client: Client, model: str
) -> None:
    service.up.play("01_normal_usage_cost.txt", fresh_ids=True, gap_s=0.1)
    with httpx2.stream(
        "POST", f"{service.url}/v1/chat/completions", json=question(model, stream=True),
        headers={"authorization": f"Bearer {client.key}"}, timeout=30,
    ) as response:  # fmt: skip
        call_id = response.headers["x-purser-call-id"]
        next(response.iter_lines())
    query = "select state from app.calls where call_id = :c"
    wait_until(lambda: rows(query, c=call_id)[0].state == "settled")
    check_books(call_id, "01_normal_usage_cost.txt")


def test_a_silent_provider_keeps_the_connection_alive(
    service: Service, client: Client, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "KEEP_ALIVE_EVERY_S", 0.2)
    monkeypatch.setattr(completions, "_LOOK_EVERY_S", 0.1)
    service.up.play("13_sub_micro_cost.txt", fresh_ids=True, gap_s=0.7)
    answer = service.stream(client.key, model)
    assert answer.is_done
    assert answer.comments >= 2


def test_what_is_too_dear_is_refused_with_what_is_affordable(service: Service) -> None:
    priced = make_model(terms={"prompt": "0", "completion": "0.001"})
    client = a_client(credit_usd=2)
    refused = service.ask(client.key, priced, max_tokens=16_000)
    assert refused.status_code == 402
    assert refused.json()["error"]["still_works"].startswith("max_tokens up to 2000.")
    assert service.ask(client.key, priced, max_tokens=2_000).status_code == 200


def test_a_rate_says_when_to_come_back(service: Service, model: str) -> None:
    client = a_client(plan="free")
    service.up.play("02_keepalive_comments_free_model.txt", fresh_ids=True)
    answers = [service.ask(client.key, model) for _ in range(21)]
    assert [a.status_code for a in answers].count(200) == 20
    refused = answers[-1]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["error"]["limit"].startswith("requests_per_")
    assert refused.json()["error"]["resets_at"]


def test_the_official_client_works(service: Service, client: Client, model: str) -> None:
    sdk = openai.OpenAI(base_url=f"{service.url}/v1", api_key=client.key, max_retries=0)
    whole = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 1240
    chunks = list(
        sdk.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], stream=True,
            stream_options={"include_usage": True}, max_completion_tokens=50,
        )
    )  # fmt: skip
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_extra is not None
    assert chunks[-1].usage.model_extra["cost"] == 0.0007144
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="no/such", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "model_not_found"


def test_the_official_client_hears_of_a_failure_in_mid_stream(
    service: Service, client: Client, model: str
) -> None:
    service.up.play("05_midstream_error.txt", fresh_ids=True)
    sdk = openai.OpenAI(base_url=f"{service.url}/v1", api_key=client.key, max_retries=0)
    stream = sdk.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hi"}], stream=True
    )
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "provider_error"


def test_before_the_first_token_the_database_is_asked_twice_and_once_more_for_a_new_key(
    service: Service, client: Client, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    database = completions.standing.db.current()
    original = database.call

    def counting(statement: str, *arguments: Any, **named: Any) -> Any:
        asked.append(statement.split("(", maxsplit=1)[0].rsplit(".", 1)[-1])
        return original(statement, *arguments, **named)

    monkeypatch.setattr(database, "call", counting)
    service.ask(client.key, model)
    assert asked[:3] == ["resolve", "resolve", "admit"]
    asked.clear()
    service.ask(client.key, model)
    assert asked[:2] == ["resolve", "admit"]
    assert asked.count("resolve") == asked.count("admit") == asked.count("settle") == 1


def test_a_draining_server_takes_nothing_new(
    service: Service, client: Client, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.engine, "draining", True)
    refused = service.ask(client.key, model)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert calls_of(client.place) == 0
