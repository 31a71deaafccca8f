"""A million usage events as a CSV file: how fast beside Postgres' own COPY of the same rows, what the
serving process needs for it, and whether chats notice.

The ratio is taken in this process, both ways through the same driver; memory and first tokens are those
of the running product while it sends the file to a client.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta

import httpx2
import psycopg

from benchmarks import events, load
from benchmarks.events import Made, Size
from benchmarks.load import Plan, Slice, Target
from benchmarks.product import Product
from benchmarks.sampling import rss_mb
from core import db, settings
from core.db import Database, System
from core.finance import exports
from core.finance.datasets import catalogue
from core.finance.files import writing
from core.finance.files.copying import Progress
from core.identity import sessions, tenants
from core.identity.access import Operator
from core.identity.cookies import SESSION as COOKIE
from core.periods import Period, month_of

_BENCHMARK = System("benchmark")
# The same columns of the same rows, as they lie in the table.
_PLAIN = """
copy (select event_id, kind, adjusts_call_id, call_id, occurred_at, recorded_at, tenant_id,
  tenant_label_id, user_id, user_label_id, api_key_id, cost_center, project, source, purpose,
  conversation_id, provider, model_requested, model_served, prompt_tokens, cached_tokens,
  cache_write_tokens, completion_tokens, reasoning_tokens, billed_nusd, list_nusd,
  provider_cost_usd, cost_source, outcome, latency_ms, first_token_ms, generation_id
  from app.usage_events where tenant_id = '{tenant}' and occurred_at >= '{first}'
    and occurred_at < '{end}' order by occurred_at, event_id) to stdout (format csv, header)
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A month of events of one tenant, and the cookie of an operator who may have them."""

    made: Made
    period: Period
    operator: Operator
    cookie: str


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds for the whole file, for a COPY of the file's rows as they come out of its query (names
    joined, in order), and for one of the table's columns alone; how many rows and bytes that were."""

    ours_s: float
    copy_s: float
    table_s: float
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Served:
    """The running product: memory above idle while it sends the file, and first tokens of chats
    without and beside it."""

    above_idle_mb: float
    quiet: Slice
    busy: Slice
    sent: int


def prepare(dsn: str, rows: int) -> Prepared:
    """Put the events into the product's database, and an operator who may have them."""
    last = date.today().replace(day=1) - timedelta(days=1)  # noqa: DTZ011 - any closed month does
    made = events.make(dsn, Size(rows, months=1, tenants=1, people=50), last.replace(day=1))
    database = Database(settings.current(), dsn)
    db.install(database)
    with database.transaction(_BENCHMARK) as session:
        user_id = tenants.create_user(session, _BENCHMARK, "exporter@example.com", name="Exporter")
        tenants.make_operator(session, _BENCHMARK, user_id, confirmed=True)
    token = sessions.redeem(sessions.issue_ticket(user_id), "127.0.0.1", "benchmark")
    operator = Operator(user_id, "exporter@example.com", "Exporter")
    return Prepared(made, month_of(last), operator, str(token))


def speed(dsn: str, prepared: Prepared) -> Speed:
    """The file once, then each COPY once."""
    size, progress = 0, Progress()
    started = time.perf_counter()
    with db.transaction(prepared.operator) as session:
        found = catalogue.dataset(
            session, prepared.operator, "usage", prepared.period,
            tenant_id=prepared.made.tenant_id,
        )  # fmt: skip
        with closing(writing.write(session, found, "csv", progress, bom=False)) as blocks:
            size = sum(len(block) for block in blocks)
    ours_s = time.perf_counter() - started
    plain = _PLAIN.format(
        tenant=prepared.made.tenant_id, first=prepared.period.first,
        end=prepared.period.last + timedelta(days=1),
    )  # fmt: skip
    rows = f"copy ({found.query.sql}) to stdout (format csv, header)"
    return Speed(
        ours_s, _copy_s(dsn, rows, found.query.parameters), _copy_s(dsn, plain, None),
        progress.rows, size,
    )  # fmt: skip


def _copy_s(dsn: str, statement: str, parameters: Mapping[str, object] | None) -> float:
    started = time.perf_counter()
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        connection.execute("set role app_jobs")
        connection.execute("set work_mem = '256MB'; set max_parallel_workers_per_gather = 0")
        with cursor.copy(statement.encode(), parameters) as copied:
            for _ in copied:
                pass
    return time.perf_counter() - started


def serve(running: Product, prepared: Prepared, plan: Plan) -> Served:
    """Chats alone, then the same while the file is sent again and again."""
    server = running.server
    target = Target("product", server.url, server.key, (server.pid,))
    quiet = load.interleave([target], plan, 1)["product"][0]
    idle_mb = rss_mb([server.pid])
    stop = threading.Event()
    client = _Client(server.url.removesuffix("/v1"), prepared, stop)
    client.start()
    busy = load.interleave([target], plan, 1)["product"][0]
    stop.set()
    client.join()
    above = max(busy.rss_peak_mb, client.rss_peak_mb(server.pid)) - idle_mb
    return Served(above, quiet, busy, client.sent)


class _Client(threading.Thread):
    """Downloads an export of all tenants until it is stopped; such a file is read while it is sent."""

    def __init__(self, url: str, prepared: Prepared, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        with db.transaction(prepared.operator) as session:
            asked = exports.ask(
                session, prepared.operator, "usage", "csv", prepared.period, tenant_id=None
            )
        self._address = f"{url}/exports/{asked.export_id}"
        self._cookies, self._ended = {COOKIE: prepared.cookie}, stop
        self.sent = 0

    def run(self) -> None:
        while not self._ended.is_set():
            with httpx2.stream("GET", self._address, cookies=self._cookies, timeout=120) as answer:
                answer.raise_for_status()
                for block in answer.iter_bytes():
                    self.sent += len(block)
                    if self._ended.is_set():
                        return

    def rss_peak_mb(self, pid: int) -> float:
        """The memory of the product at the end."""
        return rss_mb([pid])
