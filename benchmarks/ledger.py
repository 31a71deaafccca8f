"""The ledger's hot path alone: hold + capture pairs, driven by pgbench as its own TPC-B is.

Two ratios: pairs over 1,000 wallets to TPC-B on the same server, and pairs on one wallet to the pair
of plain updates of one row that any balance needs. Whom a call belongs to is made beforehand.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from benchmarks import admission
from benchmarks.quantiles import quantiles

TENANTS = 1_000
CLIENTS = 16
CALLS_PER_CLIENT_S = 1_500  # more pairs a second than any client was seen to do
SLOW_FLUSH_US = 2_000  # of a disk as servers have them: one wallet's commits follow each other
_HOLD_NUSD, _COST_NUSD = 2_130_000, 1_234_567
_RESULT = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_FAILED = re.compile(r"aborted|^ERROR|number of failed transactions: [1-9]", re.MULTILINE)
# Ids of twelve decimal digits, so that pgbench can count them: tenants from 1, calls by client.
_ID = "('00000000-0000-7000-8000-' || {})::uuid"
_TENANT_FROM, _CALL_FROM = 100_000_000_000, 200_000_000_000
_CALLS_OF_A_CLIENT, _CALLS_OF_A_RUN = 1_000_000_000, 1_000_000
_ANALYZE = "vacuum analyze app.calls, app.accounts, app.lots, app.holds, app.entries, app.lot_uses"

TENANTS_SQL = f"""
    insert into app.tenants(tenant_id, name, plan, mode, first_time_zone, markup, status, label_id)
      select {_ID.format(f"({_TENANT_FROM} + n)")}, 'bench ' || n, 'enterprise', 'prepaid', 'UTC', 0,
        'active', {_ID.format(f"({_TENANT_FROM} + n)")} from generate_series(0, {TENANTS}) n;
    insert into app.labels(tenant_id, label_id, subject_id, name)
      select tenant_id, label_id, tenant_id, name from app.tenants where name like 'bench %';
    insert into app.users(user_id, email, name, status)
      select tenant_id, replace(name, ' ', '') || '@example.com', name, 'active' from app.tenants
      where name like 'bench %';
    insert into app.memberships(tenant_id, user_id, role, label_id, status)
      select tenant_id, tenant_id, 'member', label_id, 'active' from app.tenants
      where name like 'bench %';
    select verbs.open_account(tenant_id, 0) from app.tenants where name like 'bench %';
    select verbs.grant_lot(tenant_id, gen_random_uuid(), 'purchase', 1000000000000000, 50, null, 'bench',
        'bench', 'bench', 'bench', 'bench') from app.tenants where name like 'bench %';
    create schema bench authorization app_owner;
    create table bench.plain(id int primary key, held bigint not null, posted bigint not null);
    alter table bench.plain owner to app_owner;
    insert into bench.plain values (1, 0, 1000000000000000);
"""
CALLS_SQL = f"""
    insert into app.calls(call_id, tenant_id, user_id, tenant_label_id, user_label_id, source, purpose,
        provider, model_requested, price_id, markup, prompt_tokens_guess, answer_tokens_max,
        tokens_held, hold_nusd, period, state, lease_token, lease_until, deadline_at)
      select {_ID.format("call")}, {_ID.format("tenant")}, {_ID.format("tenant")},
        {_ID.format("tenant")}, {_ID.format("tenant")}, 'api', 'bench', 'demo', 'bench', 1, 0, 1, 1, 1,
        {_HOLD_NUSD}, current_date, 'open', gen_random_uuid(), now(), now()
      from generate_series(0, {CLIENTS - 1}) client
      cross join generate_series(%(first)s::bigint, %(last)s::bigint) n
      cross join lateral (select {_CALL_FROM} + client * {_CALLS_OF_A_CLIENT}::bigint + n as call,
        {_TENANT_FROM} + case when %(hot)s then {TENANTS}
          else (client * 61 + n) %% {TENANTS} end as tenant) c
"""
_TENANT, _CALL = _ID.format(":tenant"), _ID.format(":call")
PAIR_SCRIPT = f"""
    \\set n :n + 1
    \\set call {_CALL_FROM} + :client_id * {_CALLS_OF_A_CLIENT} + :n
    \\set tenant {_TENANT_FROM} + {{tenant}}
    select verbs.reserve({_TENANT}, {_HOLD_NUSD}), verbs.hold({_TENANT}, {_CALL}, {_HOLD_NUSD});
    select verbs.capture({_TENANT}, {_CALL}, {_HOLD_NUSD}, {_COST_NUSD}, 'bench');
"""
PLAIN_SCRIPT = f"""
    update bench.plain set held = held + {_HOLD_NUSD} where id = 1 and posted - held >= {_HOLD_NUSD}
      returning held;
    update bench.plain set held = held - {_HOLD_NUSD}, posted = posted - {_COST_NUSD} where id = 1
      returning posted;
"""


class PairsFailed(RuntimeError):
    """pgbench reported a failed pair; a figure over failures means nothing."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One round: pairs per second, and what they are measured against on the same server. The last
    two are those of one row when a commit waits SLOW_FLUSH_US longer for its disk."""

    pairs_per_s: float
    hot_pairs_per_s: float
    tpcb_per_s: float
    plain_pairs_per_s: float
    slow_hot_pairs_per_s: float
    slow_plain_pairs_per_s: float


def prepare(dsn: str, pgbench: Path) -> None:
    """Make the tenants and their wallets in a database that has the product's tables and verbs, and
    book a first second on them, so that the planner knows its tables."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TENANTS_SQL)
    for hot in (False, True):
        _Run(dsn, pgbench, 1).pairs(int(hot), hot=hot)


def measure(dsn: str, tpcb_dsn: str, pgbench: Path, *, number: int, seconds: float) -> Ledger:
    """Round `number`, from 1, of everything, each for `seconds`."""
    run = _Run(dsn, pgbench, max(1, round(seconds)))
    slow = replace(run, flush_us=SLOW_FLUSH_US)
    return Ledger(
        pairs_per_s=run.pairs(3 * number, hot=False),
        tpcb_per_s=admission.pgbench_per_s(pgbench, tpcb_dsn, CLIENTS, seconds),
        hot_pairs_per_s=run.pairs(3 * number + 1, hot=True),
        plain_pairs_per_s=run.plain(),
        slow_hot_pairs_per_s=slow.pairs(3 * number + 2, hot=True),
        slow_plain_pairs_per_s=slow.plain(),
    )


def share_ms(calls: admission.Calls, seconds: float) -> float:
    """What one client waits for in a turn because of money: admission and settlement, median."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    for number in itertools.count():
        started = time.perf_counter()
        if started >= end:
            break
        calls.settle(calls.admit(number))
        times.append(time.perf_counter() - started)
    return quantiles(times, 1000).p50


@dataclass(frozen=True, slots=True)
class _Run:
    dsn: str
    pgbench: Path
    seconds: int
    flush_us: int = 0

    def pairs(self, number: int, *, hot: bool) -> float:
        """Pairs per second: on one wallet where `hot`, else over all of them in turn."""
        first = number * _CALLS_OF_A_RUN
        last = first + self.seconds * CALLS_PER_CLIENT_S
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(CALLS_SQL, {"first": first, "last": last, "hot": hot})
            connection.execute(_ANALYZE)
        tenant = f"{TENANTS}" if hot else f"(:client_id * 61 + :n) % {TENANTS}"
        return self._per_s(PAIR_SCRIPT.replace("{tenant}", tenant), f"n={first}")

    def plain(self) -> float:
        """The plain pair per second."""
        return self._per_s(PLAIN_SCRIPT, "n=0")

    def _per_s(self, script: str, variable: str) -> float:
        with _written(script) as file:
            command = [
                str(self.pgbench), "-n", "-c", str(CLIENTS), "-j", "2", "-T", str(self.seconds),
                "-f", str(file), "-D", variable, self.dsn,
            ]  # fmt: skip
            options = (
                f"-c commit_siblings=0 -c commit_delay={self.flush_us}"
                " -c role=app_owner -c search_path=app,verbs"
            )
            done = subprocess.run(
                command, check=False, capture_output=True, text=True,
                env=os.environ | {"PGOPTIONS": options},
            )  # fmt: skip
        found = _RESULT.search(done.stdout)
        if found is None or _FAILED.search(done.stdout + done.stderr):
            raise PairsFailed(done.stderr.strip()[-500:])
        return float(found[1])


@contextmanager
def _written(script: str) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        yield Path(file.name)
