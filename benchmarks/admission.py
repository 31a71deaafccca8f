"""Admission and settlement straight against the database, as a ratio to TPC-B on the same server.

Two denominators. `tpcb_per_s` re-implements pgbench's schema and transaction in Python, driven
by psycopg from the same 16 threads of the same process as the product's two calls: both sides
then pay for the interpreter. `pgbench_per_s` is pgbench itself, a C client and so the harder
one, where the server's programs include it.
"""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from benchmarks import minimal_gateway as minimal
from benchmarks.quantiles import Quantiles, quantiles

SCALE = 10
TELLERS_PER_BRANCH = 10
ACCOUNTS_PER_BRANCH = 100_000
WARM_UP_CALLS = 50
_PGBENCH_RESULT = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)

TPCB_SCHEMA = f"""
    CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp,
        filler char(22));
    CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84))
        WITH (fillfactor = 100);
    CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84))
        WITH (fillfactor = 100);
    CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int, filler char(88))
        WITH (fillfactor = 100);
    INSERT INTO pgbench_branches SELECT b, 0, '' FROM generate_series(1, {SCALE}) b;
    INSERT INTO pgbench_tellers SELECT t, (t - 1) / {TELLERS_PER_BRANCH} + 1, 0, ''
        FROM generate_series(1, {SCALE * TELLERS_PER_BRANCH}) t;
    INSERT INTO pgbench_accounts SELECT a, (a - 1) / {ACCOUNTS_PER_BRANCH} + 1, 0, ''
        FROM generate_series(1, {SCALE * ACCOUNTS_PER_BRANCH}) a;
    ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid);
    ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid);
    ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid);
"""


@dataclass(frozen=True, slots=True)
class Calls:
    """What is measured. `admit(i)` opens call number `i` (a fresh number every time, so that it
    may pick tenant `i % tenants`) and returns what `settle` needs to close it; `reserve` is its
    second half where the first only reads who asks under which limits; `beside` is what a worker
    owes all these calls each second. All are called from many threads at once, and must each commit
    before they return."""

    admit: Callable[[int], Any]
    settle: Callable[[Any], None]
    reserve: Callable[[int], Any] | None = None
    beside: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """One round: admission in milliseconds with one client, and per second at `threads`."""

    admit_ms: Quantiles
    turns_per_s: float
    whole_turns_per_s: float
    tpcb_per_s: float
    pgbench_per_s: float | None


def measure(
    calls: Calls, tpcb_dsn: str, pgbench: Path | None, *, threads: int, seconds: float
) -> Admission:
    """One round of everything; `tpcb_dsn` must have been through `create_tpcb`."""
    return Admission(
        admit_ms=admit_ms(calls, seconds),
        turns_per_s=turns_per_s(calls.reserve or calls.admit, calls, threads, seconds),
        whole_turns_per_s=turns_per_s(calls.admit, calls, threads, seconds),
        tpcb_per_s=tpcb_per_s(tpcb_dsn, threads, seconds),
        pgbench_per_s=pgbench_per_s(pgbench, tpcb_dsn, threads, seconds) if pgbench else None,
    )


def admit_ms(calls: Calls, seconds: float) -> Quantiles:
    """How long one client waits for an admission; each is settled, outside the measured time."""
    for number in range(WARM_UP_CALLS):
        calls.settle(calls.admit(number))
    times: list[float] = []
    end = time.perf_counter() + seconds
    for number in itertools.count(WARM_UP_CALLS):
        started = time.perf_counter()
        if started >= end:
            break
        token = calls.admit(number)
        times.append(time.perf_counter() - started)
        calls.settle(token)
    return quantiles(times, 1000)


def turns_per_s(admit: Callable[[int], Any], calls: Calls, threads: int, seconds: float) -> float:
    """Admissions by `admit` with their settlements per second, over all threads."""
    numbers = itertools.count()  # next() is one atomic step in CPython

    def turn() -> None:
        calls.settle(admit(next(numbers)))

    with _each_second(calls.beside):
        return _per_s([turn] * threads, seconds)


@contextmanager
def _each_second(work: Callable[[], None] | None) -> Iterator[None]:
    """The work of others, done to the end once more when the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while work and not ended.wait(1):
            work()

    with ThreadPoolExecutor(1) as pool:
        repeated = pool.submit(repeat)
        try:
            yield
        finally:
            ended.set()
        repeated.result()
    if work:
        work()


@contextmanager
def minimal_calls(dsn: str, connections: int) -> Iterator[Calls]:
    """The minimal gateway's two transactions, from threads: the baseline for the product's."""
    minimal.create_tables(dsn)
    with ConnectionPool(dsn, min_size=connections, max_size=connections) as pool:
        pool.wait()

        def admit(number: int) -> minimal.Hold:
            account_id = number % minimal.ACCOUNTS + 1
            with pool.connection() as connection:
                amount = minimal.HOLD_NUSD
                connection.execute(minimal.HOLD, (amount, account_id, amount))
                opened = connection.execute(minimal.OPEN, (account_id, "fake", amount))
                return minimal.Hold(account_id, opened.fetchone()[0])  # type: ignore[index]

        def settle(hold: minimal.Hold) -> None:
            capture = (minimal.HOLD_NUSD, 0, 0, hold.account_id)
            with pool.connection() as connection:
                connection.execute(minimal.CAPTURE, capture)
                connection.execute(minimal.CLOSE, (0, 1, 1, None, hold.call_id))

        yield Calls(admit, settle)


def create_tpcb(dsn: str) -> None:
    """pgbench's tables at scale 10, filled as `pgbench -i` fills them, in an empty database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TPCB_SCHEMA)
        connection.execute("VACUUM ANALYZE")


def tpcb_per_s(dsn: str, threads: int, seconds: float) -> float:
    """TPC-B transactions per second from Python threads, a connection each."""
    connections = [psycopg.connect(dsn, autocommit=True) for _ in range(threads)]
    try:
        return _per_s([_tpcb(connection) for connection in connections], seconds)
    finally:
        for connection in connections:
            connection.close()


def pgbench_per_s(program: Path, dsn: str, clients: int, seconds: float) -> float:
    """The same transaction by pgbench's built-in script, over the tables of `create_tpcb`."""
    duration = str(max(1, round(seconds)))
    command = [str(program), "-n", "-c", str(clients), "-j", "2", "-T", duration, dsn]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = _PGBENCH_RESULT.search(done.stdout)
    if found is None:
        raise ValueError("pgbench printed no tps line")
    return float(found[1])


def _tpcb(connection: psycopg.Connection[Any]) -> Callable[[], None]:
    """pgbench's TPC-B(-like) transaction, statement by statement in its order."""
    execute = connection.execute
    source = random.Random()

    def transaction() -> None:
        aid = source.randint(1, SCALE * ACCOUNTS_PER_BRANCH)
        bid = source.randint(1, SCALE)
        tid = source.randint(1, SCALE * TELLERS_PER_BRANCH)
        delta = source.randint(-5000, 5000)
        change = "UPDATE pgbench_{0} SET {1}balance = {1}balance + %s WHERE {1}id = %s"
        execute("BEGIN")
        execute(change.format("accounts", "a"), (delta, aid))
        execute("SELECT abalance FROM pgbench_accounts WHERE aid = %s", (aid,)).fetchone()
        execute(change.format("tellers", "t"), (delta, tid))
        execute(change.format("branches", "b"), (delta, bid))
        execute(
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)"
            " VALUES (%s, %s, %s, %s, CURRENT_TIMESTAMP)",
            (tid, bid, aid, delta),
        )
        execute("COMMIT")

    return transaction


def _per_s(work: list[Callable[[], None]], seconds: float) -> float:
    """How often the callables were done per second, each repeated by a thread of its own; an
    error in any thread is raised here."""
    begin = time.perf_counter() + 0.1
    end = begin + seconds

    def repeat(call: Callable[[], None]) -> int:
        time.sleep(max(0.0, begin - time.perf_counter()))
        done = 0
        while time.perf_counter() < end:
            call()
            done += 1
        return done

    with ThreadPoolExecutor(len(work)) as pool:
        done = sum(pool.map(repeat, work))
    return done / (time.perf_counter() - begin)
