"""Bad input of every kind: refused by name, in the documented shape, stored and charged nowhere."""

from __future__ import annotations

import socket
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.http import asks, bodies
from tests.http.serving import (
    Client,
    Service,
    a_client,
    calls_of,
    question,
    unpriced_model,
)
from tests.upstream import Upstream

PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

NOT_TAKEN = (
    "api_base", "base_url", "api_key", "models", "provider", "plugins", "service_tier", "route",
    "transforms", "fallbacks", "extra_body", "best_of", "logprobs", "modalities", "metadata",
    "functions", "web_search_options", "preset", "no_such_field",
)  # fmt: skip

WRONG: list[tuple[str, object, str]] = [
    ("model", "", "model"),
    ("model", 7, "model"),
    ("model", None, "model"),
    ("messages", [], "messages"),
    ("messages", "hi", "messages"),
    ("messages", None, "messages"),
    ("messages", ["hi"], "messages[0].role"),
    ("messages", [{"role": "robot", "content": "x"}], "messages[0].role"),
    ("messages", [{"role": ["user"], "content": "x"}], "messages[0].role"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
    ("messages", [{"role": "user", "content": []}], "messages[0].content"),
    ("messages", [{"role": "user", "content": "x", "spy": 1}], "messages[0].spy"),
    ("messages", [{"role": "user", "content": [{"type": "x"}]}], "messages[0].content[0].type"),
    ("messages", [{"role": "user", "content": [{"type": {}}]}], "messages[0].content[0].type"),
    (
        "messages",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}],
        "messages[0].content[0].image_url.url",
    ),
    (
        "messages",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}],
        "messages[0].content[0].image_url.url",
    ),
    (
        "messages",
        [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}],
        "messages[0].content[0].type",
    ),
    ("messages", [{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    ("messages", [{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].id"),
    ("messages", [{"role": "user", "content": "x"}] * 2_001, "messages"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", -1, "max_tokens"),
    ("max_tokens", True, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("max_tokens", "9", "max_tokens"),
    ("max_tokens", 2**31, "max_tokens"),
    ("max_tokens", 16_001, "max_tokens"),
    ("temperature", 2.1, "temperature"),
    ("temperature", "hot", "temperature"),
    ("top_p", -0.1, "top_p"),
    ("frequency_penalty", 0.5, "frequency_penalty"),
    ("seed", 2**63, "seed"),
    ("stop", ["a"] * 5, "stop"),
    ("stop", [""], "stop"),
    ("n", 2, "n"),
    ("n", 128, "n"),
    ("n", True, "n"),
    ("store", True, "store"),
    ("stream", "yes", "stream"),
    ("stream_options", {"include_usage": True}, "stream_options"),
    ("tools", {}, "tools"),
    ("tools", [{"type": "openrouter:web_search"}], "tools[0].type"),
    ("tools", [{"type": "function", "function": {"name": "a b"}}], "tools[0].function.name"),
    ("tool_choice", "auto", "tool_choice"),
    ("response_format", {"type": "xml"}, "response_format.type"),
    ("response_format", "json", "response_format"),
    ("reasoning", {"effort": "huge"}, "reasoning.effort"),
    ("reasoning", {"budget": 1}, "reasoning.budget"),
    ("reasoning_effort", 3, "reasoning_effort"),
    ("logit_bias", {"a": 1}, "logit_bias"),
]  # fmt: skip

BROKEN = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "a text": b'"x"',
    "not UTF-8": b'{"model": "\xff"}',
    "UTF-16": '{"model":"x"}'.encode("utf-16"),
    "a key twice": b'{"model":"a","model":"b","messages":[]}',
    "a key twice inside": b'{"model":"a","messages":[{"role":"user","role":"tool","content":"x"}]}',
    "NaN": b'{"temperature": NaN}',
    "Infinity": b'{"temperature": -Infinity}',
    "a number beyond floats": b'{"temperature": 1e999}',
    "a huge integer": b'{"seed": ' + b"9" * 40 + b"}",
    "an absurd integer": b'{"seed": ' + b"9" * 10_000 + b"}",
    "a lone surrogate": b'{"model":"\\ud800","messages":[]}',
    "a lone surrogate as key": b'{"\\ud800":1}',
    "a lone surrogate as key twice": b'{"\\ud800":1,"\\ud800":1}',
    "NUL": b'{"model":"x","messages":[{"role":"user","content":"a\\u0000b"}]}',
    "deep nesting": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nesting of 300": b'{"tools":' + b'[{"a":' * 150 + b"1" + b"}]" * 150 + b"}",
}


def refused(service: Service, client: Client, body: object, **headers: str) -> dict[str, Any]:
    """The error of a request that must be refused, having left nothing behind."""
    sent = len(service.up.chats)
    response = service.post(client.key, body, **headers)
    assert response.status_code in (400, 413), response.text
    assert response.headers["content-type"] == "application/json"
    error: dict[str, Any] = response.json()["error"]
    assert {"message", "type", "code", "param", "request_id"} <= error.keys()
    assert error["request_id"] == response.headers["x-request-id"]
    assert calls_of(client.place) == 0
    assert len(service.up.chats) == sent
    return error


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_an_unknown_field_is_refused_by_its_name(
    service: Service, client: Client, model: str, name: str
) -> None:
    error = refused(service, client, question(model, **{name: "http://evil.example"}))
    assert error["param"] == name
    assert name in error["message"]
    assert "evil" not in error["message"]


@pytest.mark.parametrize(
    ("name", "value", "param"), WRONG, ids=[f"{w[2]}-{n}" for n, w in enumerate(WRONG)]
)
def test_a_wrong_value_is_refused_with_its_place(
    service: Service, client: Client, model: str, name: str, value: object, param: str
) -> None:
    error = refused(service, client, question(model) | {name: value})
    assert error["param"] == param


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_body_is_refused(service: Service, client: Client, what: str) -> None:
    assert refused(service, client, BROKEN[what])["code"] == "invalid_input"


def test_two_caps_that_differ_are_refused(service: Service, client: Client, model: str) -> None:
    error = refused(service, client, question(model, max_tokens=5, max_completion_tokens=6))
    assert error["param"] == "max_completion_tokens"


def test_a_body_beyond_twenty_megabytes_is_too_large(service: Service, client: Client) -> None:
    body = b'{"model":"' + b"x" * (20 * 1024 * 1024) + b'"}'
    assert refused(service, client, body)["code"] == "too_large"


def test_a_body_that_never_ends_is_given_up(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_PATIENCE_S", 0.2)
    address = service.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as slow:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address[0]}\r\nContent-Length: 99\r\n"
        slow.sendall(f"{head}Authorization: Bearer {client.key}\r\n\r\n{{".encode())
        assert b"400 Bad Request" in slow.recv(4_096)


@pytest.mark.parametrize("suffix", [":nitro", ":floor", ":online", ":thinking", "@preset/x"])
def test_a_suffix_that_changes_the_price_is_no_model(
    service: Service, client: Client, model: str, suffix: str
) -> None:
    error = refused(service, client, question(model + suffix))
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "price" in error["message"]


def test_what_a_model_does_not_support_is_named(
    service: Service, client: Client, model: str
) -> None:
    error = refused(service, client, question(model, logit_bias={"1": 5}))
    assert error["param"] == "logit_bias"
    sound = [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]
    body = {"model": model, "messages": [{"role": "user", "content": sound}]}
    error = refused(service, client, body)
    assert "audio" in error["message"]


def test_a_model_without_a_price_is_never_called(service: Service, client: Client) -> None:
    response = service.ask(client.key, unpriced_model())
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "model_forbidden"


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "é".encode("latin-1").decode("latin-1"), "x" * 256]
)
def test_an_idempotency_key_of_a_wrong_shape_is_refused(
    service: Service, client: Client, model: str, key: str
) -> None:
    with pytest.raises(BadInput):
        asks.read(orjson.dumps(question(model)), key)


def test_everything_that_is_taken_arrives_unchanged(
    service: Service, client: Client, model: str
) -> None:
    picture = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, picture]},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "a \\u0000 in words"},
    ]  # fmt: skip
    fields = {
        "tools": [TOOL], "tool_choice": "auto", "temperature": 0.3, "top_p": 1, "seed": 7,
        "stop": ["END"], "response_format": {"type": "json_object"}, "reasoning": {"effort": "low"},
        "parallel_tool_calls": False,
    }  # fmt: skip
    body = {"model": model, "messages": messages, "max_completion_tokens": 99, **fields}
    assert service.post(client.key, body).status_code == 200
    sent = service.up.chats[-1].json
    assert {name: sent[name] for name in fields} == fields
    assert sent["max_tokens"] == 99
    assert sent["messages"][1] == messages[1]
    assert sent["messages"][2] == {k: v for k, v in messages[2].items() if k != "refusal"}
    assert sent["messages"][3] == messages[3]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
near_messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system"]) | json_values},
        optional=dict.fromkeys(("content", "tool_calls", "name"), json_values),
    ),
    max_size=3,
)
near_requests = st.fixed_dictionaries(
    {"model": json_values | st.just("a/b")},
    optional={"messages": json_values | near_messages}
    | dict.fromkeys(
        ("tools", "stop", "reasoning", "response_format", "tool_choice", "max_tokens", "n", "seed",
         "stream_options", "logit_bias"),
        json_values,
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(near_requests | json_values)
def test_no_body_is_answered_but_by_a_refusal_or_a_request(body: object) -> None:
    try:
        raw = orjson.dumps(body)
    except TypeError:
        return
    try:
        wanted = asks.read(raw, None)
    except BadInput as refusal:
        orjson.dumps([refusal.message, refusal.param])
    else:
        assert wanted.messages


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(BadInput):
        asks.read(raw, None)


def test_two_tenants_with_one_question_make_two_calls(service: Service, model: str) -> None:
    first, second = a_client(), a_client()
    up: Upstream = service.up
    up.play("01_normal_usage_cost.txt", fresh_ids=True)
    before = len(up.chats)
    service.ask(first.key, model)
    service.ask(second.key, model)
    assert len(up.chats) == before + 2
    assert up.chats[-1].json["user"] != up.chats[-2].json["user"]
