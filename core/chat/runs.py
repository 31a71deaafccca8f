"""A running call's buffer in this process: the engine writes it, pages and API streams read it.

Any number of readers follow; leaving one changes nothing for the call. It holds no database access.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from core.catalog.answers import Answer, Delta
from core.catalog.providers import ChatRequest
from core.quota.gate import OpenCall, Receipt, Settlement

_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class TurnIds:
    """Where a chat call's text belongs."""

    turn_id: UUID
    conversation_id: UUID
    question_id: UUID
    answer_id: UUID


@dataclass(frozen=True, slots=True)
class Saved:
    """How much of an answer the database has: deltas and their characters, with the tokens guessed."""

    deltas: int = 0
    text_length: int = 0
    reasoning_length: int = 0
    tokens: int = 0


class Run:
    """One call being answered. `ended` once settled, or once settlement was left to the reaper."""

    def __init__(self, call: OpenCall, request: ChatRequest, turn: TurnIds | None = None) -> None:
        self.call, self.request, self.turn = call, request, turn
        self.answer = Answer()
        self.saved = Saved()
        self.settlement: Settlement | None = None
        self.receipt: Receipt | None = None
        self.ended = False
        self._async_readers: set[asyncio.Event] = set()
        self._thread_readers = 0
        self._changed = threading.Condition()

    def publish(self, _delta: Delta | None = None) -> None:
        """Wake every reader. Called on the engine's loop after each change."""
        for reader in self._async_readers:
            reader.set()
        if self._thread_readers:
            with self._changed:
                self._changed.notify_all()

    def finish(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self.publish()

    async def deltas(self) -> AsyncIterator[Delta]:
        """Every delta from the first on, until the call has ended. On the engine's loop only."""
        changed = asyncio.Event()
        self._async_readers.add(changed)
        position = 0
        try:
            while True:
                changed.clear()
                ended, available = self.ended, self.answer.deltas
                while position < len(available):
                    position += 1
                    yield available[position - 1]
                if ended:
                    return
                if position == len(available) and not self.ended:
                    await changed.wait()
        finally:
            self._async_readers.discard(changed)

    def text(
        self, *, start: int = 0, gap_s: float = 0.1, tick: Callable[[], object] = lambda: None
    ) -> Iterator[str]:
        """The text after `start` characters and then what is new, one piece per `gap_s` at most.

        For threads. `tick` is called while the provider is silent, so that a page can be stopped.
        """
        skipped, deltas_read, last = 0, 0, 0.0
        with self._reading():
            piece = ""
            while True:
                ended = self.ended
                fresh = self.answer.deltas[deltas_read:]
                deltas_read += len(fresh)
                piece += "".join(delta.text for delta in fresh)
                if skipped < start:
                    seen = min(start - skipped, len(piece))
                    piece, skipped = piece[seen:], skipped + seen
                if piece:
                    wait_s = gap_s - (time.monotonic() - last)
                    if wait_s > 0 and not ended:
                        time.sleep(wait_s)
                        last = 0.0
                        continue
                    last = time.monotonic()
                    yield piece
                    piece = ""
                elif ended:
                    return
                else:
                    self._wait()
                tick()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Counts a thread among the readers, so that the engine notifies only when one listens."""
        with self._changed:
            self._thread_readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._thread_readers -= 1

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait(_LOOK_AGAIN_S)
