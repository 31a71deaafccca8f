"""POST /v1/chat/completions: the key, then the body, one admission, then the answer as it comes.

It prices nothing and ends no call: the engine does, whether or not anybody still listens. Until the
first token is there a failure is an HTTP status; afterwards it is an event of the stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core import crypto, errors, money
from core.catalog.providers import ChatRequest
from core.chat import engine, outcomes
from core.chat.engine import Engine
from core.chat.runs import Run
from core.http import asks, bodies, keys, problems, work
from core.http.asks import Wanted
from core.http.chunks import KEEP_ALIVE, Chunks, booked, whole
from core.http.keys import Caller
from core.http.sending import until_gone
from core.identity.access import Scope as KeyScope
from core.identity.access import require_scope
from core.quota import gate, standing
from core.quota.gate import Ask, OpenCall

KEEP_ALIVE_EVERY_S = 10.0
SETTLEMENT_PATIENCE_S = 5.0
_LOOK_EVERY_S = 1.0
_LARGE_BODY = 32 * 1024  # from here on reading it would hold up the other streams
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


async def complete(request: Request) -> Response | Streamed:
    """Answer a completion request. Raises the refusals of reading, standing and the gate."""
    running = engine.current()
    running.refuse_when_draining()
    secret, who = keys.bearer(request), await keys.caller(request)
    with bodies.in_flight(who.key_id) as share:
        raw = await bodies.read(request, share, length_max=bodies.LENGTH_MAX)
        wanted = await _read(who, raw, request.headers.get("idempotency-key"))
        call = await running.admit(
            who.tenant_id, _admit, secret, wanted, frozenset(running.providers)
        )
    run = Run(call, _request(call, wanted))
    running.start(run)
    if wanted.is_stream:
        return Streamed(running, run)
    return await _whole(running, run, request)


class Streamed:
    """The answer of a run as server-sent events; an ASGI response."""

    def __init__(self, running: Engine, run: Run) -> None:
        self._engine, self._run = running, run
        self._chunks: Chunks | None = None
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes until the call is settled, or until nobody listens any more."""
        is_heard = await _attend(
            self._engine, self._run, receive, self._deltas(send), partial(self._keep_alive, send)
        )
        if not is_heard:
            return
        refusal = _refusal(self._run)
        if refusal is not None and self._chunks is None:
            await problems.response(refusal, _call_headers(self._run))(scope, receive, send)
            return
        chunks = self._chunks or await self._begin(send)
        last = chunks.end() if refusal is None else chunks.failure(refusal)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _deltas(self, send: Send) -> None:
        async for delta in self._run.deltas():
            chunks = self._chunks or await self._begin(send)
            self._sent_at = time.monotonic()
            body = chunks.delta(delta)
            await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _begin(self, send: Send) -> Chunks:
        self._chunks = Chunks(self._run)
        call_id = (b"x-purser-call-id", str(self._run.call.call_id).encode())
        headers = [*_HEADERS, call_id]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return self._chunks

    async def _keep_alive(self, send: Send) -> None:
        silent_s = time.monotonic() - self._sent_at
        if self._chunks is not None and silent_s >= KEEP_ALIVE_EVERY_S:
            self._sent_at = time.monotonic()
            await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})


async def _whole(running: Engine, run: Run, request: Request) -> Response:
    """The whole answer once settled. What was delivered is handed out, even when it broke off."""
    await _attend(running, run, request.receive, _until_ended(run))
    refusal = _refusal(run)
    headers = _call_headers(run)
    if refusal is not None and not run.answer.has_output:
        return problems.response(refusal, headers)
    return problems.as_json(whole(run, refusal), headers=headers)


async def _attend(
    running: Engine,
    run: Run,
    receive: Receive,
    answering: Coroutine[Any, Any, None],
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> bool:
    """Do `answering` until it ends; return False, with the engine told, when the client left before.

    `meanwhile` is called about once a second. A complete answer whose settlement is late ends the
    waiting too: the client need not wait for a database that is away.
    """
    following = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(until_gone(receive))
    late_at: float | None = None
    try:
        while True:
            await asyncio.wait(
                {following, gone}, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
            if following.done():
                following.result()
                return True
            if gone.done():
                running.client_gone(run)
                return False
            if run.answer.outcome != "running":
                late_at = late_at or time.monotonic() + SETTLEMENT_PATIENCE_S
                if time.monotonic() > late_at:
                    return True
            if meanwhile is not None:
                await meanwhile()
    except asyncio.CancelledError:
        running.client_gone(run)
        raise
    finally:
        for task in (following, gone):
            task.cancel()
        await asyncio.gather(following, gone, return_exceptions=True)


async def _read(who: Caller, raw: bytes, idempotency_key: str | None) -> Wanted:
    if len(raw) < _LARGE_BODY:
        return asks.read(raw, idempotency_key)
    return await work.read(who.key_id, asks.read, raw, idempotency_key)


def _admit(secret: str, wanted: Wanted, offered: frozenset[str]) -> OpenCall:
    """Who asks, and the gate: the only two statements before the first token."""
    found = standing.of_key(secret, wanted.model_id)
    require_scope(found.principal, KeyScope.CHAT)
    try:
        standing.require_model(found, offered=offered)
    except errors.ModelNotFound:
        if ":" in wanted.model_id or "@" in wanted.model_id:
            raise errors.ModelNotFound(
                "There is no model of that name. Suffixes and presets that change the price of a"
                " model are not taken.",
                param="model",
            ) from None
        raise
    asks.require_supported(wanted, found)
    return gate.open_call(
        found,
        Ask(
            source="api", purpose="completion", prompt_tokens_guess=wanted.prompt_tokens_guess,
            prompt_tokens_bound=wanted.prompt_tokens_bound,
            max_tokens=wanted.max_tokens, inputs=wanted.inputs,
            idempotency_key=wanted.idempotency_key,
        ),
    )  # fmt: skip


def _request(call: OpenCall, wanted: Wanted) -> ChatRequest:
    return ChatRequest(
        model=call.model_id, messages=wanted.messages, fields=wanted.fields,
        end_user=crypto.end_user_hash(call.tenant_id, call.user_id),
    )  # fmt: skip


def _refusal(run: Run) -> errors.Refusal | None:
    """What the caller is told about an answer that did not come to a good end."""
    answer = run.answer
    if answer.outcome in {"ok", "running"}:
        return None
    charge = booked(run)
    if answer.failure is None:
        said = f"The answer was stopped before its end. {charge.sentence()}"
        return errors.Unavailable(said, retry_after_s=5)
    if answer.has_output and answer.outcome != "error":
        return errors.ProviderFailed(
            f"The provider's answer broke off before its end. {charge.sentence()}"
        )
    return outcomes.refusal_of(answer.failure, charge)


def _call_headers(run: Run) -> dict[str, str]:
    headers = {"x-purser-call-id": str(run.call.call_id)}
    if (billed_nusd := booked(run).billed_nusd) is not None:
        headers["x-purser-cost-usd"] = money.exact(billed_nusd)
    return headers


async def _until_ended(run: Run) -> None:
    async for _ in run.deltas():
        pass
