"""A process that runs chat turns until it is killed: an engine, some people, a slow provider.

python -m tests.faults.host DATABASE_URL UPSTREAM_URL MODEL TURNS; prints one line per turn started:
tenant, conversation, answer, call.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from core import db, settings
from core.catalog.providers import Provider
from core.chat import engine, turns
from core.chat.engine import Engine
from core.db import Database
from tests.factories import make_place


def main(url: str, upstream: str, model: str, count: int) -> None:
    os.environ["APP_ENV"] = "development"
    db.install(Database(settings.current(), url))
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def make() -> Engine:
        client = Provider("openrouter", upstream, "k", site="http://test", max_connections=100)
        return Engine({"openrouter": client})

    engine.install(asyncio.run_coroutine_threadsafe(make(), loop).result(10))
    for number in range(count):
        place = make_place()
        live = turns.start(
            place.who, f"Question {number}", model_id=model, offered=frozenset({"openrouter"})
        )
        print(place.tenant_id, live.conversation_id, live.answer_id, live.call_id, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
