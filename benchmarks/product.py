"""How the benchmark reaches the product: prepare a tenant, start it, call its two statements.

Everything else here measures; only this file knows the product's commands and verbs.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks import fakes, processes
from benchmarks.admission import Calls
from benchmarks.tabs import ChatVisit
from core import db, errors, schema, settings
from core.billing import ledger
from core.catalog import registry, sync
from core.chat import conversations
from core.chat.tables import Conversation, Message
from core.db import Database, System, counted, new_id
from core.identity import access, keys, limits, members, sessions, tenants
from core.identity.access import Principal, Role
from core.identity.cookies import SESSION as COOKIE
from core.identity.tables import User
from core.metering import rollups
from core.quota import gate, standing
from core.quota.costs import Cost
from core.quota.gate import Ask, OpenCall

BENCHMARK = System("benchmark")
_TENANTS = 100
_CREDIT_NUSD = 1_000_000 * 10**9
_MESSAGES = 30
_SENTENCE = "A sentence of a usual length, so that a page has something to draw. "


@dataclass(frozen=True, slots=True)
class Setup:
    """A prepared database: an unlimited tenant with credit, the fake models, one API key."""

    dsn: str
    upstream_url: str
    key: str


@dataclass(frozen=True, slots=True)
class Command:
    """How to start the product on a port: `environment` is added to that of this process."""

    argv: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Product:
    """The running product; `started_s` is from process start to its first served completion."""

    server: processes.Server
    started_s: float


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """What one streaming call does to the database before its first token."""

    statements: int
    commits: int


@contextmanager
def start_product(setup: Setup) -> Iterator[Product]:
    """The product on a free port, from its first served completion until the block ends."""
    port = processes.free_port()
    command = launch_command(setup, port)
    begin = time.perf_counter()
    with processes.spawned(command.argv, command.environment) as process:
        url = f"http://127.0.0.1:{port}/v1"
        server = processes.Server("product", url, setup.key, process.pid)
        processes.wait_until_served(process, server, fakes.SHORT_MODEL)
        yield Product(server, time.perf_counter() - begin)


def prepare_product(dsn: str, upstream_url: str) -> Setup:
    """Bring an empty database to head, take over the upstream's models, make tenants and a key.

    The tenants have no rate limits and far more credit than a run can spend; the first holds the
    key and a conversation of 30 messages.
    """
    database = _connect(dsn)
    with urllib.request.urlopen(f"{upstream_url}/models", timeout=10) as response:
        rows = json.loads(response.read())["data"]
    with database.transaction(BENCHMARK) as session:
        sync.apply(session, registry.OPENROUTER, rows, source="benchmark", now=datetime.now(UTC))
        people = [_open_tenant(session, number) for number in range(_TENANTS)]
        session.flush()
        key = keys.issue(
            session, BENCHMARK, "benchmark", tenant_id=people[0][0], user_id=people[0][1]
        )
        _write_conversation(session, *people[0])
    return Setup(dsn, upstream_url, key.secret)


def migrate(dsn: str) -> None:
    """Give an empty database the product's tables and verbs, and nothing else."""
    schema.migrate(dsn)


def launch_command(setup: Setup, port: int) -> Command:
    """The product in one process on this port, with the database and upstream of `setup`."""
    return Command(
        (sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)),
        {
            "APP_ENV": "development",
            "APP_URL": f"http://127.0.0.1:{port}",
            "DATABASE_URL": setup.dsn,
            "OPENROUTER_API_KEY": "benchmark",
            "OPENROUTER_BASE_URL": setup.upstream_url,
            "OPENROUTER_DEFAULT_MODEL": fakes.BROWSER_MODEL,
            "LOG_LEVEL": "WARNING",
        },
    )


def product_callables(dsn: str) -> Calls:
    """The gate's admission and settlement for the tenants of `prepare_product`, no provider."""
    database = _connect(dsn)
    people = _people(database)
    cost = Cost(Decimal("0.00001"), "provider", needs_lookup=False)
    ask = Ask("api", "benchmark", 20, 100)
    standings = [standing.of_member(who, fakes.SHORT_MODEL) for who in people]

    def admit(number: int) -> OpenCall:
        who = people[number % len(people)]
        asker = standing.of_member(who, fakes.SHORT_MODEL)
        return gate.open_call(asker, ask)

    def reserve(number: int) -> OpenCall:
        return gate.open_call(standings[number % len(standings)], ask)

    def settle(call: OpenCall) -> None:
        gate.close(gate.settlement(call, cost, outcome="ok", gave_output=True, latency_ms=1))

    return Calls(admit, settle, reserve, rollups.add_pending)


def count_round_trips(setup: Setup) -> RoundTrips:
    """Statements and commits the product sends for one streaming call before its first token."""
    database = _connect(setup.dsn)
    who = _people(database)[0]
    before = counted.statements
    gate.open_call(standing.of_member(who, fakes.SHORT_MODEL), Ask("api", "benchmark", 20, 100))
    statements = counted.statements - before
    return RoundTrips(statements, commits=1)  # resolve only reads; admit commits by itself


def chat_visit(product: Product) -> ChatVisit:
    """A signed-in visit to a conversation of 30 messages, `fakes.BROWSER_MODEL` being selected."""
    who = _people(db.current())[0]
    with db.transaction(who) as session:
        conversation = conversations.listing(session, who)[0]
    token = _signed_in(who.user_id)
    url = product.server.url.removesuffix("/v1")
    query = f"c={conversation.conversation_id}"
    return ChatVisit(url, "", query, f"{COOKIE}={token}")


def _connect(dsn: str) -> Database:
    """This process's own database, brought to head; made once per address."""
    os.environ["APP_ENV"] = "development"
    try:
        if (database := db.current()).url == dsn:
            return database
    except errors.Unavailable:
        pass
    schema.migrate(dsn)
    database = Database(settings.current(), dsn)
    db.install(database)
    return database


def _open_tenant(session: Session, number: int) -> tuple[UUID, UUID]:
    name = f"bench{number}"
    tenant_id = tenants.create_tenant(session, BENCHMARK, name, plan="enterprise")
    ledger.open_account(session, tenant_id, mode="prepaid")
    user_id = tenants.create_user(session, BENCHMARK, f"{name}@example.com", name=name)
    members.add(session, BENCHMARK, tenant_id, user_id, Role.ADMIN, confirmed=True)
    limits.set_limit(
        session, BENCHMARK, tenant_id, limits.Subject.TENANT, tenant_id,
        limits.LimitName.MONTHLY_NUSD, None,
    )  # fmt: skip
    ledger.grant(
        session, tenant_id, _CREDIT_NUSD, kind="manual", key="benchmark", actor="benchmark",
        reason="benchmark",
    )  # fmt: skip
    return tenant_id, user_id


def _write_conversation(session: Session, tenant_id: UUID, user_id: UUID) -> None:
    conversation_id, parent = new_id(), None
    session.add(
        Conversation(
            tenant_id=tenant_id, conversation_id=conversation_id, user_id=user_id,
            title="Thirty messages", model_id=fakes.BROWSER_MODEL,
        )
    )  # fmt: skip
    session.flush()
    for number in range(_MESSAGES):
        message = Message(
            tenant_id=tenant_id, conversation_id=conversation_id, message_id=new_id(),
            parent_id=parent, role="assistant" if number % 2 else "user",
            content=f"Message {number}: " + _SENTENCE * 5, model_id=fakes.BROWSER_MODEL,
        )  # fmt: skip
        session.add(message)
        session.flush()
        parent = message.message_id
    session.get_one(Conversation, (tenant_id, conversation_id)).leaf_id = parent


def _people(database: Database) -> list[Principal]:
    """The one person of each tenant, as the product knows them after signing in."""
    with database.transaction(BENCHMARK) as session:
        found = session.scalars(
            select(User.user_id).where(User.email.like("bench%")).order_by(User.user_id)
        ).all()
    signed_in = [sessions.who(_signed_in(user_id)) for user_id in found]
    return [access.require(one.principal if one else None) for one in signed_in]


def _signed_in(user_id: UUID) -> str | None:
    return sessions.redeem(sessions.issue_ticket(user_id, "benchmark"), None, None)
