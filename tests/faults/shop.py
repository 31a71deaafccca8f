"""A shop as it really stands: a Postgres of its own, the app as a process, and a Stripe that outlives
both; and what must be true of all three together."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text

from core import db, invariants, jobs
from core.billing.sandbox import Server, sender, serve
from core.billing.sandbox.control import Control
from core.db import new_id
from tests.factories import TESTS, Place, make_place
from tests.faults.test_database_away import OwnServer
from tests.processes import AppProcess, free_port

KEY, SECRET = "sk_test_x", "whsec_of_a_shop_that_is_killed"
NUSD_PER_CENT = 10_000_000  # what is bought here brings a dollar of credit for a dollar
_TOLD_WITHIN_S, _SETTLED_WITHIN_S = 60.0, 45.0
T = TypeVar("T")


class StandIn:
    """The stand-in for Stripe on one port, in a thread of this process, stopped and started at will.
    It tells nobody of its events: a Postman does."""

    def __init__(self, folder: Path) -> None:
        self._books, self._port = folder / "books.json", free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Server | None = None
        self._start()

    @property
    def control(self) -> Control:
        assert self._server is not None
        return self._server.control

    @contextmanager
    def away(self) -> Iterator[None]:
        """For the block nobody answers at its port."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def end(self) -> None:
        self._stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _start(self) -> None:
        starting = serve(
            state_file=self._books, webhook_url=None, webhook_secret=SECRET, port=self._port
        )
        self._server = self._run(starting)

    def _stop(self) -> None:
        assert self._server is not None
        self._run(self._server.close())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


class Postman:
    """Tells the app of events as Stripe does: twenty at a time, each again until it answers 2xx."""

    def __init__(self, url: str, letters: list[bytes]) -> None:
        self._host = url.removeprefix("http://")
        self.statuses: list[int] = []
        self.heard: list[str] = []
        self._until = time.monotonic() + _TOLD_WITHIN_S
        self._pool = ThreadPoolExecutor(20)
        self._telling: list[Future[None]] = [
            self._pool.submit(self._tell, letter) for letter in letters
        ]

    def wait_heard(self, count: int) -> None:
        while len(self.heard) < count:
            assert time.monotonic() < self._until, self.statuses[-20:]
            time.sleep(0.002)

    def wait_status(self, status: int) -> None:
        while status not in self.statuses:
            assert time.monotonic() < self._until, self.statuses[-20:]
            time.sleep(0.01)

    def join(self) -> None:
        for told in self._telling:
            told.result(_TOLD_WITHIN_S)
        self._pool.shutdown()

    def _tell(self, raw: bytes) -> None:
        while not 200 <= (status := self._post(raw)) < 300:
            assert time.monotonic() < self._until, self.statuses[-20:]
            time.sleep(0.2)
        assert status == 200
        self.heard.append(str(json.loads(raw)["id"]))

    def _post(self, raw: bytes) -> int:
        """The status; 0 when nobody answers. Signed anew each time."""
        connection = http.client.HTTPConnection(self._host, timeout=15)
        headers = {
            "Content-Type": "application/json", "Stripe-Signature": sender.sign(raw, (SECRET,))
        }  # fmt: skip
        try:
            connection.request("POST", "/stripe/webhook", raw, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            status = 0
        finally:
            connection.close()
        self.statuses.append(status)
        return status


class Shop:
    """The three together."""

    def __init__(self, server: OwnServer, stripe: StandIn, app: AppProcess) -> None:
        self.server, self.stripe, self.app = server, stripe, app

    def open(self) -> None:
        """The app runs, if it did not."""
        if not self.is_open:
            self.app.start()

    @property
    def is_open(self) -> bool:
        return self.app.process is not None and self.app.process.poll() is None

    def letters(self, *, seed: int) -> list[bytes]:
        """Every event nobody was told of yet, in another order than it happened."""
        found: list[bytes] = []

        def take(raw: bytes, _header: str) -> int:
            found.append(raw)
            return 200

        self.stripe.control.deliver(take)
        random.Random(seed).shuffle(found)
        return found

    def run(self, job: str) -> None:
        """The app does now what it does by itself every few seconds."""
        with db.transaction(TESTS) as session:
            jobs.defer(session, job)

    def settle(self) -> None:
        """Let the app end what waits, as if the time of each event had come at once."""
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        while waiting := _waiting():
            assert time.monotonic() < deadline, waiting
            self.run("billing.inbox")
            time.sleep(0.3)

    def kills(self, kill: Callable[[], None], path: str) -> AbstractContextManager[None]:
        """For the block: who asks Stripe for `path` is killed once it is done there, before the
        answer goes out."""
        return _observed(self.stripe.control, path, kill)

    def of(self, place: Place, kind: str) -> list[dict[str, Any]]:
        """Stripe's objects of that kind which name the place's tenant."""
        named = str(place.tenant_id)
        return [
            one
            for one in self.stripe.control.objects(kind)
            if (one.get("metadata") or {}).get("tenant_id") == named
        ]

    def assert_sound(self) -> None:
        """No invariant is broken, and every payment, refund and sum is what Stripe says."""
        shown = self.stripe.control.objects
        intents = [one for one in shown("payment_intent") if one["status"] == "succeeded"]
        refunds = [one for one in shown("refund") if one["status"] in {"pending", "succeeded"}]
        pages = [one for one in shown("checkout.session") if one["payment_status"] == "paid"]
        with db.transaction(TESTS) as session:
            assert invariants.check(session) == []
            ours = {
                name: {row[0]: row[1] for row in session.execute(text(query))}
                for name, query in _OURS.items()
            }
        assert ours["payments"] == {one["id"]: one["amount_received"] for one in intents}
        assert ours["claw_backs"] == {one["id"]: one["amount"] for one in refunds}
        assert set(ours["pages"]) == {one["id"] for one in pages if one["mode"] == "payment"}
        assert set(ours["events"]) <= {"handled", "ignored"}, ours["events"]
        planned = {one["customer"] for one in shown("subscription")}
        received = {
            one["id"]: one["amount_received"] for one in intents if one["customer"] not in planned
        }
        gone_minor = sum(one["amount"] for one in refunds if one["payment_intent"] in received)
        net_minor = sum(received.values()) - gone_minor
        assert sum(ours["posted"].values()) == net_minor * NUSD_PER_CENT, (
            ours["posted"],
            net_minor,
        )


def buyer() -> Place:
    return make_place(credit_usd=0, role="admin", plan="free")


def click() -> str:
    return new_id().hex


@contextmanager
def _observed(control: Control, path: str, kill: Callable[[], None]) -> Iterator[None]:
    def see(method: str, at: str, _asked: object, status: int, _answer: object) -> None:
        if (method, at, status) == ("POST", path, 200):
            kill()

    control.observe(see)
    try:
        yield
    finally:
        control.world.observers.remove(see)


def _waiting() -> list[str]:
    """What waits; it is as if the time of each had come."""
    with db.transaction(TESTS) as session:
        session.execute(text("update app.stripe_events set due_at = now() where state = 'waiting'"))
        query = "select type || ': ' || coalesce(reason, '-') from app.stripe_events"
        return list(session.scalars(text(f"{query} where state = 'waiting'")))


_OURS = {
    "payments": "select payment_intent_id, total_minor from app.payments",
    "claw_backs": "select stripe_id, amount_minor from app.claw_backs where counts",
    "pages": "select stripe_id, order_id from app.fulfilments where kind = 'checkout_session'",
    "events": "select state, count(*) from app.stripe_events group by state",
    # a plan's credit is not a dollar for a dollar
    "posted": "select tenant_id, posted_nusd from app.accounts where tenant_id in (select tenant_id"
    " from app.payments) and tenant_id not in (select tenant_id from app.subscriptions)",
}
