"""What a web process asks of its machine: sockets, descriptors, signals, memory, loggers.

Each function does one thing once, at start; none of them knows the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import structlog

from core.chat.engine import Engine

_DESCRIPTORS_WANTED = 65_536
_COLLECT_EVERY_S = 60.0
_MANY_MODULES = 100  # pandas has some hundreds: a few small ones are no reason to look away again
_WARM_AFTER_S = 1.0  # the first visitor comes before what the second will need
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_CHATTY = ("uvicorn", "streamlit", "websockets")
# What these say below their level is news to nobody: that the server started (we say it ourselves),
# and that a component was declared while pages were imported ahead of their first visitor.
_LEVELS = {
    "uvicorn.error": logging.WARNING,
    "streamlit.runtime.scriptrunner_utils.script_run_context": logging.ERROR,
}

log = structlog.get_logger(__name__)


class Drain:
    """The engine's drain, begun once: by the signal to end, or at the latest by the end itself."""

    def __init__(self, running: Engine, grace_s: float) -> None:
        self._engine, self._grace_s = running, grace_s
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Take nothing new from now on. From any thread."""
        self._engine.loop.call_soon_threadsafe(self._begin)

    async def done(self) -> None:
        """Wait until every call has ended and is settled."""
        self._begin()
        if self._task is not None:
            await self._task

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._engine.loop.create_task(self._engine.drain(self._grace_s))


def on_end_signals(act: Callable[[], None]) -> Callable[[], None]:
    """Call `act` when the process is told to end, then whoever listened before; returns the undo.

    The server waits for open streams before it ends, so the streams must hear of it first.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in _END_SIGNALS}

    def heard(number: int, frame: FrameType | None) -> None:
        act()
        if callable(then := before[signal.Signals(number)]):
            then(number, frame)

    for number in _END_SIGNALS:
        signal.signal(number, heard)
    return lambda: _restore(before)


def send_at_once() -> None:
    """Switch Nagle's algorithm off on every listening socket; accepted ones inherit it.

    Without it each small message to a browser waits some 40 ms for an acknowledgement.
    """
    descriptors = Path("/proc/self/fd")
    for entry in list(descriptors.iterdir()) if descriptors.is_dir() else ():
        with contextlib.suppress(OSError):
            _send_at_once(os.dup(int(entry.name)))


def _send_at_once(copy: int) -> None:
    """Set the option on a socket by a copy of its descriptor, and close the copy."""
    try:
        found = socket.socket(fileno=copy)
    except OSError:  # not a socket; a copy left open would keep pipes from ending
        os.close(copy)
        return
    with found:
        is_internet = found.family in (socket.AF_INET, socket.AF_INET6)
        if is_internet and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system lets us: a browser tab takes four."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (
        _DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS_WANTED)
    )
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def adopt_loggers() -> None:
    """Send the server's and Streamlit's records the way of ours: no text of an error leaves."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(_CHATTY):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(_LEVELS.get(name, logger.level))


async def keep_memory_tidy(warm: Sequence[str]) -> None:
    """Import what pages need, then collect by a timer, what was imported out of the collector's sight.

    A full collection with the big libraries in sight stops every stream for some 30 ms. Those that
    come later, with the first table, are taken out of sight once they are there.
    """
    await asyncio.sleep(_WARM_AFTER_S)
    await asyncio.to_thread(_import_all, warm)
    frozen = 0
    while True:
        gc.collect()
        if len(sys.modules) >= frozen + _MANY_MODULES:
            frozen = len(sys.modules)
            gc.freeze()
        _give_back()
        await asyncio.sleep(_COLLECT_EVERY_S)


def _give_back() -> None:
    """Return what was freed to the system, where the C library can (glibc): imports leave much."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _import_all(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)


def _restore(before: Mapping[signal.Signals, object]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]
