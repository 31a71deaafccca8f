"""The load client's end of HTTP/1.1: one keep-alive connection, timed where the bytes arrive.

It understands Content-Length and chunked bodies, and treats everything else as an error.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field

FIRST_TOKEN = b"tok0"
ANY_TOKEN = b"tok"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")


class BrokenResponseError(Exception):
    """The connection ended, or said something this client does not understand."""


@dataclass(slots=True)
class Reply:
    """One response; times are `time.perf_counter()` seconds."""

    started_s: float
    status: int = 0
    first_token_s: float | None = None
    last_token_s: float = 0.0
    ended_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)


class ChunkedBody:
    """Decodes `Transfer-Encoding: chunked`."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """The payload that is complete by now, and whether it was the last."""
        buffer = self._buffer + data
        parts: list[bytes] = []
        position = 0
        while (line_end := buffer.find(b"\r\n", position)) >= 0:
            size = int(buffer[position:line_end].split(b";")[0], 16)
            begin = line_end + 2
            if len(buffer) < begin + size + 2:
                break
            if size == 0:
                return b"".join(parts), True
            parts.append(buffer[begin : begin + size])
            position = begin + size + 2
        self._buffer = buffer[position:]
        return b"".join(parts), False


class SizedBody:
    """Counts a `Content-Length` body down."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """The payload, and whether it was the last."""
        self._left -= len(data)
        return data, self._left <= 0


class Connection(asyncio.Protocol):
    """Sends one request at a time and times its response."""

    def __init__(self) -> None:
        self.usable = True
        self._head = b""
        self._body: ChunkedBody | SizedBody | None = None
        self._reply: Reply | None = None
        self._finished: asyncio.Future[Reply] | None = None

    async def exchange(self, request: bytes, timeout_s: float) -> Reply:
        """The reply to a request; `TimeoutError` or `BrokenResponseError` when there is none."""
        self._head, self._body = b"", None
        self._finished = asyncio.get_running_loop().create_future()
        self._reply = Reply(time.perf_counter())
        self._transport.write(request)
        async with asyncio.timeout(timeout_s):
            return await self._finished

    def close(self) -> None:
        self.usable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport, hence no isinstance here.
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, _exc: Exception | None) -> None:
        self.usable = False
        self._fail("connection closed early")

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        reply = self._reply
        if reply is None:
            self.close()
            return
        if self._body is None:
            data = self._take_head(reply, data)
            if self._body is None:
                return
        try:
            payload, last = self._body.feed(data)
        except ValueError:
            self._fail("bad chunk size")
            return
        if payload:
            _note_tokens(reply, payload, now)
            reply.body.append(payload)
        if last and self._finished is not None and not self._finished.done():
            reply.ended_s = now
            self._reply = None
            self._finished.set_result(reply)

    def _take_head(self, reply: Reply, data: bytes) -> bytes:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return b""
        head = self._head[:end].lower()
        reply.status = int(head[9:12])
        if b"\r\nconnection: close" in head:
            self.usable = False
        if b"\r\ntransfer-encoding: chunked" in head:
            self._body = ChunkedBody()
        elif length := _CONTENT_LENGTH.search(head):
            self._body = SizedBody(int(length[1]))
        else:
            self._fail("neither chunked nor sized")
        return self._head[end + 4 :]

    def _fail(self, why: str) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_exception(BrokenResponseError(why))


def _note_tokens(reply: Reply, payload: bytes, now: float) -> None:
    if reply.first_token_s is None:
        if FIRST_TOKEN not in payload and FIRST_TOKEN not in b"".join([*reply.body[-2:], payload]):
            return
        reply.first_token_s = now
    elif ANY_TOKEN in payload:
        reply.gaps_s.append(now - reply.last_token_s)
    else:
        return
    reply.last_token_s = now
