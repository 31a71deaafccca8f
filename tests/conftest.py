"""One embedded Postgres for the whole run, one freshly migrated database per worker, new tenants per
test (no cleaning: tests share a database as tenants do). Nothing here reaches the network."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

os.environ["APP_ENV"] = "development"
os.environ.pop("OPENROUTER_API_KEY", None)
os.environ.pop("OPENROUTER_MANAGEMENT_KEY", None)

import hypothesis
import psycopg
import pytest
from psycopg import sql
from sqlalchemy.orm import Session

from core import db, lanes, postgres, schema, settings
from core.db import Database, Lane, System

TESTS = System("tests")
hypothesis.settings.register_profile("purser", deadline=None, print_blob=True)
hypothesis.settings.load_profile("purser")
ROOT = Path(__file__).parent.parent
_HASTE = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "jit = off")
_YOUNG_OBJECTS = 100_000


def pytest_collection_finish() -> None:
    """What was imported and collected lives to the end: the collector need not go through it again
    and again, which took a fourth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """The address of the run's Postgres server (superuser). No test cuts the machine's power, so it
    need not wait for the disk."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "postgres"
    server = postgres.start(folder)
    with psycopg.connect(server.url, autocommit=True) as connection:
        for setting in _HASTE:
            connection.execute(f"alter system set {setting}".encode())
        connection.execute("select pg_reload_conf()")
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def fresh_database_url(server_url: str) -> Callable[[str], str]:
    """Makes an empty database of that name on the run's server and gives its address."""

    def make(name: str) -> str:
        with psycopg.connect(server_url, autocommit=True) as connection:
            identifier = sql.Identifier(name)
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(identifier)
            )
            connection.execute(sql.SQL("create database {}").format(identifier))
        return server_url.replace("/app?", f"/{name}?")

    return make


@pytest.fixture(scope="session")
def database_url(fresh_database_url: Callable[[str], str], worker_id: str, data_dir: Path) -> str:
    """This worker's migrated database (superuser login)."""
    url = fresh_database_url(f"purser_{worker_id}")
    schema.migrate(url)
    return url


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of this worker, set in the environment."""
    folder = tmp_path_factory.mktemp("data")
    os.environ["PURSER_DATA_DIR"] = str(folder)
    settings.current.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def _settings_of_the_environment() -> None:
    """Settings another test read under its own environment are forgotten."""
    settings.current.cache_clear()


@pytest.fixture(scope="session")
def database(database_url: str, data_dir: Path) -> Iterator[Database]:
    """The worker's database as the product uses it (roles taken on connect). A test's threads stand
    for many processes, so they have more connections between them."""
    many = replace(lanes.LIMITS[Lane.WEB], rw_max=24, jobs_max=24, tenant_max=20, lock_ms=8_000)
    made = Database(settings.current(), database_url, limits={**lanes.LIMITS, Lane.WEB: many})
    db.install(made)
    yield made
    made.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A transaction as the System, committed at the end of the test."""
    with database.transaction(TESTS) as opened:
        yield opened
