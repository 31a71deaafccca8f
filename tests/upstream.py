"""A provider for tests: a real HTTP server on a loopback port that answers by script.

It replays recorded answers byte for byte and misbehaves on demand. It keeps every request and its
own bill, so that a test can compare what was charged with what the provider would charge.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

SSE_DIR = Path(__file__).parent / "fixtures" / "sse"

Ending = Literal["end", "silence", "comments", "reset", "drop"]

_GENERATION_ID = re.compile(rb"gen-[0-9]+-[0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Script:
    """One answer: when it starts, in which pieces it comes, and how it ends.

    Endings: `end` closes the body properly; `silence` sends nothing more; `comments` sends nothing
    but keep-alive comments; `reset` breaks the connection; `drop` closes it inside the body.
    """

    status_line: str
    headers: tuple[str, ...]
    pieces: tuple[bytes, ...]
    ending: Ending = "end"
    delay_s: float = 0.0  # before the status line
    gap_s: float = 0.0  # before each piece
    fresh_ids: bool = False  # a generation id of its own for each request

    @property
    def is_stream(self) -> bool:
        return any("text/event-stream" in header for header in self.headers)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass(slots=True)
class Record:
    """What the server says about one generation it served."""

    cost_usd: Decimal
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pieces_sent: int = 0
    cancelled: bool = False


@dataclass(slots=True)
class _Plan:
    chat: Script
    queued: deque[Script] = field(default_factory=deque)
    lookup: Script | None = None
    models: list[dict[str, object]] = field(default_factory=list)
    activity: list[dict[str, object]] = field(default_factory=list)
    activity_script: Script | None = None


def transcript(name: str, *, slice_bytes: int | None = None) -> Script:
    """The script of a recorded answer; `slice_bytes` cuts its body into pieces of that size."""
    head, body = (SSE_DIR / name).read_bytes().split(b"\n\n", 1)
    status_line, *headers = head.decode("ascii").split("\n")
    if slice_bytes:
        starts = range(0, len(body), slice_bytes)
        pieces = tuple(body[start : start + slice_bytes] for start in starts)
    else:
        pieces = tuple(re.findall(rb".+?(?:\n\n|\Z)", body, re.DOTALL))
    return Script(status_line, tuple(headers), pieces)


class Upstream:
    """The server: `with Upstream() as up: up.play("01_normal_usage_cost.txt"); up.url`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bill: dict[str, Record] = {}  # by generation id
        self.disconnected = threading.Event()  # a client left before its answer ended
        self._plan = _Plan(transcript("01_normal_usage_cost.txt"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/v1"

    @property
    def chats(self) -> list[Request]:
        return [request for request in self.requests if "/chat/completions" in request.path]

    @property
    def billed_usd(self) -> Decimal:
        return sum((record.cost_usd for record in self.bill.values()), Decimal(0))

    def play(self, name: str, *, slice_bytes: int | None = None, **changes: Any) -> None:
        """Answer every chat from now on with this transcript; `changes` are fields of Script."""
        self._plan.chat = replace(transcript(name, slice_bytes=slice_bytes), **changes)
        self._plan.queued.clear()

    def play_script(self, script: Script) -> None:
        self._plan.chat = script
        self._plan.queued.clear()

    def play_first(self, *names: str) -> None:
        """Answer the next chats with these transcripts, in order, then go on as before."""
        self._plan.queued.extend(transcript(name) for name in names)

    def play_until(self, name: str, pieces: int, ending: Ending, **changes: Any) -> None:
        """Send the first pieces of a transcript, then end it in this way."""
        script = transcript(name)
        self.play_script(replace(script, pieces=script.pieces[:pieces], ending=ending, **changes))

    def play_lookup(self, name: str | None) -> None:
        """Answer every generation lookup with this transcript; None: with the own bill."""
        self._plan.lookup = transcript(name) if name else None

    def list_models(self, rows: list[dict[str, object]]) -> None:
        self._plan.models = rows

    def list_activity(self, rows: list[dict[str, object]]) -> None:
        """What the provider's days cost. A Decimal is written exactly; `?date=` picks its day."""
        self._plan.activity, self._plan.activity_script = rows, None

    def play_activity(self, script: Script) -> None:
        """Answer every question for the days with this, whatever it asks."""
        self._plan.activity_script = script

    def refuse_connections(self) -> None:
        """Close the port: from now on nobody can connect."""
        self._run(self._stop())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.disconnected.set()
        finally:
            writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; return whether the connection may be used again."""
        url = urlsplit(request.path)
        if url.path.endswith("/chat/completions"):
            plan = self._plan
            script = plan.queued.popleft() if plan.queued else plan.chat
            return await self._replay(script, reader, writer)
        if url.path.endswith("/generation"):
            generation_id = parse_qs(url.query).get("id", [""])[0]
            script = self._plan.lookup or _lookup(generation_id, self.bill.get(generation_id))
            return await self._replay(script, reader, writer, is_billed=False)
        if url.path.endswith("/activity"):
            day = parse_qs(url.query).get("date", [""])[0]
            script = self._plan.activity_script or _activity(self._plan.activity, day)
            return await self._replay(script, reader, writer, is_billed=False)
        models = _json_script("200 OK", {"data": self._plan.models, "links": {"next": None}})
        return await self._replay(models, reader, writer, is_billed=False)

    async def _replay(
        self,
        script: Script,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_billed: bool = True,
    ) -> bool:
        script = _with_fresh_id(script) if script.fresh_ids else script
        record = self._open_record(script) if is_billed else Record(Decimal(0))
        gone = asyncio.create_task(_wait_until_gone(reader))
        sending = asyncio.create_task(_send(script, writer, record))
        try:
            await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() or isinstance(sending.exception(), ConnectionError):
                record.cancelled = True
                self.disconnected.set()
                return False
            return await sending
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)

    def _open_record(self, script: Script) -> Record:
        content = "\n".join(script.headers).encode() + b"".join(script.pieces)
        found = _GENERATION_ID.search(content)
        record = _record_of(script)
        if found:
            self.bill[found.group().decode()] = record
        return record


async def _wait_until_gone(reader: asyncio.StreamReader) -> None:
    # Looking, not reading: a byte read here would be missing from the next request.
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.005)


async def _send(script: Script, writer: asyncio.StreamWriter, record: Record) -> bool:
    await asyncio.sleep(script.delay_s)
    is_chunked = script.is_stream or script.ending != "end"
    length = sum(map(len, script.pieces))
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {length}"
    headers = [h for h in script.headers if not h.lower().startswith("connection:")]
    writer.write("\r\n".join([script.status_line, *headers, framing, "", ""]).encode("ascii"))
    for piece in script.pieces:
        if script.gap_s:
            await asyncio.sleep(script.gap_s)
        writer.write(_chunk(piece) if is_chunked else piece)
        record.pieces_sent += 1
        await writer.drain()
    if script.ending == "end":
        writer.write(b"0\r\n\r\n" if is_chunked else b"")
        await writer.drain()
        return True
    await _misbehave(script.ending, writer)
    return False


async def _misbehave(ending: Ending, writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    if ending == "reset":
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    while ending in ("silence", "comments"):
        await asyncio.sleep(0.02)
        if ending == "comments":
            writer.write(_chunk(b": OPENROUTER PROCESSING\n\n"))
            await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)


def _with_fresh_id(script: Script) -> Script:
    fresh = f"gen-1-{uuid4().hex}"
    head = tuple(_GENERATION_ID.sub(fresh.encode(), h.encode()).decode() for h in script.headers)
    pieces = tuple(_GENERATION_ID.sub(fresh.encode(), piece) for piece in script.pieces)
    return replace(script, headers=head, pieces=pieces)


def _record_of(script: Script) -> Record:
    body = b"".join(script.pieces)
    found = re.search(rb'"usage":(\{.*\})', body)
    if not found:
        return Record(Decimal(0))
    usage, _ = json.JSONDecoder(parse_float=Decimal).raw_decode(found.group(1).decode())
    cost = Decimal(usage.get("cost", 0))
    if usage.get("is_byok"):
        cost += usage["cost_details"]["upstream_inference_cost"]
    return Record(cost, usage["prompt_tokens"], usage["completion_tokens"])


def _lookup(generation_id: str, record: Record | None) -> Script:
    if record is None:
        return _json_script("404 Not Found", {"error": {"code": 404, "message": "not found"}})
    data = {
        "id": generation_id,
        "total_cost": "COST",
        "native_tokens_prompt": record.prompt_tokens,
        "native_tokens_completion": record.completion_tokens,
        "cancelled": record.cancelled,
        "is_byok": False,
    }
    script = _json_script("200 OK", {"data": data})
    body = script.pieces[0].replace(b'"COST"', format(record.cost_usd, "f").encode())
    return replace(script, pieces=(body,))


def _activity(rows: list[dict[str, object]], day: str) -> Script:
    """The days' rows; the JSON writer would turn a Decimal into a float, so it is put in afterwards."""
    amounts: list[Decimal] = []

    def placed(value: object) -> object:
        if not isinstance(value, Decimal):
            return value
        amounts.append(value)
        return f"AMOUNT {len(amounts) - 1} "

    listed = [row for row in rows if str(row["date"]).startswith(day)]
    data = [{name: placed(value) for name, value in row.items()} for row in listed]
    script = _json_script("200 OK", {"data": data})
    body = script.pieces[0]
    for number, amount in enumerate(amounts):
        body = body.replace(b'"AMOUNT %d "' % number, str(amount).encode())
    return replace(script, pieces=(body,))


def _json_script(status: str, body: dict[str, Any]) -> Script:
    content_type = ("Content-Type: application/json",)
    return Script(f"HTTP/1.1 {status}", content_type, (json.dumps(body).encode(),))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
