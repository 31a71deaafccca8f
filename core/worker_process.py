"""The process for long jobs: started when some wait, with less priority than those who chat. It ends
when it has nothing to do, when it is asked to, and when its parent is gone, however that ended.

Here is both sides: the parent's, which starts it and hands on what it logs, and its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import IO

import structlog
from prometheus_client import Gauge

from core import db, errors, jobs, lanes, telemetry
from core.db import System
from core.jobs import Queue
from core.lanes import Lane

_ROOT = Path(__file__).parent.parent
_LOOK_EVERY_S = 1.0
_IDLE_S = 20.0  # so that a file asked for after another need not wait for a start
_END_PATIENCE_S = jobs.DRAIN_S + 1.0
_PAUSE_S = 5.0  # after one that failed
_NICENESS = 10
_INPUT = 0
_WATCH = System("long jobs")

log = structlog.get_logger(__name__)


async def keep(stop: asyncio.Event, gauges: Mapping[str, Gauge]) -> None:
    """Until `stop` is set, see that the jobs in `long` have a process; then end it. What it measures
    is shown by `gauges`, by their names."""
    process: subprocess.Popen[str] | None = None
    try:
        while not stop.is_set():
            pause_s = _LOOK_EVERY_S
            if process is not None and (status := process.poll()) is not None:
                process = None
                if status:
                    log.warning("long_worker.failed", status=status)
                    pause_s = _PAUSE_S
            elif process is None and await asyncio.to_thread(_is_wanted):
                process = start(gauges)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)
    finally:
        if process is not None:
            await asyncio.to_thread(end, process)


def start(gauges: Mapping[str, Gauge]) -> subprocess.Popen[str]:
    """The process; it lives no longer than the pipe to it."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "core", "worker", "--queue", "long", "--until-idle"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip
    Thread(
        target=_relay, args=(process.stderr, gauges), daemon=True, name="long-worker-log"
    ).start()
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Ask it to end, and see that it does; what it did not end is done again by the next."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_END_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_wanted() -> bool:
    try:
        with lanes.use(Lane.MONEY), db.transaction(_WATCH) as session:
            return jobs.waits(session, Queue.LONG, running=False)
    except errors.Unavailable:
        return False


def _relay(lines: IO[str] | None, gauges: Mapping[str, Gauge]) -> None:
    """What it logs is logged here, and counts as ours: nobody asks it for its metrics."""
    for line in lines or ():
        sys.stdout.write(line)
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            telemetry.hear(json.loads(line), gauges)


def give_way() -> None:
    """Let everything else on the machine go first."""
    os.nice(_NICENESS)


async def until_idle(stop: asyncio.Event) -> None:
    """Set `stop` once there was nothing to do for some time, or once our parent is gone."""
    Thread(target=_follow_parent, daemon=True, name="parent").start()
    idle_since = time.monotonic()
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_EVERY_S)
        if await asyncio.to_thread(_has_work):
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _IDLE_S:
            stop.set()


def _has_work() -> bool:
    try:
        with db.transaction(_WATCH) as session:
            return jobs.waits(session, Queue.LONG, running=True)
    except errors.Unavailable:
        return True


def _follow_parent() -> None:
    """The pipe ends when the parent does: ask ourselves to end, and insist a little later."""
    os.read(_INPUT, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_PATIENCE_S)
    os._exit(1)  # a thread of a job that cannot be stopped; the job is repeated
