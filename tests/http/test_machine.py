"""What a web process asks of its machine: each thing is looked at from outside."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from core.chat.engine import Engine
from core.http import machine
from core.http.machine import Drain

DESCRIPTORS = Path("/proc/self/fd")


def no_delay(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_listening_sockets_send_at_once_and_so_do_those_they_accept() -> None:
    with socket.socket() as listener, socket.socket() as idle:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        machine.send_at_once()
        assert no_delay(listener)
        assert not no_delay(idle)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert no_delay(accepted)


def test_looking_at_descriptors_closes_none_of_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before = len(list(DESCRIPTORS.iterdir()))
        machine.send_at_once()
        assert len(list(DESCRIPTORS.iterdir())) == before
        assert listener.fileno() > 0


def test_more_descriptors_are_allowed_than_before() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        machine.raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > min(soft, 512)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_signal_to_end_is_heard_first_and_passed_on() -> None:
    heard: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("server"))
    try:
        undo = machine.on_end_signals(lambda: heard.append("drain"))
        signal.raise_signal(signal.SIGTERM)
        undo()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["drain", "server", "server"]


def test_a_drain_begins_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drained: list[float] = []

    async def record(_engine: Engine, grace_s: float) -> None:
        drained.append(grace_s)

    monkeypatch.setattr(Engine, "drain", record)

    async def twice() -> None:
        drain = Drain(Engine({}), 3)
        drain.begin()
        await asyncio.sleep(0)
        await drain.done()

    asyncio.run(twice())
    assert drained == [3]


def test_records_of_the_server_go_our_way() -> None:
    logger = logging.getLogger("streamlit.tests_of_ours")
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False
    machine.adopt_loggers()
    assert logger.handlers == []
    assert logger.propagate


def test_what_is_imported_at_start_leaves_the_collectors_sight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_WARM_AFTER_S", 0)
    imported: list[str] = []
    monkeypatch.setattr(machine.importlib, "import_module", imported.append)

    async def some_time() -> None:
        keeping = asyncio.create_task(machine.keep_memory_tidy(("this", "that")))
        while not gc.get_freeze_count():
            await asyncio.sleep(0.01)
        keeping.cancel()

    gc.unfreeze()
    try:
        asyncio.run(some_time())
        assert imported == ["this", "that"]
        assert gc.get_freeze_count() > 1_000
    finally:
        gc.unfreeze()


def test_what_is_imported_later_leaves_the_collectors_sight_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_WARM_AFTER_S", 0)
    monkeypatch.setattr(machine, "_COLLECT_EVERY_S", 0.05)

    async def some_time() -> tuple[int, int]:
        keeping = asyncio.create_task(machine.keep_memory_tidy(()))
        while not (first := gc.get_freeze_count()):
            await asyncio.sleep(0.01)
        held.extend([] for _ in range(1_000))
        await asyncio.sleep(0.2)
        unchanged = gc.get_freeze_count()
        for number in range(150):
            name = f"tests_late_{number}"
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        deadline = time.monotonic() + 20
        while gc.get_freeze_count() < first + 1_000 and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        keeping.cancel()
        return unchanged - first, gc.get_freeze_count() - first

    held: list[list[int]] = []
    gc.unfreeze()
    try:
        little, much = asyncio.run(some_time())
        assert little < 1_000 <= much
    finally:
        gc.unfreeze()
