"""Threads for one kind of work, shared fairly: whoever is stuck in one keeps nobody else waiting.

Asked for on an event loop, which never waits for the database itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from core import errors, lanes
from core.lanes import Lane

_ASK_AGAIN_S = 2

T = TypeVar("T")


@dataclass(slots=True)
class _Share:
    """What one of many has going on: slots of its own, and how much of it is running or waiting."""

    free: asyncio.Semaphore
    asked: int = field(default=0)


class Threads:
    """`count` threads on a lane, at most `each_max` of them for one tenant (or whoever `whose` names).

    No more than `asked_max` pieces of work run or wait in all, no more than `each_asked_max` of one,
    and none waits longer than `wait_s` for its turn: the rest is told that we are busy.
    """

    def __init__(
        self,
        lane: Lane,
        count: int,
        *,
        each_max: int,
        asked_max: int | None = None,
        each_asked_max: int | None = None,
        wait_s: float | None = None,
    ) -> None:
        self._pool = ThreadPoolExecutor(
            count, thread_name_prefix=f"purser-{lane}", initializer=lanes.enter, initargs=(lane,)
        )
        self._each_max, self._wait_s = each_max, wait_s
        self._asked_max, self._each_asked_max = asked_max, each_asked_max
        self._shares: dict[Hashable, _Share] = {}
        self._asked = 0

    async def run(
        self, whose: Hashable, function: Callable[..., T], *arguments: object, **named: object
    ) -> T:
        """What `function` returns or raises, called in a thread. Raises errors.Busy instead of waiting.

        A caller that gives up early leaves its thread counted until the work has really ended.
        """
        share = self._ask(whose)
        try:
            async with asyncio.timeout(self._wait_s):
                await share.free.acquire()
        except TimeoutError:
            self._leave(whose)
            raise _busy() from None
        except BaseException:  # given up while waiting
            self._leave(whose)
            raise
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, partial(function, *arguments, **named))
        work.add_done_callback(partial(self._done, whose, share))
        return await asyncio.shield(work)

    def close(self) -> None:
        """Take nothing new, and forget what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, whose: Hashable) -> _Share:
        share = self._shares.get(whose) or _Share(asyncio.Semaphore(self._each_max))
        if _is_full(self._asked, self._asked_max) or _is_full(share.asked, self._each_asked_max):
            raise _busy()
        self._shares[whose] = share
        share.asked += 1
        self._asked += 1
        return share

    def _leave(self, whose: Hashable) -> None:
        share = self._shares[whose]
        share.asked -= 1
        self._asked -= 1
        if not share.asked:
            del self._shares[whose]

    def _done(self, whose: Hashable, share: _Share, work: asyncio.Future[T]) -> None:
        if not work.cancelled():
            work.exception()  # its caller may have left: then nobody else takes it
        share.free.release()
        self._leave(whose)


def _is_full(count: int, most: int | None) -> bool:
    return most is not None and count >= most


def _busy() -> errors.Busy:
    return errors.Busy(
        "Too much is going on here right now. Please try again in a moment.",
        retry_after_s=_ASK_AGAIN_S,
    )
