"""Writes answers in OpenAI's shape: the events of a stream, and the whole answer at once.

Pure and hot: an event is three pieces of bytes, of which only the delta is encoded anew.
"""

from __future__ import annotations

import time
from uuid import UUID

import orjson

from core import errors, money
from core.catalog.answers import Answer, Delta
from core.chat.runs import Run
from core.http import problems
from core.metering.charges import Charge

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": PURSER WAITING\n\n"
_DELTA_END = b',"finish_reason":null,"logprobs":null}]}\n\n'
_MEDIA = ("images", "annotations", "reasoning_details")


class Chunks:
    """The events of one stream. Made when the first delta is there: it names the model served."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._head = head(run, "chat.completion.chunk")
        shared = orjson.dumps(self._head)[:-1]
        self._before = b"data: " + shared + b',"choices":[{"index":0,"delta":'
        self._is_first = True

    def delta(self, delta: Delta) -> bytes:
        """One event for one delta; the first also names the role."""
        if self._is_first or delta.reasoning or delta.extra:
            return self._rare(delta)
        return b"".join((self._before, b'{"content":', orjson.dumps(delta.text), b"}", _DELTA_END))

    def end(self) -> bytes:
        """The last events of a complete answer: why it ended, what it used and cost, [DONE]."""
        choice = {"index": 0, "delta": {}, "finish_reason": finish_reason(self._run.answer)}
        ended = _event(self._head | {"choices": [choice]})
        return ended + self.usage() + DONE

    def usage(self) -> bytes:
        """The event that says what was used and what it cost."""
        return _event(self._head | {"choices": [], "usage": usage(self._run)})

    def failure(self, refusal: errors.Refusal) -> bytes:
        """The last events of an answer that broke off: what it cost so far, then the error."""
        return self.usage() + _event(problems.body(refusal))

    def _rare(self, delta: Delta) -> bytes:
        fields: dict[str, object] = {"role": "assistant"} if self._is_first else {}
        self._is_first = False
        if delta.text or fields:
            fields["content"] = delta.text
        if delta.reasoning:
            fields["reasoning"] = delta.reasoning
        return self._before + orjson.dumps(fields | dict(delta.extra or {})) + _DELTA_END


def whole(run: Run, refusal: errors.Refusal | None) -> dict[str, object]:
    """The whole answer. What broke off carries its error and the finish reason 'error'."""
    answer = run.answer
    message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning"] = answer.reasoning
    if calls := answer.tool_calls:
        message["tool_calls"] = calls
        message["content"] = answer.text or None
    for name in _MEDIA:
        if pieces := _collected(answer, name):
            message[name] = pieces
    choice: dict[str, object] = {
        "index": 0, "message": message, "logprobs": None,
        "finish_reason": "error" if refusal else finish_reason(answer),
    }  # fmt: skip
    if refusal:
        choice |= problems.body(refusal)
    return head(run, "chat.completion") | {"choices": [choice], "usage": usage(run)}


def head(run: Run, kind: str) -> dict[str, object]:
    """What every object of an answer begins with; it names the model that served."""
    return {
        "id": answer_id(run.call.call_id),
        "object": kind,
        "created": int(time.time()),
        "model": run.answer.model_served or run.call.model_id,
    }


def answer_id(call_id: UUID) -> str:
    """The public id of a call's answer."""
    return f"chatcmpl-{call_id.hex}"


def usage(run: Run) -> dict[str, object]:
    """Tokens of the call, and `cost`: the exact USD booked for it, null until that is done;
    `cost_final` is false while it may still change."""
    counted, charge = run.settlement, booked(run)
    if counted is None:
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": None}
    amount_nusd = charge.billed_nusd
    return {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counted.cached_tokens,
            "cache_write_tokens": counted.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
        # Written digit by digit: a float would not do for money.
        "cost": None if amount_nusd is None else orjson.Fragment(money.exact(amount_nusd)),
        "cost_source": counted.cost_source,
        "cost_final": charge.final,
    }


def booked(run: Run) -> Charge:
    """What the ledger says of the call, as its receipt tells."""
    receipt = run.receipt
    if receipt is None or receipt.billed_nusd is None:
        return Charge()
    return Charge(receipt.billed_nusd, bool(receipt.final))


def finish_reason(answer: Answer) -> str:
    """Why the answer ended, as the provider said; 'tool_calls' where one calls it 'stop'."""
    if answer.finish_reason in {None, "stop"} and answer.tool_calls:
        return "tool_calls"
    return answer.finish_reason or "stop"


def _collected(answer: Answer, name: str) -> list[object]:
    """The pieces of a list that came in several deltas."""
    pieces: list[object] = []
    for delta in answer.deltas:
        found = (delta.extra or {}).get(name)
        if isinstance(found, list):
            pieces += found
    return pieces


def _event(content: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
