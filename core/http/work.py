"""The threads of all of HTTP that is not a running call: `/api`, files, sign-in, webhooks, models.

They have connections of their own and are shared among tenants, so that a slow question of one holds
up neither the others nor any call. Reading large bodies has threads of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from typing import TypeVar

from core.lanes import Lane
from core.threads import Threads

_PATIENCE_S = 5.0
_READING_PATIENCE_S = 20.0

T = TypeVar("T")


async def run(
    whose: Hashable, function: Callable[..., T], *arguments: object, **named: object
) -> T:
    """Call a function that uses the database. `whose` is the tenant, or who else asks.

    Raises errors.Busy, where too much waits already.
    """
    return await _threads().run(whose, function, *arguments, **named)


async def read(whose: Hashable, function: Callable[..., T], *arguments: object) -> T:
    """Call a function that reads a large body. Raises as `run`."""
    return await _readers().run(whose, function, *arguments)


async def send(whose: Hashable, function: Callable[..., T], *arguments: object) -> T:
    """Call a function that reads the next block of a file. It waits for its turn."""
    return await _senders().run(whose, function, *arguments)


@cache
def _senders() -> Threads:
    return Threads(Lane.API, 3, each_max=1)


@cache
def _threads() -> Threads:
    return Threads(
        Lane.API, 6, each_max=2, asked_max=200, each_asked_max=16, wait_s=_PATIENCE_S
    )  # fmt: skip


@cache
def _readers() -> Threads:
    return Threads(
        Lane.API, 2, each_max=1, asked_max=40, each_asked_max=8, wait_s=_READING_PATIENCE_S
    )  # fmt: skip
