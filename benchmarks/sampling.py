"""Memory and CPU of given processes while a load runs; children are not counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

INTERVAL_S = 0.25


@dataclass(slots=True)
class Footprint:
    """Summed over the processes: largest resident set seen, and CPU seconds (user + system)."""

    rss_peak_mb: float = 0.0
    cpu_s: float = 0.0


@asynccontextmanager
async def sampled(pids: Sequence[int]) -> AsyncIterator[Footprint]:
    """A footprint that is filled in while the block runs, and final after it."""
    processes = [psutil.Process(pid) for pid in pids]
    footprint = Footprint()
    cpu_before_s = _cpu_s(processes)
    task = asyncio.create_task(_watch(processes, footprint))
    try:
        yield footprint
    finally:
        task.cancel()
        footprint.rss_peak_mb = max(footprint.rss_peak_mb, rss_mb(pids))
        footprint.cpu_s = _cpu_s(processes) - cpu_before_s


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of the processes now, in MiB; one that has ended counts for nothing."""
    return float(sum(_rss(pid) for pid in pids)) / 2**20


def _rss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


async def _watch(processes: Sequence[psutil.Process], footprint: Footprint) -> None:
    while True:
        rss = sum(process.memory_info().rss for process in processes)
        footprint.rss_peak_mb = max(footprint.rss_peak_mb, rss / 2**20)
        await asyncio.sleep(INTERVAL_S)


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(t.user + t.system for t in times))
