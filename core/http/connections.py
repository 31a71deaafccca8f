"""Bounds every HTTP connection before a request exists: size, number and time of headers, time of
bodies, and of clients that take nothing. Websockets are theirs only until the upgrade.

uvicorn has no such limits with httptools, and Streamlit passes none of its settings on.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEADERS_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
HEADERS_S = 10.0  # from the connection, or the answer before, to the end of the headers
BODY_S = 120.0  # our own routes are less patient
LINGER_S = 5.0  # how long the rest of a body that nobody wants may still come
TAKING_S = 60.0

_TOO_LARGE = b"The headers of this request are too large."


class HeadersTooLarge(Exception):
    """The headers hold more than is read; httptools ends the parsing."""


class BoundedConnection(HttpToolsProtocol):
    """A connection with one deadline at a time: for the headers, then for the body."""

    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _in_headers, _in_body, _unparsed, _length, _count = True, False, 0, 0, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._within(HEADERS_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._stop()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; cut off headers that grow without an end."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_headers and not self.transport.is_closing():
            self._unparsed += len(data)
            if self._unparsed > HEADERS_BYTES_MAX:
                self._cut_off()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_headers, self._in_body = True, False
        self._unparsed = self._length = self._count = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        self._require_small(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole header. Raises HeadersTooLarge."""
        self._count += 1
        self._require_small(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """From here on the body is waited for."""
        self._in_headers, self._in_body = False, True
        self._within(BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: how long its answer takes is its own affair."""
        self._in_body = False
        self._stop()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self._within(HEADERS_S)

    def on_response_complete(self) -> None:
        """Wait for the next request, or a moment for the rest of a body that nobody wants."""
        super().on_response_complete()
        if self._in_body:
            self._within(LINGER_S)
        elif not self.transport.is_closing() and self.cycle.response_complete:
            self._within(HEADERS_S)

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is answered once."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        """From here on the connection is the websocket's."""
        self._stop()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """The client takes less than is sent: for so long at most."""
        super().pause_writing()
        self._taking = self._taking or self.loop.call_later(TAKING_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client takes again."""
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def _require_small(self, length: int) -> None:
        self._length += length
        if self._length > HEADERS_BYTES_MAX or self._count > HEADERS_MAX:
            self._cut_off()
            raise HeadersTooLarge

    def _cut_off(self) -> None:
        head = STATUS_LINE[431] + b"content-type: text/plain\r\nconnection: close\r\n"
        length = f"content-length: {len(_TOO_LARGE)}\r\n\r\n".encode()
        self.transport.write(head + length + _TOO_LARGE)
        self.transport.close()

    def _within(self, seconds: float) -> None:
        self._stop()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bound() -> None:
    """Make each of the server's connections from here on a bounded one.

    Streamlit starts uvicorn itself and lets nobody choose the class.
    """
    setattr(HttpToolsProtocol, "__new__", _bounded)  # noqa: B010 - told to the class, not the type


def _bounded(_asked: type, *_arguments: object, **_named: Any) -> BoundedConnection:
    return object.__new__(BoundedConnection)
