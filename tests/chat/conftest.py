"""An engine on a loop of its own thread, with a scripted upstream behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import pytest

from core.catalog.providers import Provider
from core.chat import engine
from core.chat.engine import Engine
from core.db import Database
from tests.upstream import Upstream

T = TypeVar("T")


class EngineThread:
    """The server's event loop as tests have it: in a thread, with an installed engine."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.engine = self.run(self._make, url)
        engine.install(self.engine)

    def run(self, function: Callable[..., object], *arguments: object) -> object:
        """Run an async function on the loop and return its result."""
        future: Future[object] = asyncio.run_coroutine_threadsafe(function(*arguments), self.loop)  # type: ignore[arg-type]
        return future.result(30)

    def close(self) -> None:
        self.run(self.engine.drain, 5)
        engine.install(None)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)

    async def _make(self, url: str) -> Engine:
        providers = {
            name: Provider(name, url, "test-key", site="http://test", max_connections=100)
            for name in ("openrouter", "demo")
        }
        return Engine(providers)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as served:
        yield served


@pytest.fixture
def engine_thread(database: Database, upstream: Upstream) -> Iterator[EngineThread]:
    thread = EngineThread(upstream.url)
    yield thread
    thread.close()
