"""A shop as it really stands: a Postgres of its own, the app as a process, and a Stripe that outlives
both; and what must be true of all three together."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text

from core import db, invariants
from core.billing import inbox
from core.billing.sandbox import Server, sender, serve
from core.billing.sandbox.control import Control
from core.db import new_id
from tests.factories import TESTS, Place, make_place
from tests.faults.test_database_away import OwnServer
from tests.processes import AppProcess, free_port

KEY, SECRET = "sk_test_x", "whsec_of_a_shop_that_is_killed"
NUSD_PER_CENT = 10_000_000  # what is bought here brings a dollar of credit for a dollar
_TOLD_WITHIN_S = 60.0
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
        self.start()

    @property
    def control(self) -> Control:
        assert self._server is not None
        return self._server.control

    def start(self) -> None:
        starting = serve(
            state_file=self._books, webhook_url=None, webhook_secret=SECRET, port=self._port
        )
        self._server = self._run(starting)

    def stop(self) -> None:
        assert self._server is not None
        self._run(self._server.close())

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

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
        connection = http.client.HTTPConnection(self._host, timeout=5)
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
        if self.app.process is None or self.app.process.poll() is not None:
            self.app.start()

    def letters(self, *, seed: int) -> list[bytes]:
        """Every event nobody was told of yet, in another order than it happened."""
        found: list[bytes] = []

        def take(raw: bytes, _header: str) -> int:
            found.append(raw)
            return 200

        self.stripe.control.deliver(take)
        random.Random(seed).shuffle(found)
        return found

    def settle(self, *, seconds: float = 45, is_alone: bool = False) -> None:
        """Wait until no event waits. Unless the app is left alone with it, its next rounds come at
        once, from here."""
        deadline = time.monotonic() + seconds
        while waiting := _waiting(hurried=not is_alone):
            assert time.monotonic() < deadline, waiting
            if not is_alone:
                inbox.sweep()
            time.sleep(0.2)

    def assert_sound(self) -> None:
        """No invariant is broken, and every payment, refund and sum is what Stripe says."""
        theirs = self.stripe.control.objects
        received = {
            found["id"]: found["amount_received"]
            for found in theirs("payment_intent")
            if found["status"] == "succeeded"
        }
        gone = {
            found["id"]: found["amount"]
            for found in theirs("refund")
            if found["status"] in {"pending", "succeeded"}
        }
        paid = {
            found["id"]
            for found in theirs("checkout.session")
            if found["mode"] == "payment" and found["payment_status"] == "paid"
        }
        with db.transaction(TESTS) as session:
            assert invariants.check(session) == []
            ours = {
                name: {row[0]: row[1] for row in session.execute(text(query))}
                for name, query in _OURS.items()
            }
            assert ours["payments"] == received
            assert ours["claw_backs"] == gone
            assert set(ours["sessions"]) == paid
            posted_nusd = session.execute(text(_POSTED)).scalar_one()
            assert set(ours["events"]) <= {"handled", "ignored"}, ours["events"]
        net_minor = sum(received.values()) - sum(gone.values())
        assert posted_nusd == net_minor * NUSD_PER_CENT, (posted_nusd, net_minor)


def buyer() -> Place:
    return make_place(credit_usd=0, role="admin", plan="free")


def click() -> str:
    return new_id().hex


def _waiting(*, hurried: bool) -> list[str]:
    """What waits; `hurried` is as if the time of each had come."""
    with db.transaction(TESTS) as session:
        if hurried:
            session.execute(
                text("update app.stripe_events set due_at = now() where state = 'waiting'")
            )
        query = "select type || ': ' || coalesce(reason, '-') from app.stripe_events"
        return list(session.scalars(text(f"{query} where state = 'waiting'")))


_OURS = {
    "payments": "select payment_intent_id, total_minor from app.payments",
    "claw_backs": "select stripe_id, amount_minor from app.claw_backs where counts",
    "sessions": "select stripe_id, order_id from app.fulfilments where kind = 'checkout_session'",
    "events": "select state, count(*) from app.stripe_events group by state",
}
_POSTED = """
select coalesce(sum(posted_nusd), 0)::bigint from app.accounts
where tenant_id in (select tenant_id from app.payments)
"""
