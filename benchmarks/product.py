"""How the benchmark reaches the product: prepare a tenant, start it, call its two statements.

Everything else here measures; only this file knows the product's commands and verbs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import fakes, processes
from benchmarks.admission import Calls
from benchmarks.tabs import ChatVisit


class NotWiredError(RuntimeError):
    """The benchmark does not know yet how to do this with the product."""


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
    """Bring an empty database to head, take over the upstream's models, make tenant and key.

    The tenant has no rate limits and far more credit than a run can spend.
    """
    raise NotWiredError("prepare_product: migrations, models sync, tenant, credit and key")


def launch_command(setup: Setup, port: int) -> Command:
    """The product in one process on this port, with the database and upstream of `setup`."""
    raise NotWiredError("launch_command: argv and environment of the product")


def product_callables(dsn: str) -> Calls:
    """The gate's admission and settlement for the tenants of `prepare_product`, no provider."""
    raise NotWiredError("product_callables: the gate's open and close on this database")


def count_round_trips(setup: Setup) -> RoundTrips:
    """Statements and commits the product sends for one streaming call before its first token."""
    raise NotWiredError("count_round_trips: the product's own count per call")


def chat_visit(product: Product) -> ChatVisit:
    """A signed-in visit to a conversation of 30 messages, `fakes.BROWSER_MODEL` being selected."""
    raise NotWiredError("chat_visit: session cookie, page and conversation")
