"""The connections beneath the requests, so that one can break in the middle of an answer."""

from __future__ import annotations

import asyncio
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_wires: dict[tuple[str, int], asyncio.Transport] = {}


class Wire(H11Protocol):
    """A connection that can be found by its caller's address."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            _wires[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            _wires.pop(self.client, None)
        super().connection_lost(exc)


class _HungUp(Response):
    """No answer at all: the connection is gone."""

    def __init__(self, caller: tuple[str, int]) -> None:
        super().__init__()
        self._caller = caller

    async def __call__(self, _: Scope, __: Receive, ___: Send) -> None:
        wire = _wires.get(self._caller)
        if wire is not None:
            wire.abort()
            await asyncio.sleep(0.01)  # until the server has noticed that nobody listens


def hang_up(request: Request) -> Response:
    """Instead of an answer, break the connection."""
    return _HungUp(cast("tuple[str, int]", tuple(request.client or ("", 0))))
