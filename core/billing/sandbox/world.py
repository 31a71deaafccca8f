"""Everything one stand-in knows: its objects, its clock, its events and its orders of trouble.

One lock guards it all, so that requests, pages and controls happen one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.billing.sandbox.refusals import Obj
from core.billing.sandbox.store import Store, new_id, public

API_VERSION = "2026-10-28.endive"
_EVENT_LIFE_S = 30 * 86_400
_ANSWER_LIFE_S = 24 * 3_600

Observer = Callable[[str, str, Obj, int, Obj], None]  # method, path, parameters, status, answer


@dataclass(slots=True)
class Fault:
    """The next `times` requests whose path starts so go wrong in this way."""

    path: str
    kind: str
    times: int


@dataclass(slots=True)
class SenderHabits:
    """How the sender misbehaves. `drop`: event types (or "*") that are never delivered."""

    copies: int = 1
    is_reordering: bool = False
    delay_s: int = 0
    drop: frozenset[str] = frozenset()


@dataclass(slots=True)
class World:
    """The state of one stand-in."""

    store: Store
    secrets: tuple[str, ...]
    base_url: str = ""
    faults: list[Fault] = field(default_factory=list)
    habits: SenderHabits = field(default_factory=SenderHabits)
    observers: list[Observer] = field(default_factory=list)
    request_id: str | None = None
    request_key: str | None = None
    lock: Any = field(default_factory=threading.RLock)
    _pinned: int | None = None

    def now(self) -> int:
        """The stand-in's time: unix seconds, the real clock plus what it was advanced by."""
        return self._pinned if self._pinned is not None else int(time.time()) + self.store.offset_s

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone with the state, which is saved at the end, also after a refusal."""
        with self.lock:
            try:
                yield
            finally:
                self.store.save()

    @contextmanager
    def pinned(self, at: int) -> Iterator[None]:
        """The clock stands at this moment."""
        self._pinned = at
        try:
            yield
        finally:
            self._pinned = None

    def emit(self, kind: str, thing: Obj, previous: Obj | None = None) -> Obj:
        """Record that something happened to an object, as it is now, and queue the telling."""
        data: Obj = {"object": public(thing)}
        if previous is not None:
            data["previous_attributes"] = public(previous)
        event: Obj = {
            "id": new_id("evt"), "object": "event", "api_version": API_VERSION,
            "created": self.now(), "data": data, "livemode": False, "pending_webhooks": 1,
            "request": {"id": self.request_id, "idempotency_key": self.request_key}, "type": kind,
        }  # fmt: skip
        self.store.add(event)
        self.queue(event)
        return event

    def queue(self, event: Obj) -> None:
        """Have the sender tell of this event; a dropped one stays undelivered for ever."""
        is_dropped = event["type"] in self.habits.drop or "*" in self.habits.drop
        due_s = time.time() + self.habits.delay_s
        self.store.deliveries[event["id"]] = {
            "attempts": 0, "due_s": due_s, "is_dropped": is_dropped, "copies": self.habits.copies
        }  # fmt: skip

    def is_listed(self, event: Obj) -> bool:
        """Whether the API still shows this event."""
        return bool(event["created"] >= self.now() - _EVENT_LIFE_S)

    def forget_old(self) -> None:
        """Let go of what Stripe would not know any more: events of 30 days, answers of a day.

        An event that is still to be told stays, for who advances the clock tells of it later.
        """
        for event in self.store.all("event"):
            delivery = self.store.deliveries.get(event["id"])
            is_waiting = delivery is not None and not delivery["is_dropped"]
            if not self.is_listed(event) and not is_waiting:
                self.store.drop("event", event["id"])
                self.store.deliveries.pop(event["id"], None)
        limit_s = time.time() - _ANSWER_LIFE_S
        for key, answer in list(self.store.answers.items()):
            if answer["at_s"] < limit_s:
                del self.store.answers[key]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the API: its parameters and the ids in its path."""

    params: Obj
    ids: dict[str, str]
    path: str


def open_world(
    state_file: Path | None, secrets: tuple[str, ...], *, base_url: str = ""
) -> World:  # fmt: skip
    """A world as its file left it, or a new one."""
    return World(Store(state_file), secrets, base_url)
