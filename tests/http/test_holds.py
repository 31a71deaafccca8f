"""What a request holds covers what an upstream bills for it, whatever was written and in whatever field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.catalog.test_prompt_bounds import CORPUS
from tests.factories import make_model
from tests.http.serving import Service, a_client, question, rows, wallet
from tests.upstream import Script

PRICE_NUSD = 1_000  # of a prompt's token in ROUND_PRICE; an answer's costs twice as much


def bills_each_byte(sent: dict[str, Any], *, generation: str) -> Script:
    """The dearest answer there is: each byte sent was a token, and the answer came to its end."""
    prompt = sum(len(message["content"].encode()) + 8 for message in sent["messages"])
    prompt += len(json.dumps(sent.get("tools", ""), ensure_ascii=False).encode())
    usage = {"prompt_tokens": prompt, "completion_tokens": sent["max_tokens"],
             "cost": (prompt * PRICE_NUSD + sent["max_tokens"] * 2 * PRICE_NUSD) / 1e9}  # fmt: skip
    chunk = {"id": generation, "choices": [{"index": 0, "delta": {"content": "x"},
                                            "finish_reason": "stop"}]}  # fmt: skip
    last = {"id": generation, "choices": [], "usage": usage}
    body = tuple(f"data: {json.dumps(event)}\n\n".encode() for event in (chunk, last))
    return Script(
        "HTTP/1.1 200 OK", ("Content-Type: text/event-stream",), (*body, b"data: [DONE]\n\n")
    )


def hold_of(call_id: str) -> Any:
    return rows(
        "select hold_nusd, tokens_held, answer_tokens_max from app.calls where call_id = :c",
        c=call_id,
    )[0]


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("place", ["message", "tools"])
def test_a_request_holds_what_each_of_its_bytes_would_cost(
    service: Service, name: str, place: str
) -> None:
    client, model = a_client(credit_usd=10), make_model()
    text = CORPUS[name]
    fields: dict[str, Any] = {"max_tokens": 300}
    if place == "tools":
        function = {"name": "f", "description": text, "parameters": {"type": "object"}}
        fields["tools"] = [{"type": "function", "function": function}]
    asked = question(model, "hi" if place == "tools" else text, **fields)
    service.up.play_script(
        bills_each_byte(asked, generation=f"gen-1-{name}{place}".replace(" ", ""))
    )
    answer = service.post(client.key, asked)
    assert answer.status_code == 200, answer.text
    call_id = answer.headers["x-purser-call-id"]
    held = hold_of(call_id)
    billed = rows("select billed_nusd from app.usage_events where call_id = :c", c=call_id)[0][0]
    assert held.hold_nusd >= billed > len(text) * PRICE_NUSD


@pytest.mark.parametrize("name", ["hex", "base64", "digits", "Amharic"])
def test_a_small_wallet_never_owes_for_what_was_written(service: Service, name: str) -> None:
    """Longer and longer prompts, until one is refused: what was admitted never cost more than is there."""
    client, model = a_client(credit_usd="0.05"), make_model()
    statuses = []
    for copies in (1, 5, 10, 20, 40):
        asked = question(model, CORPUS[name] * copies, max_tokens=256)
        generation = f"gen-1-{name}{copies}small"
        service.up.play_script(bills_each_byte(asked, generation=generation))
        statuses.append(service.post(client.key, asked).status_code)
    after = wallet(client.place)
    assert (statuses[0], statuses[-1], after.debt_nusd) == (200, 402, 0)
    assert after.posted_nusd >= 0
