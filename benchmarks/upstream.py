"""A fast fake OpenRouter on bare asyncio, so that a benchmark measures the gateway before it.

It speaks the little HTTP/1.1 the benchmark needs (keep-alive, Content-Length bodies) and refuses
everything else; it never checks a key. A stream costs one timer and one write per tick.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import orjson
import uvloop

from benchmarks import fakes

KEPT_GENERATIONS = 50_000
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 411: "Length Required"}


@dataclass(slots=True)
class Answer:
    """One completion: what it is going to say, and how far it has come."""

    generation_id: str
    model: str
    pace: fakes.Pace
    chunks: int
    finish_reason: str
    prompt_tokens: int
    streamed: bool
    created_s: int
    sent: int = 0
    cancelled: bool = False

    def usage(self) -> bytes:
        """The usage object; the cost is written by hand, because a float would not be exact."""
        cost = format(fakes.cost_usd(self.prompt_tokens, self.chunks), "f")
        total = self.prompt_tokens + self.chunks
        return (
            f'{{"prompt_tokens":{self.prompt_tokens},"completion_tokens":{self.chunks},'
            f'"total_tokens":{total},"cost":{cost},"is_byok":false,'
            f'"prompt_tokens_details":{{"cached_tokens":0,"cache_write_tokens":0}},'
            f'"completion_tokens_details":{{"reasoning_tokens":0}},'
            f'"cost_details":{{"upstream_inference_cost":null}}}}'
        ).encode()

    def record(self) -> bytes:
        """What `GET /v1/generation` answers: of a cancelled call, what had been sent until then."""
        cost = format(fakes.cost_usd(self.prompt_tokens, self.sent), "f")
        reason = "null" if self.cancelled else f'"{self.finish_reason}"'
        return (
            f'{{"data":{{"id":"{self.generation_id}","model":"{self.model}",'
            f'"created_at":"{time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.created_s))}",'
            f'"streamed":{str(self.streamed).lower()},"cancelled":{str(self.cancelled).lower()},'
            f'"finish_reason":{reason},'
            f'"provider_name":"Fake","is_byok":false,"upstream_inference_cost":0,'
            f'"tokens_prompt":{self.prompt_tokens},"tokens_completion":{self.sent},'
            f'"native_tokens_prompt":{self.prompt_tokens},"native_tokens_completion":{self.sent},'
            f'"native_tokens_reasoning":0,"native_tokens_cached":0,'
            f'"total_cost":{cost},"usage":{cost}}}}}'
        ).encode()


@dataclass(slots=True)
class Books:
    """Ids given out, and the last generations, looked up by id."""

    boot: str = field(default_factory=lambda: f"{time.time_ns():x}")
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    generations: OrderedDict[str, Answer] = field(default_factory=OrderedDict)

    def open(self, body: dict[str, Any], pace: fakes.Pace) -> Answer:
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or pace.chunks
        chunks = min(pace.chunks, int(wanted))
        answer = Answer(
            generation_id=f"gen-{self.boot}-{next(self.numbers)}",
            model=body["model"],
            pace=pace,
            chunks=chunks,
            finish_reason="stop" if chunks == pace.chunks else "length",
            prompt_tokens=prompt_tokens(body),
            streamed=bool(body.get("stream")),
            created_s=int(time.time()),
        )
        self.generations[answer.generation_id] = answer
        if len(self.generations) > KEPT_GENERATIONS:
            self.generations.popitem(last=False)
        return answer


def prompt_tokens(body: dict[str, Any]) -> int:
    """Words of all text messages plus four per message, at least one: easy to recount."""
    messages = body.get("messages") or []
    words = sum(len(m["content"].split()) for m in messages if isinstance(m.get("content"), str))
    return max(1, words + 4 * len(messages))


class Stream:
    """Writes one answer as server-sent events, each tick sending everything that is due."""

    __slots__ = ("_answer", "_begin", "_ended", "_loop", "_prefix", "_timer", "_transport")

    def __init__(
        self, answer: Answer, transport: asyncio.Transport, ended: Callable[[], None]
    ) -> None:
        self._answer, self._transport, self._ended = answer, transport, ended
        self._loop = asyncio.get_running_loop()
        self._prefix = (
            f'data: {{"id":"{answer.generation_id}","provider":"Fake","model":"{answer.model}",'
            f'"object":"chat.completion.chunk","created":{answer.created_s},"choices":['
        ).encode()
        transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
            b"x-provider-name: Fake\r\nx-generation-id: " + answer.generation_id.encode() + b"\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        self._begin = self._loop.time()
        self._timer = self._loop.call_at(self._begin + answer.pace.first_token_s, self._tick)

    def cancel(self) -> None:
        """The client is gone: generation stops, as a provider that supports it would."""
        self._timer.cancel()
        self._answer.cancelled = True

    def _tick(self) -> None:
        answer = self._answer
        elapsed = self._loop.time() - self._begin
        events = []
        while answer.sent < answer.chunks and answer.pace.due_s(answer.sent) <= elapsed + 0.0005:
            events.append(self._token(answer.sent))
            answer.sent += 1
        if answer.sent == answer.chunks:
            events.append(self._ending())
        payload = b"".join(events)
        framed = b"%x\r\n%b\r\n" % (len(payload), payload)
        if answer.sent == answer.chunks:
            self._transport.write(framed + b"0\r\n\r\n")
            self._ended()
            return
        self._transport.write(framed)
        due = self._begin + answer.pace.due_s(answer.sent)
        self._timer = self._loop.call_at(due, self._tick)

    def _token(self, index: int) -> bytes:
        return (
            self._prefix
            + b'{"index":0,"delta":{"role":"assistant","content":"tok%d "},' % index
            + b'"finish_reason":null,"native_finish_reason":null}]}\n\n'
        )

    def _ending(self) -> bytes:
        reason = self._answer.finish_reason.encode()
        return (
            self._prefix
            + b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"%b",' % reason
            + b'"native_finish_reason":"%b"}]}\n\n' % reason
            + self._prefix
            + b'],"usage":%b}\n\n' % self._answer.usage()
            + b"data: [DONE]\n\n"
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection: requests are taken one after the other, in order."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._buffer = b""
        self._stream: Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._close_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport, hence no isinstance here.
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while self._stream is None and self._timer is None and self._take_request():
            pass

    def _take_request(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._buffer[:end]
        length = _CONTENT_LENGTH.search(head)
        if length is None and head.startswith(b"POST"):
            self._buffer = b""
            self._refuse(411, "a POST needs a Content-Length")
            return False
        body_end = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < body_end:
            return False
        body, self._buffer = self._buffer[end + 4 : body_end], self._buffer[body_end:]
        self._close_after = _CLOSE.search(head) is not None
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
        self._route(method, urlsplit(target.decode()), body)
        return True

    def _route(self, method: bytes, url: SplitResult, body: bytes) -> None:
        if method == b"POST" and url.path == "/v1/chat/completions":
            self._complete(body)
        elif method == b"GET" and url.path == "/v1/generation":
            wanted = parse_qs(url.query).get("id", [""])[0]
            answer = self._books.generations.get(wanted)
            if answer is None:
                self._refuse(404, "no such generation")
            else:
                self._send(200, answer.record())
        elif method == b"GET" and url.path == "/v1/models":
            self._send(200, models())
        else:
            self._refuse(404, "no such route")

    def _complete(self, raw: bytes) -> None:
        try:
            body = orjson.loads(raw)
            pace = fakes.pace_of(body["model"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._refuse(400, "the body is not a chat completion request")
            return
        if pace is None:
            self._refuse(400, "not a fake model: fake/ttft<ms>-tps<chunks/s>-n<chunks>")
            return
        answer = self._books.open(body, pace)
        if answer.streamed:
            self._stream = Stream(answer, self._transport, self._stream_ended)
            return
        delay_s = pace.due_s(answer.chunks - 1)
        if delay_s == 0:
            self._whole(answer)
            return
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._whole_later, answer)

    def _stream_ended(self) -> None:
        self._stream = None
        self._end_response()

    def _whole_later(self, answer: Answer) -> None:
        self._timer = None
        self._whole(answer)
        self._advance()

    def _whole(self, answer: Answer) -> None:
        answer.sent = answer.chunks
        body = (
            f'{{"id":"{answer.generation_id}","provider":"Fake","model":"{answer.model}",'
            f'"object":"chat.completion","created":{answer.created_s},"choices":[{{"index":0,'
            f'"message":{{"role":"assistant","content":"{fakes.text_of(answer.chunks)}"}},'
            f'"finish_reason":"{answer.finish_reason}"}}],"usage":'
        ).encode()
        generation = f"x-generation-id: {answer.generation_id}\r\n"
        self._send(200, body + answer.usage() + b"}", generation)

    def _send(self, status: int, body: bytes, headers: str = "") -> None:
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
            f"{headers}content-length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        if self._close_after:
            self._transport.close()

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, orjson.dumps({"error": {"code": status, "message": message}}))

    def _end_response(self) -> None:
        if self._close_after:
            self._transport.close()
        else:
            self._advance()


def models() -> bytes:
    """The listed fake models in the shape of OpenRouter's `/models`."""
    return orjson.dumps({"data": [_model(name) for name in fakes.LISTED_MODELS]})


def _model(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "canonical_slug": name,
        "name": name,
        "created": 1_750_000_000,
        "description": "Counts to its length at the pace its name says.",
        "context_length": 128_000,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {
            "prompt": format(fakes.cost_usd(1, 0), "f"),
            "completion": format(fakes.cost_usd(0, 1), "f"),
        },
        "top_provider": {
            "context_length": 128_000,
            "max_completion_tokens": 16_384,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "temperature", "stop"],
        "default_parameters": {},
        "expiration_date": None,
    }


async def serve(port: int) -> None:
    """Serve on loopback until cancelled."""
    books = Books()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(books), "127.0.0.1", port, backlog=1024, reuse_address=True
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Command line: `python -m benchmarks.upstream --port 9100`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
