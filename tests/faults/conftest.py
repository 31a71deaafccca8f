"""The product as a real process on the worker's database, with a scripted provider behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import db
from core.db import Database
from core.identity import keys
from tests.factories import TESTS, Place
from tests.processes import AppProcess
from tests.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as served:
        yield served


@pytest.fixture
def start_app(
    database: Database, database_url: str, upstream: Upstream, tmp_path: Path
) -> Iterator[Callable[..., AppProcess]]:
    """Starts app processes on the worker's database; ends them with the test."""
    started: list[AppProcess] = []

    def start(**environment: str) -> AppProcess:
        app = AppProcess(
            tmp_path,
            {
                "DATABASE_URL": database_url, "OPENROUTER_API_KEY": "test-key",
                "OPENROUTER_BASE_URL": upstream.url, **environment,
            },
        )  # fmt: skip
        started.append(app)
        app.start()
        return app

    yield start
    for app in started:
        if app.process is not None and app.process.poll() is None:
            app.kill()


def key_of(place: Place) -> str:
    """An API key of the place's person."""
    with db.transaction(TESTS) as session:
        issued = keys.issue(
            session, TESTS, "test", tenant_id=place.tenant_id, user_id=place.user_id
        )
    return issued.secret
