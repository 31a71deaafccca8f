"""Usage events as Excel files, built by the running product while people chat: how long one takes, what
the product and its process for long jobs need, and whether the chats notice."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta

import psutil

from benchmarks import load
from benchmarks.export import Prepared
from benchmarks.load import Plan, Slice, Target
from benchmarks.processes import StartError
from benchmarks.product import Product
from benchmarks.quantiles import median
from benchmarks.sampling import INTERVAL_S, rss_mb
from core import db
from core.finance import exports
from core.finance.exports import Asked, State
from core.periods import Period

ROWS = 100_000
_BUILT_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Built:
    """Seconds from asking for a file to its being ready, its rows, the memory of the product above idle
    and of the processes it starts meanwhile, and first tokens of chats without and beside it."""

    seconds: float
    rows: int
    above_idle_mb: float
    writer_mb: float
    quiet: Slice
    busy: Slice


def build(running: Product, prepared: Prepared, plan: Plan) -> Built:
    """Chats alone, then the same while one file after the other is built."""
    server = running.server
    target = Target("product", server.url, server.key, (server.pid,))
    quiet = load.interleave([target], plan, 1)["product"][0]
    idle_mb = rss_mb([server.pid])
    client = _Client(prepared, server.pid)
    client.start()
    busy = load.interleave([target], plan, 1)["product"][0]
    client.stop()
    client.join()
    if not client.built_s:
        raise StartError("no Excel file was built")
    return Built(
        median(client.built_s), client.rows, max(busy.rss_peak_mb, client.product_mb) - idle_mb,
        client.writer_mb, quiet, busy,
    )  # fmt: skip


class _Client(threading.Thread):
    """Asks for a file, waits until it is built, and asks again until it is stopped; the last is waited
    for. Samples memory meanwhile."""

    def __init__(self, prepared: Prepared, pid: int) -> None:
        super().__init__(daemon=True)
        self._prepared, self._pid, self._ended = prepared, pid, threading.Event()
        self._idle = _processes_under(pid)
        self.built_s: list[float] = []
        self.rows, self.product_mb, self.writer_mb = 0, 0.0, 0.0

    def stop(self) -> None:
        """Let it end with the file that it waits for."""
        self._ended.set()

    def run(self) -> None:
        while not self._ended.is_set():
            started = time.perf_counter()
            asked = self._ask()
            while asked.state is State.BUILDING:
                if time.perf_counter() - started > _BUILT_TIMEOUT_S:
                    return
                time.sleep(INTERVAL_S)
                self._sample()
                with db.transaction(self._prepared.operator) as session:
                    asked = exports.find(session, self._prepared.operator, asked.export_id)
            if asked.state is not State.READY or asked.file is None:
                return
            self.built_s.append(time.perf_counter() - started)
            self.rows = asked.file.rows_total or 0

    def _ask(self) -> Asked:
        made, operator = self._prepared.made, self._prepared.operator
        with db.transaction(operator) as session:
            return exports.ask(
                session, operator, "usage", "xlsx", _days(self._prepared), tenant_id=made.tenant_id
            )

    def _sample(self) -> None:
        self.product_mb = max(self.product_mb, rss_mb([self._pid]))
        others = _processes_under(self._pid) - self._idle
        self.writer_mb = max(self.writer_mb, rss_mb(others))


def _days(prepared: Prepared) -> Period:
    """The first days of the month with about ROWS rows, and never a whole closed month."""
    month = prepared.period
    days = min(month.days - 1, max(1, round(month.days * ROWS / prepared.made.events)))
    return Period(month.first, month.first + timedelta(days=days - 1))


def _processes_under(pid: int) -> frozenset[int]:
    return frozenset(one.pid for one in psutil.Process(pid).children(recursive=True))
