"""Reads one HTTP answer into an `Answer` under its deadlines, and says how the reading ended.

It sends nothing and knows no SDK: it is given a response whose headers have arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

from core.catalog.answers import Answer, Delta, Failure, FailureKind, Outcome, name_of
from core.catalog.sse import MAX_EVENT_BYTES, EventSplitter, EventTooLarge, parse_event

_DRAIN_MS = 250  # after the last event, wait so long for the end that lets a connection be reused


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a call may take: to connect, to its first token, between events, in total."""

    connect_ms: int
    first_token_ms: int
    idle_ms: int
    total_ms: int


class Watch:
    """The deadlines of one call on one timer. Comments and silence never move it."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._idle_ms = deadlines.idle_ms
        self._now = asyncio.get_running_loop().time
        self._total_at = self._now() + deadlines.total_ms / 1000
        self.waiting_for = "first token"
        self.timer = asyncio.timeout_at(self._due("first token", deadlines.first_token_ms))

    def saw_event(self) -> None:
        self._arm("next event", self._idle_ms)

    def saw_headers_of_whole_answer(self) -> None:
        self._arm("total", None)

    def saw_last_event(self) -> None:
        self._arm("end", _DRAIN_MS)

    def _arm(self, waiting_for: str, wait_ms: int | None) -> None:
        due = self._due(waiting_for, wait_ms)
        if not self.timer.expired():
            self.timer.reschedule(due)

    def _due(self, waiting_for: str, wait_ms: int | None) -> float:
        due = self._total_at if wait_ms is None else self._now() + wait_ms / 1000
        self.waiting_for = waiting_for if due < self._total_at else "total"
        return min(due, self._total_at)


@dataclass(slots=True)
class Reading:
    """One response, its answer and those who listen to it.

    `read` raises httpx2.HTTPError for a broken connection and EventTooLarge.
    """

    answer: Answer
    started: float
    watch: Watch
    on_delta: Callable[[Delta], None]
    on_generation: Callable[[str], None]
    _is_announced: bool = False
    _is_over: bool = False

    async def read(self, response: httpx2.Response) -> None:
        self.answer.generation_id = name_of(response.headers.get("x-generation-id"))
        self.answer.provider_name = name_of(response.headers.get("x-provider-name"))
        self._announce()
        content_type = response.headers.get("content-type", "")
        if "html" in content_type:
            self.answer.failure = provider_error("an HTML page instead of an answer")
        elif "json" in content_type:
            await self._read_whole(response)
        else:
            await self._read_events(response)

    async def _read_events(self, response: httpx2.Response) -> None:
        splitter = EventSplitter()
        is_encoded = "content-encoding" in response.headers
        async for data in response.aiter_bytes() if is_encoded else response.aiter_raw():
            events = splitter.feed(data)
            for event in events:
                self._take(event)
            if self._is_over:
                continue
            if splitter.is_done or self.answer.failure:
                self._is_over = True
                self.watch.saw_last_event()
            elif events and self.answer.first_token_ms is not None:
                self.watch.saw_event()
        for event in splitter.close():
            self._take(event)

    async def _read_whole(self, response: httpx2.Response) -> None:
        self.watch.saw_headers_of_whole_answer()
        body = bytearray()
        async for data in response.aiter_bytes():
            body += data
            if len(body) > MAX_EVENT_BYTES:
                raise EventTooLarge
        event = parse_event(bytes(body))
        if event is None:
            self.answer.failure = provider_error("the answer is no JSON object")
        else:
            self._take(event, is_whole=True)

    def _take(self, event: dict[str, object], *, is_whole: bool = False) -> None:
        delta = self.answer.absorb(event)
        self._announce()
        if is_whole and self.answer.failure:
            self.answer.deltas.clear()  # an answer that failed as a whole gave nobody anything
            return
        if delta is None:
            return
        if self.answer.first_token_ms is None:
            self.answer.first_token_ms = ms_since(self.started)
        self.on_delta(delta)

    def _announce(self) -> None:
        if self.answer.generation_id and not self._is_announced:
            self._is_announced = True
            self.on_generation(self.answer.generation_id)


def conclude(answer: Answer, otherwise: Outcome, reason: str) -> None:
    """Say how a read that is over ended: an error seen wins, then completeness."""
    if answer.failure is not None:
        answer.outcome = "error"
    elif answer.is_complete:
        answer.outcome = "ok"
    else:
        kind: FailureKind = "provider_timeout" if otherwise == "timeout" else "provider_error"
        answer.failure = Failure(kind, None, None, reason)
        answer.outcome = otherwise


def provider_error(reason: str) -> Failure:
    """A failure of the answer itself, in words of our own."""
    return Failure("provider_error", None, None, reason)


def ms_since(started: float) -> int:
    """Whole milliseconds since a `time.monotonic()`."""
    return int((time.monotonic() - started) * 1000)
