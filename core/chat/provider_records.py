"""Asks the providers for their records of calls: a few at a time of each, and not for long.

A provider that says nothing costs some seconds and keeps nobody else's answer. Books nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from core.catalog.providers import Generation, Provider, ProviderUnreachable
from core.catalog.registry import connect
from core.settings import Settings

NO_RECORD = "not ready"  # the provider answers, and has none yet
_AT_ONCE = 8  # of each provider
_PATIENCE_S = 5.0  # for all of them


@dataclass(frozen=True, slots=True)
class Asked:
    """What the provider said about a generation: the record, or None with the reason."""

    generation: Generation | None
    error: str | None


def ask(settings: Settings, wanted: list[tuple[str, str | None]]) -> list[Asked]:
    """An answer to each (provider, generation id), within some seconds. Call it outside transactions."""
    if not any(generation_id for _, generation_id in wanted):
        return [Asked(None, None) for _ in wanted]
    return asyncio.run(_ask_all(settings, wanted))


async def _ask_all(settings: Settings, wanted: list[tuple[str, str | None]]) -> list[Asked]:
    clients = connect(settings)
    room: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_AT_ONCE))

    async def one(provider: str, generation_id: str | None) -> Asked:
        async with room[provider]:
            return await _ask_one(clients.get(provider), generation_id)

    asking = [asyncio.create_task(one(*pair)) for pair in wanted]
    try:
        _, silent = await asyncio.wait(asking, timeout=_PATIENCE_S)
        for task in silent:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        late = Asked(None, "no answer in time")
        return [late if task.cancelled() else task.result() for task in asking]
    finally:
        for client in clients.values():
            await client.close()


async def _ask_one(client: Provider | None, generation_id: str | None) -> Asked:
    if client is None or generation_id is None:
        return Asked(None, "the provider is not configured" if generation_id else None)
    try:
        found = await client.generation(generation_id)
    except ProviderUnreachable as error:
        return Asked(None, str(error)[:200])
    return Asked(found, None if found else NO_RECORD)
