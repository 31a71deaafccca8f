"""The baseline: the least a Python gateway with money in Postgres can do, in one process.

Starlette on uvicorn; the openai client sends the request, this file splits the events and reads
each one; admission and settlement are one transaction of two statements each. It knows no keys,
limits or leases, and is nothing to build on: it is what the product is compared with.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

import httpx2
import psycopg
import uvicorn
from openai import AsyncOpenAI
from openai._response import AsyncAPIResponse
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

ACCOUNTS = 100
HOLD_NUSD = 10_000_000
POOL_SIZE = 10
UPSTREAM_CONNECTIONS = 1000

SCHEMA = """
    DROP TABLE IF EXISTS baseline_calls, baseline_accounts;
    CREATE TABLE baseline_accounts (
        id bigint PRIMARY KEY,
        balance_nusd bigint NOT NULL,
        held_nusd bigint NOT NULL DEFAULT 0 CHECK (held_nusd >= 0),
        spent_nusd bigint NOT NULL DEFAULT 0);
    CREATE TABLE baseline_calls (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account_id bigint NOT NULL REFERENCES baseline_accounts,
        model text NOT NULL,
        state text NOT NULL DEFAULT 'open',
        hold_nusd bigint NOT NULL,
        cost_nusd bigint,
        prompt_tokens int,
        completion_tokens int,
        generation_id text,
        opened_at timestamptz NOT NULL DEFAULT now(),
        settled_at timestamptz);
    CREATE INDEX ON baseline_calls (account_id, opened_at);
"""
FILL = "INSERT INTO baseline_accounts (id, balance_nusd) SELECT i, %s FROM generate_series(1, %s) i"
HOLD = """
    UPDATE baseline_accounts SET held_nusd = held_nusd + %s
    WHERE id = %s AND balance_nusd - held_nusd >= %s RETURNING id
"""
OPEN = """
    INSERT INTO baseline_calls (account_id, model, hold_nusd) VALUES (%s, %s, %s) RETURNING id
"""
CAPTURE = """
    UPDATE baseline_accounts
    SET held_nusd = held_nusd - %s, balance_nusd = balance_nusd - %s, spent_nusd = spent_nusd + %s
    WHERE id = %s
"""
CLOSE = """
    UPDATE baseline_calls
    SET state = 'settled', cost_nusd = %s, prompt_tokens = %s, completion_tokens = %s,
        generation_id = %s, settled_at = now()
    WHERE id = %s AND state = 'open'
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """An admitted call: whose account, and which row to close."""

    account_id: int
    call_id: int


class Events:
    """Splits server-sent events, reads each, hands it on, and remembers usage and id."""

    __slots__ = ("_rest", "generation_id", "usage")

    def __init__(self) -> None:
        self._rest = b""
        self.usage: dict[str, Any] = {}
        self.generation_id: str | None = None

    def feed(self, data: bytes) -> bytes:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        return b"".join(self._pass_on(e) for e in events if e.startswith(b"data: {"))

    def _pass_on(self, event: bytes) -> bytes:
        chunk = json.loads(event[6:])
        self.generation_id = chunk["id"]
        self.usage = chunk.get("usage") or self.usage
        chunk.pop("provider", None)
        return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


class Gateway:
    """The two routes and what they share: a pool and a client."""

    def __init__(self, dsn: str, upstream: str) -> None:
        self._pool = AsyncConnectionPool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE, open=False)
        limits = httpx2.Limits(
            max_connections=UPSTREAM_CONNECTIONS, max_keepalive_connections=UPSTREAM_CONNECTIONS
        )
        self._client = AsyncOpenAI(
            base_url=upstream,
            api_key="unused",
            max_retries=0,
            http_client=httpx2.AsyncClient(limits=limits, timeout=120),
        )

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        await self._pool.open(wait=True)
        yield
        await self._client.close()
        await self._pool.close()

    async def livez(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        hold = await self._admit(body["model"])
        if hold is None:
            return JSONResponse({"error": {"message": "balance too low"}}, 402)
        opening = self._client.chat.completions.with_streaming_response.create(**body)
        response = await opening.__aenter__()
        if body.get("stream"):
            events = self._stream(opening, response, hold)
            return StreamingResponse(events, media_type="text/event-stream")
        raw = await response.read()
        await opening.__aexit__(None, None, None)
        answer = json.loads(raw)
        await self._settle(hold, answer.get("usage") or {}, answer["id"])
        return Response(raw, media_type="application/json")

    async def _stream(
        self,
        opening: AbstractAsyncContextManager[AsyncAPIResponse[Any]],
        response: AsyncAPIResponse[Any],
        hold: Hold,
    ) -> AsyncIterator[bytes]:
        events = Events()
        try:
            async for data in response.http_response.aiter_raw():
                if passed_on := events.feed(data):
                    yield passed_on
        finally:
            await opening.__aexit__(None, None, None)
        await self._settle(hold, events.usage, events.generation_id)
        yield b"data: [DONE]\n\n"

    async def _admit(self, model: str) -> Hold | None:
        account_id = random.randint(1, ACCOUNTS)
        async with self._pool.connection() as connection:
            held = await connection.execute(HOLD, (HOLD_NUSD, account_id, HOLD_NUSD))
            if await held.fetchone() is None:
                return None
            opened = await connection.execute(OPEN, (account_id, model, HOLD_NUSD))
            row = await opened.fetchone()
        return Hold(account_id, row[0]) if row else None

    async def _settle(self, hold: Hold, usage: dict[str, Any], generation_id: str | None) -> None:
        cost = Decimal(str(usage.get("cost") or 0)).scaleb(9).to_integral_value(ROUND_CEILING)
        tokens = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        async with self._pool.connection() as connection:
            await connection.execute(CAPTURE, (HOLD_NUSD, int(cost), int(cost), hold.account_id))
            await connection.execute(CLOSE, (int(cost), *tokens, generation_id, hold.call_id))


def create_tables(dsn: str) -> None:
    """Make the two tables afresh, every account holding a million dollars."""
    with psycopg.connect(dsn) as connection:
        connection.execute(SCHEMA)
        connection.execute(FILL, (10**15, ACCOUNTS))


def application(dsn: str, upstream: str) -> Starlette:
    """The ASGI application; `upstream` ends in `/v1`."""
    gateway = Gateway(dsn, upstream)
    routes = [
        Route("/livez", gateway.livez),
        Route("/v1/chat/completions", gateway.complete, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=gateway.lifespan)


def main() -> None:
    """Command line: `python -m benchmarks.minimal_gateway --port N --dsn D --upstream URL`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--upstream", required=True, help="base URL, ending in /v1")
    args = parser.parse_args()
    create_tables(args.dsn)
    uvicorn.run(
        application(args.dsn, args.upstream),
        host="127.0.0.1",
        port=args.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
