"""Splits the bytes of a server-sent event stream into JSON objects, as they arrive.

It opens no connection and understands no event; it only knows where one ends. It keeps amounts
exact and refuses an event larger than its bound, whatever the provider sends.
"""

from __future__ import annotations

import json
from decimal import Decimal

import orjson

MAX_EVENT_BYTES = 8 * 1024 * 1024

_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """One event is larger than the bound; nothing of the rest of the stream can be trusted."""


class EventSplitter:
    """The state of one stream.

    `feed` takes bytes cut anywhere, also inside a character, and returns the events completed by
    them. Comments and unreadable events are counted, not fatal. `is_truncated` says, after `close`,
    that the stream stopped inside an event.
    """

    __slots__ = (
        "_event_bytes",
        "_lines",
        "_max_event_bytes",
        "_rest",
        "comments",
        "garbage",
        "is_done",
        "is_truncated",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest: list[bytes] = []  # the pieces of a line that has no end yet
        self._lines: list[bytes] = []  # the data lines of an event that has no end yet
        self._event_bytes = 0
        self.comments = 0
        self.garbage = 0
        self.is_done = False
        self.is_truncated = False

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """Take in bytes; return the events they complete. Raises EventTooLarge."""
        if b"\n" not in data:
            self._rest.append(data)
            self._grow(len(data))
            return []
        lines = b"".join((*self._rest, data)).split(b"\n")
        self._event_bytes = sum(map(len, self._lines))
        events: list[dict[str, object]] = []
        for line in lines[:-1]:
            self._take_line(line, events)
        self._rest = lines[-1:]
        self._grow(len(lines[-1]))
        return events

    def close(self) -> list[dict[str, object]]:
        """The stream ended: return what a last line without its line end still holds."""
        events: list[dict[str, object]] = []
        unfinished = b"".join(self._rest)
        self._rest = []
        before = self.garbage
        if unfinished:
            self._take_line(unfinished, events)
        self._end_event(events)
        if self.garbage > before:
            self.garbage = before
            self.is_truncated = True
        return events

    def _take_line(self, line: bytes, events: list[dict[str, object]]) -> None:
        line = line.removesuffix(b"\r")
        self._grow(len(line))
        if line.startswith(b"data:"):
            self._lines.append(line[5:].strip())
        elif not line:
            self._end_event(events)
        elif line.startswith(b":"):
            self.comments += 1
        elif line.startswith(_BOM):
            self._take_line(line.removeprefix(_BOM), events)
        elif not line.startswith((b"event:", b"id:", b"retry:")):
            self.garbage += 1

    def _end_event(self, events: list[dict[str, object]]) -> None:
        lines, self._lines = self._lines, []
        self._event_bytes = 0
        if len(lines) > 1 and (event := parse_event(b"\n".join(lines))) is not None:
            events.append(event)
            return
        # One line is the normal case; several that are no object together are events without the
        # blank line between them.
        for line in lines:
            if line == _DONE:
                self.is_done = True
            elif (event := parse_event(line)) is not None:
                events.append(event)
            elif line:
                self.garbage += 1

    def _grow(self, more_bytes: int) -> None:
        self._event_bytes += more_bytes
        if self._event_bytes > self._max_event_bytes:
            raise EventTooLarge(f"an event is larger than {self._max_event_bytes} bytes")


def parse_event(data: bytes) -> dict[str, object] | None:
    """Parse one JSON object; None when it is not one.

    Only an object that carries usage is read a second time, with exact decimals: its amounts decide
    what is charged, and 7.9e-07 or 0.0000006000000000000001 must not pass through a float.
    """
    try:
        event = orjson.loads(data)
        if not isinstance(event, dict):
            return None
        if isinstance(event.get("usage"), dict):
            event["usage"] = json.loads(data, parse_float=Decimal)["usage"]
    except (ValueError, RecursionError):
        return None
    return event
