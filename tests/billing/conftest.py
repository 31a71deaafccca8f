"""The stand-in for Stripe, running in a thread of its own, and the product's own connection to it.

Every request that it accepts and every object that it shows is held against the pinned library.
Events are not sent by themselves: a test says `deliver()`, so that nothing depends on time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core import db
from core.billing import inbox, stripe_api
from core.billing.ledger import BILLING
from core.billing.sandbox import Server, serve
from core.billing.sandbox.control import Control
from core.billing.stripe_api import StripeApi
from core.billing.stripe_tables import StripeEvent
from core.db import Database
from tests.billing.story import Story, tell
from tests.billing.till import Till, open_till
from tests.stripe_types import ObjectValidator, RequestValidator

KEY = "sk_test_sandbox"
SECRET = "whsec_test"
_ROUNDS_MAX = 10
_NOT_OURS = "nothing of ours calls this"


@dataclass(slots=True)
class Differences:
    """What the stand-in takes or shows otherwise than the library says. Must stay empty."""

    found: list[str] = field(default_factory=list)
    is_ours: bool = True  # the requests are the product's: it may ask for nothing unknown
    _requests: RequestValidator = field(default_factory=RequestValidator)
    _objects: ObjectValidator = field(default_factory=ObjectValidator)

    def observe(
        self, method: str, path: str, params: dict[str, Any], status: int, answer: dict[str, Any]
    ) -> None:
        if status != 200:
            return
        at = path.replace("{id}", "x").replace("{method}", "x")
        try:
            self._requests.check_request(method, at, params)
        except AssertionError as error:
            if self.is_ours or not str(error).endswith(_NOT_OURS):
                self.found.append(f"request: {error}")
        self.found += [f"{method} {path}: {problem}" for problem in self.shown(answer)]

    def shown(self, thing: dict[str, Any]) -> list[str]:
        if thing.get("deleted"):
            return []
        return self._objects.check_object(thing)


@contextmanager
def running(state_file: Path | None = None, webhook_url: str | None = None) -> Iterator[Server]:
    """A stand-in on a free port, in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox", daemon=True)
    thread.start()
    starting = serve(state_file=state_file, webhook_url=webhook_url, webhook_secret=SECRET)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass(slots=True)
class Stripe:
    """What a test has in hand: the connection under test, the stand-in, and what was delivered."""

    api: StripeApi
    sandbox: Control
    url: str
    delivered: list[str] = field(default_factory=list)

    def hear(self, raw: bytes, header: str) -> int:
        """Take one event as the webhook would: verified, stored, handled."""
        payload = self.api.verify(raw, header)
        with db.transaction(BILLING) as session:
            inbox.receive(session, payload, came_by="webhook")
        self.delivered.append(str(payload["type"]))
        inbox.handle(str(payload["id"]))
        return 200

    def deliver(self, *, seed: int | None = None) -> int:
        """Deliver everything that waits, and try again what had to wait for it. Returns the count
        of deliveries; `seed` puts them in another order."""
        told = self.sandbox.deliver(self.hear, seed=seed)
        for _ in range(_ROUNDS_MAX):
            waiting = self._waiting()
            if not waiting:
                break
            for event_id in waiting:
                inbox.handle(event_id)
            told += self.sandbox.deliver(self.hear, seed=seed)
            if self._waiting() == waiting:
                break
        return told

    def _waiting(self) -> list[str]:
        mine = {event["id"] for event in self.sandbox.objects("event")}
        with db.transaction(BILLING) as session:
            found = session.scalars(
                select(StripeEvent.event_id)
                .where(StripeEvent.state == "waiting", StripeEvent.event_id.in_(mine))
                .order_by(StripeEvent.event_id)
            ).all()
        return list(found)


@pytest.fixture(autouse=True)
def _nothing_installed() -> Iterator[None]:
    """Whatever Stripe a test installed is gone after it."""
    yield
    stripe_api.install(None)


@pytest.fixture
def till() -> Iterator[Till]:
    """Stripe as buying uses it, without a network."""
    with open_till() as opened:
        yield opened


@pytest.fixture
def story(database: Database) -> Story:
    """A tenant whose events the fixtures are."""
    return tell()


@pytest.fixture
def differences() -> Differences:
    return Differences()


@pytest.fixture
def sandbox(differences: Differences) -> Iterator[Server]:
    """The stand-in alone; at the end it must have been what the library says."""
    with running() as server:
        server.control.observe(differences.observe)
        yield server
        for event in server.control.objects("event"):
            differences.found += differences.shown(event)
    assert differences.found == []


@pytest.fixture
def api(sandbox: Server) -> StripeApi:
    """The product's connection to the stand-in."""
    return StripeApi(KEY, base=sandbox.url, webhook_secrets=(SECRET,), sandbox=True)


@pytest.fixture
def stripe(database: Database, sandbox: Server, api: StripeApi) -> Stripe:
    """The stand-in, installed as the product's Stripe, delivering into its inbox."""
    stripe_api.install(api)
    return Stripe(api, sandbox.control, sandbox.url)
