"""The demo provider: an OpenAI-compatible server on a loopback port of its own.

It answers from a script with real streams, tokens and costs, so that everything around an answer
can be tried without a key. It refuses to listen on any other address and keeps nothing on disk.

For demonstrations a message may steer it: `[[slow]]` speaks slowly, `[[silent N]]` falls silent for
N seconds after the first words, `[[long N]]` answers with N words, `[[error]]` fails in the middle,
`[[cut]]` ends in the middle without a word of explanation. `echo: TEXT` sends TEXT back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from core.catalog.demo_asks import Ask, AskRefused, read_ask
from core.catalog.demo_models import DEMO_MODELS, DemoModel

_LOOPBACK = "127.0.0.1"
_MAX_RECORDS = 10_000
_JSON = "application/json"
_WORDS_BEFORE_TROUBLE = 8
_SLOWNESS = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the demo speaks: seconds to the first token, tokens per second after it."""

    first_token_s: float = 0.3
    tokens_per_s: float = 50.0


@dataclass(slots=True)
class Call:
    """One answer while it is given, and its record afterwards."""

    model: DemoModel
    prompt_tokens: int
    generation_id: str = field(default_factory=lambda: f"gen-demo-{uuid4().hex}")
    created_at_s: int = field(default_factory=lambda: int(time.time()))
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    finish_reason: str | None = None
    cancelled: bool = False

    def usage(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cost": self._cost(),
            "is_byok": False,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }

    def record(self) -> dict[str, object]:
        """The generation record, in OpenRouter's shape."""
        return {
            "id": self.generation_id,
            "model": self.model.id,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.created_at_s)),
            "provider_name": "Demo",
            "streamed": True,
            "cancelled": self.cancelled,
            "finish_reason": self.finish_reason,
            "native_tokens_prompt": self.prompt_tokens,
            "native_tokens_completion": self.completion_tokens,
            "native_tokens_reasoning": self.reasoning_tokens,
            "native_tokens_cached": 0,
            "is_byok": False,
            "total_cost": self._cost(),
        }

    def chunk(self, delta: Mapping[str, object] | None, **more: object) -> dict[str, object]:
        choice = {"index": 0, "delta": delta, "finish_reason": self.finish_reason}
        return self._head("chat.completion.chunk", [] if delta is None else [choice]) | more

    def whole(self, message: Mapping[str, object]) -> dict[str, object]:
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return self._head("chat.completion", [choice]) | {"usage": self.usage()}

    def _head(self, kind: str, choices: list[object]) -> dict[str, object]:
        return {
            "id": self.generation_id,
            "object": kind,
            "created": self.created_at_s,
            "model": self.model.id,
            "provider": "Demo",
            "choices": choices,
        }

    def _cost(self) -> orjson.Fragment:
        # Written as the exact decimal: a float would not do for money.
        cost_usd = self.model.cost_usd(self.prompt_tokens, self.completion_tokens)
        return orjson.Fragment(format(cost_usd, "f"))


class DemoServer:
    """A running demo provider; `url` is its base URL, `close` ends it."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self._task = asyncio.create_task(server.serve(sockets=[listener]))
        self.url = f"http://{_LOOPBACK}:{listener.getsockname()[1]}/v1"

    async def wait_until_started(self) -> None:
        while not (self._server.started or self._task.done()):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
        if self._task.done():
            await self._task

    async def close(self) -> None:
        """Stop listening and end running answers within about a second."""
        self._server.should_exit = True
        await self._task


async def serve(port: int = 0, *, pace: Pace | None = None) -> DemoServer:
    """Start the demo provider on the running loop; port 0 takes any free one.

    Raises OSError where the port is taken.
    """
    listener = socket.create_server((_LOOPBACK, port))
    # what is accepted has it from here; asyncio sets it on its own sockets only, and an answer in two
    # writes waits 40 ms without
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        application(pace or Pace()),
        access_log=False,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        ws="none",
    )
    running = DemoServer(_Server(config), listener)
    await running.wait_until_started()
    return running


def application(pace: Pace) -> Starlette:
    """The demo provider as an ASGI application with its own memory of calls."""
    desk = _Desk(pace)
    return Starlette(
        routes=[
            Route("/v1/models", desk.models),
            Route("/v1/chat/completions", desk.chat, methods=["POST"]),
            Route("/v1/generation", desk.generation),
        ]
    )


class _Server(uvicorn.Server):
    """Leaves the process's signals to the application it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Desk:
    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._calls: OrderedDict[str, Call] = OrderedDict()

    async def models(self, _: Request) -> Response:
        rows = [model.catalogue_row() for model in DEMO_MODELS.values()]
        return _json({"data": rows, "total_count": len(rows), "links": {"next": None}})

    async def generation(self, request: Request) -> Response:
        generation_id = request.query_params.get("id", "")
        call = self._calls.get(generation_id)
        if call is None or (call.finish_reason is None and not call.cancelled):
            return _refuse(404, "not_found", "No such generation, or not yet.")
        return _json({"data": call.record()})

    async def chat(self, request: Request) -> Response | _Stream:
        try:
            ask = read_ask(await request.body())
        except AskRefused as refused:
            return _refuse(400, refused.code, str(refused))
        call = Call(ask.model, ask.prompt_tokens)
        self._calls[call.generation_id] = call
        while len(self._calls) > _MAX_RECORDS:
            self._calls.popitem(last=False)
        if ask.is_stream:
            return _Stream(ask, call, self._pace)
        await asyncio.sleep(self._pace.first_token_s)
        return _answer_whole(ask, call)


def _answer_whole(ask: Ask, call: Call) -> Response:
    if ask.doors.has_error or ask.doors.has_cut:
        call.finish_reason = "error"
        return _refuse(502, "provider_unavailable", "The demo was asked to fail.")
    reply = ask.limited_reply()
    call.reasoning_tokens = len(reply.reasoning)
    call.completion_tokens = len(reply.reasoning) + len(reply.pieces)
    call.finish_reason = ask.finish_reason()
    message: dict[str, object] = {"role": "assistant", "content": "".join(reply.pieces)}
    if reply.reasoning and ask.shows_reasoning:
        message["reasoning"] = "".join(reply.reasoning)
    if ask.tool_call:
        message["tool_calls"] = [ask.tool_call]
    return _json(call.whole(message), headers={"X-Generation-Id": call.generation_id})


class _Stream:
    """A streamed answer that ends with the connection: what nobody hears is not produced."""

    def __init__(self, ask: Ask, call: Call, pace: Pace) -> None:
        self._ask = ask
        self._call = call
        self._token_s = (_SLOWNESS if ask.doors.is_slow else 1) / pace.tokens_per_s
        self._first_s = (_SLOWNESS if ask.doors.is_slow else 1) * pace.first_token_s
        self._gone: asyncio.Future[None] | None = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        self._gone = asyncio.ensure_future(_wait_until_gone(receive))
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache"),
            (b"x-generation-id", self._call.generation_id.encode()),
        ]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for data in self._events():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._call.cancelled = self._call.finish_reason is None
            self._gone.cancel()

    async def _events(self) -> AsyncIterator[bytes]:
        call = self._call
        yield b": DEMO PROCESSING\n\n"
        if not await self._pause(self._first_s):
            return
        async for delta in self._deltas():
            yield _event(call.chunk(delta))
        if self._is_gone() or self._ask.doors.has_cut:
            return
        if self._ask.doors.has_error:
            call.finish_reason = "error"
            error = {"code": 502, "message": "The demo was asked to fail."}
            error_type = {"metadata": {"error_type": "provider_unavailable"}}
            yield _event(call.chunk({"content": ""}, error=error | error_type))
            return
        call.finish_reason = self._ask.finish_reason()
        yield _event(call.chunk({"content": ""}))
        yield _event(call.chunk(None, usage=call.usage()))
        yield b"data: [DONE]\n\n"

    async def _deltas(self) -> AsyncIterator[dict[str, object]]:
        """The answer piece by piece; each piece is counted just before it is sent."""
        reply, doors = self._ask.limited_reply(), self._ask.doors
        for piece in reply.reasoning:
            self._call.reasoning_tokens += 1
            self._call.completion_tokens += 1
            yield _thought(piece) if self._ask.shows_reasoning else {"content": ""}
            if not await self._pause(self._token_s):
                return
        if self._ask.tool_call:
            self._call.completion_tokens += 1
            yield {"tool_calls": [{"index": 0, **self._ask.tool_call}]}
        for number, piece in enumerate(reply.pieces, start=1):
            self._call.completion_tokens += 1
            yield {"content": piece}
            is_trouble_due = number == _WORDS_BEFORE_TROUBLE
            silent_s = doors.silent_s if is_trouble_due else 0
            # Between 80 % and 120 % of the mean, by the length of the word, as people speak.
            pause_s = self._token_s * (0.8 + 0.05 * (len(piece) % 9)) + silent_s
            if not await self._pause(pause_s):
                return
            if is_trouble_due and (doors.has_error or doors.has_cut):
                return

    async def _pause(self, seconds: float) -> bool:
        """Wait; return False as soon as nobody listens any more."""
        if self._gone is not None:
            await asyncio.wait({self._gone}, timeout=seconds)
        return not self._is_gone()

    def _is_gone(self) -> bool:
        return self._gone is not None and self._gone.done()


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _thought(piece: str) -> dict[str, object]:
    detail = {"type": "reasoning.text", "text": piece, "format": "demo-v1", "index": 0}
    return {"content": "", "reasoning": piece, "reasoning_details": [detail]}


def _event(chunk: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _json(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type=_JSON)


def _refuse(status: int, code: str, message: str) -> Response:
    error: dict[str, object] = {"code": status, "message": message}
    error["metadata"] = {"error_type": "invalid_request" if status == 400 else code}
    if code == "model_not_found":
        error["availability"] = {"code": code, "retryable": False}
    return _json({"error": error}, status=status)
