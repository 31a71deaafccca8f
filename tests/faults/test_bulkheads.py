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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from core import db
from core.db import Database
from tests.factories import TESTS, make_model, make_place
from tests.faults.conftest import key_of
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

    def get(self, path: str, key: str | None = None, *, body: bytes | None = None) -> int:
        """The status of one request."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        asked = urllib.request.Request(self.app.url + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=30) as response:
                response.read()
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def call(self, key: str) -> int:
        asked = {"model": self.model, "messages": [{"role": "user", "content": "Hello?"}]}
        return self.get("/v1/chat/completions", key, body=json.dumps(asked).encode())


KINDS: dict[str, Callable[[World], int]] = {
    "call": lambda world: world.call(world.other_key),
    "api": lambda world: world.get("/api/quota", world.api_key),
    "models": lambda world: world.get("/v1/models", world.models_key),
    "ready": lambda world: world.get("/readyz"),
}


def waits(world: World) -> dict[str, list[float]]:
    """How long each kind of work of the other tenant takes, one after the other, in turns."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    world.api_key, world.models_key = key_of(world.other), key_of(world.other)  # each has its rate
    for _ in range(PROBES):
        for kind, ask in KINDS.items():
            began = time.monotonic()
            assert ask(world) == 200, kind
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


HOLDS = (a_locked_account, slow_questions, a_silent_provider, a_stopped_worker)


@pytest.fixture(scope="module")
def world(
    database: Database, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One process for all that is held, one after the other."""
    with Upstream() as upstream:
        upstream.play(TRANSCRIPT, fresh_ids=True)
        app = AppProcess(
            tmp_path_factory.mktemp("bulkheads"),
            {
                "DATABASE_URL": database_url, "OPENROUTER_API_KEY": "test-key",
                "OPENROUTER_BASE_URL": upstream.url,
            },
        )  # fmt: skip
        with app:
            yield World(app, upstream, database_url)


@pytest.mark.parametrize("hold", HOLDS, ids=lambda hold: hold.__name__)
def test_no_kind_of_work_starves_another(
    hold: Callable[[World], Iterator[None]], world: World
) -> None:
    world.renew()
    waits(world)  # the first of each kind connects and imports
    idle = waits(world)
    world.upstream.play(TRANSCRIPT, gap_s=0.8, fresh_ids=True)
    running = start(world, 6)
    world.upstream.play(TRANSCRIPT, fresh_ids=True)
    with ExitStack() as stack:
        stack.enter_context(hold(world))  # type: ignore[arg-type]
        for _attempt in range(2):  # others use this machine too
            held = waits(world)
            slower = {
                kind: (round(p95(idle[kind]), 3), round(p95(held[kind]), 3))
                for kind in KINDS
                if p95(held[kind]) > max(2 * p95(idle[kind]), FLOOR_S)
            }
            if not slower:
                break
        assert not slower, slower
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
    waits(world)
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
