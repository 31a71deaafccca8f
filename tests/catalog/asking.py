"""Asks a provider under test and keeps everything that was heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from core.catalog.answers import Answer, Delta
from core.catalog.providers import ChatRequest, Deadlines, Generation, Provider
from tests.upstream import SSE_DIR, Upstream

EXPECTED: dict[str, dict[str, Any]] = json.loads((SSE_DIR / "expected.json").read_text())
CHATS = {name: said for name, said in EXPECTED.items() if "outcome" in said}
CANARY_KEY = "sk-or-v1-canary0123456789abcdef"
PATIENT = Deadlines(connect_ms=5_000, first_token_ms=10_000, idle_ms=10_000, total_ms=20_000)


@dataclass(frozen=True)
class Admitted:
    call_id: UUID
    lease_token: UUID
    max_tokens: int


@dataclass
class Heard:
    answer: Answer
    deltas: list[Delta]
    generations: list[str]


def question(**changes: Any) -> ChatRequest:
    request = ChatRequest("acme/one", [{"role": "user", "content": "hi"}], end_user="hash")
    return replace(request, **changes)


def provider_at(url: str, key: str = CANARY_KEY, connections: int = 10) -> Provider:
    site = "https://chat.example"
    return Provider("openrouter", url, key, site=site, max_connections=connections)


async def listen(
    provider: Provider,
    answer: Answer | None = None,
    deadlines: Deadlines = PATIENT,
    request: ChatRequest | None = None,
    on_delta: Callable[[Delta], None] | None = None,
) -> Heard:
    heard = Heard(answer or Answer(), [], [])
    await provider.stream(
        Admitted(uuid4(), uuid4(), 77),
        request or question(),
        heard.answer,
        deadlines=deadlines,
        on_delta=on_delta or heard.deltas.append,
        on_generation=heard.generations.append,
    )
    return heard


def ask(up: Upstream, deadlines: Deadlines = PATIENT, **changes: Any) -> Heard:
    async def once() -> Heard:
        provider = provider_at(up.url)
        try:
            return await listen(provider, deadlines=deadlines, request=question(**changes))
        finally:
            await provider.close()

    return asyncio.run(once())


def lookup(up: Upstream, generation_id: str = "gen-1-x") -> Generation | None:
    async def once() -> Generation | None:
        provider = provider_at(up.url)
        try:
            return await provider.generation(generation_id)
        finally:
            await provider.close()

    return asyncio.run(once())
