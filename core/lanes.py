"""Lanes: each kind of work has connections and patience of its own, so that none can starve another.

A lane belongs to the thread or the context that does the work. Opens no connection itself.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from core import errors


class Lane(StrEnum):
    """A kind of work; whatever says nothing is WEB."""

    WEB = "web"  # pages, and a person's click
    ENGINE = "engine"  # running calls: admission, heartbeats, settlement
    API = "api"  # /api, exports, statements, sign-in, health, webhooks
    ANALYTICS = "analytics"  # the reads of the pages' figures
    MONEY = "money"  # short jobs, on which money waits
    LONG = "long"  # long jobs, in a process of their own


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections a lane has in one process, and how long its work may wait.

    One tenant never holds more than `tenant_max` of them. `transaction_ms` 0: as long as it takes.
    """

    rw_max: int
    jobs_max: int
    tenant_max: int
    wait_s: float
    statement_ms: int
    lock_ms: int
    idle_ms: int
    transaction_ms: int = 0

    def timeouts(self) -> dict[str, str]:
        """The server's settings that bound a session of this lane; the whole transaction apart."""
        return {
            "statement_timeout": str(self.statement_ms),
            "lock_timeout": str(self.lock_ms),
            "idle_in_transaction_session_timeout": str(self.idle_ms),
        }


LIMITS: Mapping[Lane, Limits] = {
    Lane.WEB: Limits(
        rw_max=10, jobs_max=3, tenant_max=5, wait_s=5, statement_ms=30_000, lock_ms=3_000, idle_ms=15_000
    ),
    Lane.ENGINE: Limits(
        rw_max=8, jobs_max=1, tenant_max=4, wait_s=2, statement_ms=5_000, lock_ms=500, idle_ms=5_000,
        transaction_ms=15_000,
    ),
    Lane.API: Limits(
        rw_max=5, jobs_max=3, tenant_max=3, wait_s=2, statement_ms=8_000, lock_ms=2_000, idle_ms=10_000
    ),
    Lane.ANALYTICS: Limits(
        rw_max=4, jobs_max=2, tenant_max=2, wait_s=10, statement_ms=30_000, lock_ms=1_000, idle_ms=15_000
    ),
    Lane.MONEY: Limits(
        rw_max=2, jobs_max=4, tenant_max=2, wait_s=5, statement_ms=15_000, lock_ms=3_000, idle_ms=5_000,
        transaction_ms=60_000,
    ),
    Lane.LONG: Limits(
        rw_max=2, jobs_max=4, tenant_max=2, wait_s=10, statement_ms=600_000, lock_ms=8_000, idle_ms=30_000
    ),
}  # fmt: skip


def connections_max(*lanes: Lane) -> int:
    """How many connections a process may hold that works on these lanes."""
    return sum(LIMITS[lane].rw_max + LIMITS[lane].jobs_max for lane in lanes)


_lane: ContextVar[Lane] = ContextVar("lane", default=Lane.WEB)


def current() -> Lane:
    """The lane of the work that this thread or task does."""
    return _lane.get()


def enter(lane: Lane) -> None:
    """Work on `lane` from here on: how a thread of a pool begins (its `initializer`)."""
    _lane.set(lane)


@contextmanager
def use(lane: Lane) -> Iterator[None]:
    """Work on `lane` within the block, threads started by `asyncio.to_thread` included."""
    before = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(before)


class Shares:
    """At most so many connections of a lane for one tenant; whoever wants more waits for its own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._used: Counter[UUID] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, tenant_id: UUID | None) -> Iterator[None]:
        """One connection of the tenant's share (None: of nobody's). Raises errors.Busy."""
        if tenant_id is None:
            yield
            return
        self._take(tenant_id)
        try:
            yield
        finally:
            self._give_back(tenant_id)

    def _take(self, tenant_id: UUID) -> None:
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._used[tenant_id] < self._limits.tenant_max, self._limits.wait_s
            )
            if not free:
                raise errors.Busy(
                    "Your team has too much going on here right now. Please try again.",
                    retry_after_s=2,
                )
            self._used[tenant_id] += 1

    def _give_back(self, tenant_id: UUID) -> None:
        with self._changed:
            self._used[tenant_id] -= 1
            if not self._used[tenant_id]:
                del self._used[tenant_id]
            self._changed.notify_all()
