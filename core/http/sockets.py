"""The open sockets of browsers, and their end: within seconds after a session has ended or its person
has other rights, its sockets are closed. The browser connects anew by itself, as whoever it then is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import crypto, errors
from core.http import work
from core.identity import cookies, sessions
from core.identity.access import SignedIn

SESSION_ENDED = 4401  # a code of our own: the person behind this socket changed
LOOK_EVERY_S = 2.0
_CLOSE_PATIENCE_S = 2.0
_LOOKED_AT_ONCE = 1_000

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Socket:
    """A socket that came with a session's cookie, and whom the first look at it found."""

    token_hash: bytes
    is_looked_up: bool = False
    found: SignedIn | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, found: SignedIn | None) -> None:
        if not self.is_looked_up:
            self.is_looked_up, self.found = True, found
        elif (self.found and self.found.rights) != (found and found.rights):
            self.ended.set()


class Sockets:
    """All sockets of this process. One look for all of them, every two seconds while any is open."""

    def __init__(self) -> None:
        self._open: set[_Socket] = set()
        self._opened = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` have the socket for as long as its session stands for the same person and rights."""
        token = HTTPConnection(scope).cookies.get(cookies.named(cookies.SESSION))
        if not token:
            await app(scope, receive, send)
            return
        socket = _Socket(crypto.token_hash(token))
        self._open.add(socket)
        self._opened.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            await app(scope, _until_ended(socket, receive, send), _while_open(socket, send))
        finally:
            self._open.discard(socket)
            self._opened.set()

    async def _keep_looking(self) -> None:
        """Look at new sockets at once and at all of them every so often, until none is open."""
        self._opened = asyncio.Event()
        looked_at = float("-inf")
        while self._open:
            is_due = time.monotonic() - looked_at >= LOOK_EVERY_S
            looked_at = time.monotonic() if is_due else looked_at
            self._opened.clear()
            await self._look([s for s in self._open if is_due or not s.is_looked_up])
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    self._opened.wait(), looked_at + LOOK_EVERY_S - time.monotonic()
                )

    async def _look(self, these: Collection[_Socket]) -> None:
        hashes = list({socket.token_hash for socket in these})
        for begin in range(0, len(hashes), _LOOKED_AT_ONCE):
            part = hashes[begin : begin + _LOOKED_AT_ONCE]
            try:
                found = await work.run("sockets", sessions.all_still, part)
            except errors.Refusal:
                return  # the database is away: pages read nothing then either; looked at again soon
            asked = set(part)
            for socket in these:
                if socket.token_hash in asked:
                    socket.look(found.get(socket.token_hash))


def _until_ended(socket: _Socket, receive: Receive, send: Send) -> Receive:
    """What the application receives: the browser's messages, then that the socket is gone."""

    async def receiving() -> Message:
        message = asyncio.ensure_future(receive())
        ended = asyncio.ensure_future(socket.ended.wait())
        try:
            await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not socket.ended.is_set():
                return message.result()
        finally:
            ended.cancel()
            if not message.done():
                message.cancel()
        log.info("socket.session_ended")
        with suppress(Exception):  # the edge: a browser that is gone or reads nothing is closed too
            close: Message = {"type": "websocket.close", "code": SESSION_ENDED}
            await asyncio.wait_for(send(close), _CLOSE_PATIENCE_S)
        return {"type": "websocket.disconnect", "code": SESSION_ENDED}

    return receiving


def _while_open(socket: _Socket, send: Send) -> Send:
    async def sending(message: Message) -> None:
        if not socket.ended.is_set():
            await send(message)

    return sending
