"""The API as it is served: our routes on a real socket, the real engine, a scripted provider."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

import httpx2
import orjson
import uvicorn
from sqlalchemy import text
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from core import db, settings
from core.catalog.providers import Provider
from core.chat import engine
from core.chat.engine import Engine
from core.http import connections
from core.http.edge import Edge
from core.http.headers import SecurityHeaders
from core.identity import keys
from tests.factories import TESTS, Place, make_model, make_place
from tests.upstream import Upstream

PAGE = "<html><script>window.ready = false</script><script src='x.js'></script></html>"
SITE = "https://chat.example"


async def pages(scope: Scope, receive: Receive, send: Send) -> None:
    """What Streamlit would answer: every path is the app."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await PlainTextResponse("a page")(scope, receive, send)


@dataclass
class Answer:
    """A streamed answer as a client saw it."""

    status: int
    headers: Mapping[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)
    comments: int = 0
    is_done: bool = False

    @property
    def text(self) -> str:
        return "".join(d.get("content") or "" for d in self.deltas)

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [e["choices"][0]["delta"] for e in self.events if e.get("choices")]

    @property
    def usage(self) -> dict[str, Any]:
        found: dict[str, Any] = next(e["usage"] for e in self.events if e.get("usage"))
        return found

    @property
    def error(self) -> dict[str, Any] | None:
        return next((e["error"] for e in self.events if "error" in e), None)

    @property
    def finish_reason(self) -> str | None:
        choices = (e["choices"][0] for e in self.events if e.get("choices"))
        return next((c["finish_reason"] for c in choices if c["finish_reason"]), None)


class Service:
    """The server in a thread of its own; `with Service() as service`."""

    def __init__(self) -> None:
        self.up = Upstream()
        self.engine: Engine
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self.up.__enter__()
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self.up.__exit__()

    async def _serve(self) -> None:
        provider = Provider("openrouter", self.up.url, "sk-or-x", site=SITE, max_connections=200)
        self.engine = Engine({"openrouter": provider})
        engine.install(self.engine)
        app = Edge(pages, SecurityHeaders(PAGE, settings.current()))
        connections.bound()
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.005)
        self._started.set()
        await serving
        await self.engine.drain(2)
        engine.install(None)
        await provider.close()

    def post(self, key: str, body: object, **headers: str) -> httpx2.Response:
        """A completion request that is not streamed; a body of bytes is sent as it is."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return httpx2.post(
            f"{self.url}/v1/chat/completions", content=raw, timeout=60,
            headers={"authorization": f"Bearer {key}"} | headers,
        )  # fmt: skip

    def ask(self, key: str, model: str, **fields: Any) -> httpx2.Response:
        return self.post(key, question(model, **fields))

    def stream(self, key: str, model: str, **fields: Any) -> Answer:
        """A streamed completion, read to its end."""
        with httpx2.stream(
            "POST", f"{self.url}/v1/chat/completions", timeout=60,
            json=question(model, stream=True, **fields),
            headers={"authorization": f"Bearer {key}"},
        ) as response:  # fmt: skip
            answer = Answer(response.status_code, dict(response.headers))
            if response.status_code != 200:
                answer.events = [orjson.loads(response.read())]
                return answer
            for line in response.iter_lines():
                _take(answer, line)
        return answer


def _take(answer: Answer, line: str) -> None:
    if line.startswith(":"):
        answer.comments += 1
    elif line == "data: [DONE]":
        answer.is_done = True
    elif line.startswith("data: "):
        answer.events.append(orjson.loads(line[6:]))


def question(model: str, said: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": said}], **fields}


@dataclass(frozen=True, slots=True)
class Client:
    """A tenant, its person and an API key of theirs."""

    place: Place
    key: str
    key_id: UUID


def a_client(**terms: Any) -> Client:
    scopes = terms.pop("scopes", None)
    place = make_place(**terms)
    with db.transaction(TESTS) as session:
        issued = keys.issue(
            session, TESTS, "test", tenant_id=place.tenant_id, user_id=place.user_id,
            **({"scopes": scopes} if scopes else {}),
        )  # fmt: skip
    return Client(place, issued.secret, issued.key_id)


def unpriced_model() -> str:
    """A model whose price nobody accepted, as a router's that varies from call to call."""
    name = make_model()
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.models set price_id = null where model_id = :m"), {"m": name}
        )
    return name


def rows(statement: str, **arguments: object) -> list[Any]:
    with db.transaction(TESTS) as session:
        return list(session.execute(text(statement), arguments))


def event_of(call_id: str) -> Any:
    """The usage event of a call, with what became of the hold and the wallet."""
    found = rows(
        "select e.*, c.state, h.state as hold_state, h.captured_nusd,"
        " not exists (select from app.lookups l where l.call_id = e.call_id) as final"
        " from app.usage_events e join app.calls c using (tenant_id, call_id)"
        " join app.holds h using (tenant_id, call_id)"
        " where e.call_id = :call and e.kind = 'call'",
        call=call_id,
    )
    assert len(found) == 1
    return found[0]


def wallet(place: Place) -> Any:
    return rows(
        "select posted_nusd, held_nusd, debt_nusd, (select coalesce(sum(kept_nusd), 0)::bigint from"
        " app.lookups l where l.tenant_id = a.tenant_id) as kept_nusd"
        " from app.accounts a where tenant_id = :t",
        t=place.tenant_id,
    )[0]


def calls_of(place: Place) -> int:
    return int(rows("select count(*) from app.calls where tenant_id = :t", t=place.tenant_id)[0][0])


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
