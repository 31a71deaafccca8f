"""One kind of work is held at a time: every other kind goes on as if nothing were, and nothing is cut."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from core import db
from core.billing.sandbox import sender
from core.chat import conversations
from core.db import Database, new_id
from core.finance import stored_files
from core.identity import sessions
from core.periods import Period
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.factories import TESTS, make_model, make_place
from tests.faults.conftest import key_of
from tests.faults.shop import KEY, SECRET, StandIn
from tests.faults.test_app_process import Stream, calls_of
from tests.processes import AppProcess
from tests.upstream import Upstream

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parent.parent.parent
PROBES = 20
FLOOR_S = 0.3  # below it the machine is measured, not the product
READY_S = 1.0
TRANSCRIPT = "01_normal_usage_cost.txt"
HELD_BY_ONE = 40
REAPED_S = 5 + 2.0  # the reaper comes round every five seconds
SUMMED_S = 2 + 1.0  # the sums each second; the rest is for a machine that others use
RESCUED_S = 15 + 10 + 5.0  # without a heartbeat, until who rescues comes round, and runs it again
LONG_FILES, LONG_ROWS = 12, 60_000


class World:
    """An app process, a tenant that is held up, and another that must not notice."""

    def __init__(self, app: AppProcess, upstream: Upstream, database_url: str) -> None:
        self.app, self.upstream, self.database_url = app, upstream, database_url
        self.model = make_model()
        self.renew()

    def renew(self) -> None:
        """Tenants that nothing was held for so far."""
        self.held, self.other = make_place(), make_place()
        self.held_key, self.other_key = key_of(self.held), key_of(self.other)
        self.api_key = self.models_key = self.other_key
        self.upstream.play(TRANSCRIPT, fresh_ids=True)

    def get(
        self, path: str, key: str | None = None, *, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:  # fmt: skip
        """The status of one request."""
        named = {"authorization": f"Bearer {key}"} if key else {}
        named |= headers or {}
        asked = urllib.request.Request(self.app.url + path, data=body, headers=named)
        try:
            with urllib.request.urlopen(asked, timeout=30) as response:
                response.read()
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def call(self, key: str) -> int:
        asked = {"model": self.model, "messages": [{"role": "user", "content": "Hello?"}]}
        return self.get("/v1/chat/completions", key, body=json.dumps(asked).encode())

    def sign_in(self) -> int:
        """As after a password: a ticket, and what the browser does with it."""
        ticket = sessions.issue_ticket(self.other.user_id)
        return self.get("/session", body=ticket.encode(), headers={"origin": self.app.url})

    def hear(self) -> tuple[int, str]:
        """The status of an event that Stripe signed, and the event's id."""
        event_id = f"evt_{new_id().hex}"
        event = {
            "id": event_id, "object": "event", "type": "plan.created", "created": int(time.time()),
            "livemode": False, "data": {"object": {"id": "plan_1", "object": "plan"}},
        }  # fmt: skip
        raw = json.dumps(event).encode()
        signed = {"stripe-signature": sender.sign(raw, (SECRET,))}
        return self.get("/stripe/webhook", body=raw, headers=signed), event_id

    def handle(self) -> bool:
        """An event is told of, and its job in the queue of money has run."""
        status, event_id = self.hear()
        state = "select state from app.stripe_events where event_id = :id"
        wait_for(lambda: value(state, id=event_id) == "ignored")
        return status == 200

    def read(self) -> bool:
        """What a page reads first, by the lane of pages."""
        with db.use_lane(db.Lane.WEB), db.transaction(self.other.who) as session:
            return conversations.listing(session, self.other.who) == []

    def lose_a_call(self) -> tuple[float, float]:
        """The seconds until a call whose process died is settled, and from then until pages show it."""
        lost = make_place()
        call = gate.open_call(
            standing.of_member(lost.who, self.model), Ask("api", "test", 100, max_tokens=100)
        )
        with db.transaction(TESTS) as session:
            session.execute(
                text("update app.calls set lease_until = now() where call_id = :id"),
                {"id": call.call_id},
            )
        began = time.monotonic()
        state = "select state from app.calls where call_id = :id"
        summed = "select 1 from app.usage_daily where tenant_id = :t"
        wait_for(lambda: value(state, id=call.call_id) == "settled")
        settled = time.monotonic()
        wait_for(lambda: value(summed, t=lost.tenant_id))
        return settled - began, time.monotonic() - settled


def value(query: str, **arguments: object) -> object:
    with db.transaction(TESTS) as session:
        return session.scalar(text(query), arguments)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


# Pages: their shell from the held process, and in this one a read through core by their lane.
KINDS: dict[str, Callable[[World], bool]] = {
    "call": lambda world: world.call(world.other_key) == 200,
    "api": lambda world: world.get("/api/quota", world.api_key) == 200,
    "models": lambda world: world.get("/v1/models", world.models_key) == 200,
    "ready": lambda world: world.get("/readyz") == 200,
    "sign-in": lambda world: world.sign_in() == 204,
    "webhook": lambda world: world.hear()[0] == 200,
    "money": lambda world: world.handle(),
    "shell": lambda world: world.get("/") == 200,
    "read": lambda world: world.read(),
}


def waits(world: World) -> dict[str, list[float]]:
    """How long each kind of work of the other tenant takes, one after the other, in turns."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    world.api_key, world.models_key = key_of(world.other), key_of(world.other)  # each has its rate
    for _ in range(PROBES):
        for kind, ask in KINDS.items():
            began = time.monotonic()
            assert ask(world), kind
            found[kind].append(time.monotonic() - began)
    return found


def p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


@contextmanager
def repeated(ask: Callable[[], int], threads: int) -> Iterator[list[int]]:
    """`ask` again and again, in so many threads, until the block ends; what was answered."""
    ending, statuses = threading.Event(), []

    def run() -> None:
        while not ending.is_set():
            statuses.append(ask())

    with ThreadPoolExecutor(threads) as pool:
        try:
            for _ in range(threads):
                pool.submit(run)
            yield statuses
        finally:
            ending.set()


@contextmanager
def locked(statement: str, **arguments: object) -> Iterator[None]:
    with db.transaction(TESTS) as session:
        session.execute(text("set local idle_in_transaction_session_timeout = 0"))
        session.execute(text(statement), arguments)
        yield


@contextmanager
def a_locked_account(world: World) -> Iterator[None]:
    lock = "select 1 from app.accounts where tenant_id = :t for update"
    with (
        locked(lock, t=world.held.tenant_id),
        repeated(lambda: world.call(world.held_key), HELD_BY_ONE) as statuses,
    ):
        time.sleep(1)
        yield
    assert statuses and set(statuses) <= {200, 503}


@contextmanager
def slow_questions(world: World) -> Iterator[None]:
    """Forty questions of one tenant at once, each waiting for a month that somebody rebuilds."""
    month = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    with db.transaction(TESTS) as session:
        partition = session.execute(
            text(
                "select inhrelid::regclass::text from pg_inherits"
                " where inhparent = 'app.usage_events'::regclass"
                " and pg_get_expr((select relpartbound from pg_class where oid = inhrelid),"
                "   inhrelid) like :from_month"
            ),
            {"from_month": f"%FROM ('{month}-01%"},
        ).scalar_one()
    path = f"/api/usage/details?from={month}-02&to={month}-20"
    with (
        psycopg.connect(world.database_url) as owner,
        repeated(lambda: world.get(path, world.held_key), HELD_BY_ONE) as statuses,
    ):
        owner.execute(f"lock table {partition} in access exclusive mode")
        time.sleep(1)
        yield
    assert 503 in statuses, statuses  # it was held, and told so


@contextmanager
def a_silent_provider(world: World) -> Iterator[None]:
    world.upstream.play_until(TRANSCRIPT, 4, "silence", fresh_ids=True)
    silent = [Stream(world.app, world.held_key, world.model) for _ in range(HELD_BY_ONE)]
    for stream in silent:
        stream.start()
    for stream in silent:
        assert stream.begun.wait(30)
    world.upstream.play(TRANSCRIPT, fresh_ids=True)
    yield
    for stream in silent:
        stream.leave()


@contextmanager
def a_stopped_worker(world: World) -> Iterator[None]:
    """A worker of another process that the system stopped in the middle of its work."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "core", "worker"], cwd=ROOT, env=world.app.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(4)
        assert worker.poll() is None
        os.kill(worker.pid, signal.SIGSTOP)
        yield
    finally:
        worker.kill()
        worker.wait(10)


@contextmanager
def long_jobs(world: World) -> Iterator[None]:
    """Excel files of many rows, more of them than their process can build meanwhile."""
    long_ago = datetime.now(UTC) - timedelta(days=40)
    with psycopg.connect(world.database_url) as owner:
        owner.execute(
            "insert into app.audit_log(occurred_at, actor, of_tenant, action, object, outcome, after)"
            " select %s, 'system:tests', %s, 'test', 'row:' || n, 'done', jsonb_build_object('n', n)"
            " from generate_series(1, %s) as n",
            (long_ago, world.held.tenant_id, LONG_ROWS),
        )
    with db.transaction(TESTS) as session:
        for number in range(LONG_FILES):
            period = Period(long_ago.date() - timedelta(days=number), long_ago.date())
            stored_files.order(
                session, world.held.tenant_id, "audit", "xlsx", period,
                {"operators": False, "bom": False}, None, LONG_ROWS,
            )  # fmt: skip
    try:
        wait_for(lambda: value(_LONG, status="doing") == 2)
        yield
        assert value(_LONG, status="doing") == 2, "too few long jobs to hold anything"
    finally:
        with db.transaction(TESTS) as session:
            session.execute(text("set local search_path = jobs"))  # for the library's triggers
            session.execute(text(_FORGET))
        wait_for(lambda: value(_LONG, status="doing") == 0)


_OF_LONG = "from jobs.procrastinate_jobs where queue_name = 'long' and status::text ="
_LONG, _FORGET = f"select count(*) {_OF_LONG} :status", f"delete {_OF_LONG} 'todo'"
HOLDS = (a_locked_account, slow_questions, a_silent_provider, long_jobs, a_stopped_worker)


@pytest.fixture(scope="module")
def world(
    database: Database, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One process for all that is held, one after the other."""
    with Upstream() as upstream:
        upstream.play(TRANSCRIPT, fresh_ids=True)
        folder = tmp_path_factory.mktemp("bulkheads")
        stripe = StandIn(folder)
        app = AppProcess(
            folder,
            {
                "DATABASE_URL": database_url, "OPENROUTER_API_KEY": "test-key",
                "OPENROUTER_BASE_URL": upstream.url, "STRIPE_SECRET_KEY": KEY,
                "STRIPE_API_BASE": stripe.url, "STRIPE_WEBHOOK_SECRETS": SECRET,
            },
        )  # fmt: skip
        with app:
            made = World(app, upstream, database_url)
            waits(made)  # the first of each kind connects and imports
            yield made
        stripe.end()


@pytest.mark.parametrize("hold", HOLDS, ids=lambda hold: hold.__name__)
def test_no_kind_of_work_starves_another(
    hold: Callable[[World], Iterator[None]], world: World
) -> None:
    world.renew()
    idle = waits(world)
    # what was stopped may have been one of the jobs that come round
    late_s = RESCUED_S if hold.__name__ == "a_stopped_worker" else 0.0
    world.upstream.play(TRANSCRIPT, gap_s=0.8, fresh_ids=True)
    running = start(world, 6)
    world.upstream.play(TRANSCRIPT, fresh_ids=True)
    with ExitStack() as stack:
        stack.enter_context(hold(world))  # type: ignore[arg-type]
        for _attempt in range(2):  # others use this machine too
            with ThreadPoolExecutor(1) as beside:
                lost: Future[tuple[float, float]] = beside.submit(world.lose_a_call)
                held = waits(world)
            settled_s, summed_s = lost.result()
            slower = {
                kind: (round(p95(idle[kind]), 3), round(p95(held[kind]), 3))
                for kind in KINDS
                if p95(held[kind]) > max(2 * p95(idle[kind]), FLOOR_S)
            }
            if not slower:
                break
        assert not slower, slower
        assert settled_s <= REAPED_S + late_s
        assert summed_s <= SUMMED_S + late_s
        assert max(held["ready"]) <= READY_S
    for stream in running:
        stream.join(60)
    assert all(stream.is_done for stream in running), [stream.text[-200:] for stream in running]
    assert {call.outcome for call in calls_of(world.other)} == {"ok"}


def start(world: World, count: int) -> list[Stream]:
    """Answers of the other tenant that run while the rest is held."""
    streams = [Stream(world.app, world.other_key, world.model) for _ in range(count)]
    for stream in streams:
        stream.start()
    for stream in streams:
        assert stream.begun.wait(30)
    return streams


def test_headers_without_an_end_and_strangers_bodies_stop_nobody(world: World) -> None:
    """On the real server: what no key vouches for is neither kept nor parsed."""
    world.renew()
    idle = waits(world)
    body = b'{"messages":[' + b"[]," * 2_000_000 + b"[]]}"
    with repeated(lambda: stranger(world, body), 4) as statuses:
        held = waits(world)
    assert set(statuses) <= {401, 0}
    for kind in KINDS:
        assert p95(held[kind]) <= max(3 * p95(idle[kind]), 2 * FLOOR_S), kind


def stranger(world: World, body: bytes) -> int:
    try:
        return world.get("/v1/chat/completions", "sk-purser-" + "x" * 40, body=body)
    except OSError:  # cut off while it was still sending
        return 0
