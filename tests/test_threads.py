"""Threads shared fairly: one that is stuck keeps nobody else waiting, and nothing waits without bound."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from core import errors, lanes
from core.lanes import Lane
from core.threads import Threads


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Work that waits for this event is stuck until the test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_work_runs_on_the_lane() -> None:
    threads = Threads(Lane.API, 1, each_max=1)
    assert asyncio.run(threads.run("a", lanes.current)) is Lane.API


def test_one_that_is_stuck_leaves_a_thread_for_the_others(held: threading.Event) -> None:
    threads = Threads(Lane.API, 3, each_max=2)

    async def play() -> float:
        stuck = [asyncio.ensure_future(threads.run("a", held.wait, 20)) for _ in range(40)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await threads.run("b", lambda: 7) == 7
        waited_s = time.monotonic() - began
        held.set()
        await asyncio.gather(*stuck)
        return waited_s

    assert asyncio.run(play()) < 1


def test_too_much_of_one_and_too_much_in_all_is_told_at_once(held: threading.Event) -> None:
    threads = Threads(Lane.API, 1, each_max=1, asked_max=3, each_asked_max=2)

    async def play() -> None:
        stuck = [asyncio.ensure_future(threads.run("a", held.wait, 20)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(errors.Busy):
            await threads.run("a", lambda: 1)
        stuck.append(asyncio.ensure_future(threads.run("b", lambda: 1)))
        await asyncio.sleep(0)
        with pytest.raises(errors.Busy) as busy:
            await threads.run("c", lambda: 1)
        assert busy.value.retry_after_s
        held.set()
        await asyncio.gather(*stuck)
        assert await threads.run("c", lambda: 1) == 1

    asyncio.run(play())


def test_nothing_waits_longer_than_it_may(held: threading.Event) -> None:
    threads = Threads(Lane.API, 1, each_max=1, wait_s=0.1)

    async def play() -> None:
        stuck = asyncio.ensure_future(threads.run("a", held.wait, 20))
        await asyncio.sleep(0.02)
        with pytest.raises(errors.Busy):
            await threads.run("a", lambda: 1)
        held.set()
        await stuck

    asyncio.run(play())


def test_a_caller_that_left_counts_until_its_work_has_ended(held: threading.Event) -> None:
    threads = Threads(Lane.API, 2, each_max=1, wait_s=0.1)

    async def play() -> None:
        left = asyncio.ensure_future(threads.run("a", held.wait, 20))
        await asyncio.sleep(0.02)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        with pytest.raises(errors.Busy):
            await threads.run("a", lambda: 1)
        held.set()
        await asyncio.sleep(0.05)
        assert await threads.run("a", lambda: 1) == 1

    asyncio.run(play())


def test_what_the_work_raises_is_raised() -> None:
    async def play() -> None:
        with pytest.raises(errors.NotFound):
            await Threads(Lane.API, 1, each_max=1).run("a", _missing)

    asyncio.run(play())


def _missing() -> None:
    raise errors.NotFound("There is nothing.")
