"""Sends blocks that are read in a thread, one at a time, to a client that may be slow or leave.

The event loop never waits for a block. Whatever ends the sending too soon ends the reading too, and
breaks the answer off, so that a part of a file is not taken for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Hashable, Mapping
from threading import Lock

from starlette.types import Receive, Scope, Send

from core import errors
from core.finance.files.copying import Progress
from core.http import work

AT_ONCE_MAX = 8
EACH_AT_ONCE_MAX = 4  # of one tenant
_PATIENCE_S = 60.0
_sending: set[Sending] = set()


class Blocks:
    """Blocks of a file, read by one thread at a time; another may close it meanwhile."""

    def __init__(self, blocks: Generator[bytes], progress: Progress) -> None:
        self._blocks, self._progress, self._lock = blocks, progress, Lock()

    def take(self) -> bytes:
        """The next block, empty at the end."""
        with self._lock:
            return next(self._blocks, b"")

    def close(self) -> None:
        """End the query behind it, and give its connection back."""
        self._progress.cancel()
        with self._lock:
            self._blocks.close()


class Sending:
    """An ASGI response: its headers go out when the first block is there."""

    def __init__(self, blocks: Blocks, headers: Mapping[str, str], whose: Hashable) -> None:
        self._blocks, self.whose = blocks, whose
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it. Raises errors.Unavailable before anything is sent where too much is."""
        of_one = [one for one in _sending if one.whose == self.whose]
        if len(_sending) >= AT_ONCE_MAX or len(of_one) >= EACH_AT_ONCE_MAX:
            raise errors.Unavailable(
                "Too many files are being sent. Please wait.", retry_after_s=10
            )
        _sending.add(self)
        sent = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await asyncio.wait({sent, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sent.done():
                sent.result()
        finally:
            _sending.discard(self)
            for task in (sent, gone):
                task.cancel()
            await asyncio.gather(sent, gone, return_exceptions=True)
            await asyncio.shield(asyncio.to_thread(self._blocks.close))

    async def _send(self, send: Send) -> None:
        block = await work.send(self.whose, self._blocks.take)
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        while block:
            await _within_patience(send, block)
            block = await work.send(self.whose, self._blocks.take)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _within_patience(send: Send, block: bytes) -> None:
    """Send a block to a client that takes it, sooner or later."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await send({"type": "http.response.body", "body": block, "more_body": True})
    except TimeoutError:
        raise errors.Unavailable("The client takes nothing any more.") from None
