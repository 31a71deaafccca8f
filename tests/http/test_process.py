"""A web process from its first to its last second, and the whole application behind one socket."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from core import db, errors, schema, settings
from core.chat import engine
from core.db import Database, DatabaseRefused
from core.demonstration import script
from core.http import process
from core.identity import keys
from tests.factories import TESTS
from tests.processes import AppProcess


@pytest.fixture
def _own_process(database: Database) -> Iterator[None]:
    """Give this worker its database and engine back, whatever the test installed."""
    before = engine._engine
    engine.install(None)
    yield
    db.install(database)
    engine.install(before)


@pytest.mark.usefixtures("_own_process")
def test_a_first_start_brings_everything_and_the_end_takes_it_back(
    fresh_database_url: Callable[[str], str], worker_id: str, data_dir: Path
) -> None:
    url = fresh_database_url(f"process_{worker_id}")
    configured = settings.load().model_copy(
        update={"database_url": SecretStr(url), "run_worker": True}
    )

    async def live() -> tuple[int, bool]:
        async with process.running(configured) as running:
            with db.transaction(TESTS) as session:
                models = session.scalar(text("select count(*) from app.models")) or 0
                at_head = schema.at_head(session.connection())
            assert engine.current() is running
            assert running.providers.keys() == {"demo"}
            found = await running.providers["demo"].models()
            assert {row["id"] for row in found} >= {"demo/purser"}
            return models, at_head

    models, at_head = asyncio.run(live())
    assert models > 40
    assert at_head
    with pytest.raises(errors.Unavailable):
        engine.current()


def test_a_database_that_does_not_answer_is_said_in_a_sentence(data_dir: Path) -> None:
    away = SecretStr("postgresql://canary:secret@127.0.0.1:1/app")
    configured = settings.load().model_copy(update={"database_url": away})

    async def live() -> None:
        async with process.running(configured):
            pass

    with pytest.raises(DatabaseRefused, match="DATABASE_URL") as refused:
        asyncio.run(live())
    assert "secret" not in str(refused.value)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    fresh_database_url: Callable[[str], str],
    worker_id: str,
) -> Iterator[AppProcess]:
    url = fresh_database_url(f"served_{worker_id}")
    folder = tmp_path_factory.mktemp("served")
    with AppProcess(folder, {"DATABASE_URL": url}) as process_:
        yield process_


def test_a_deep_link_on_a_fresh_server_is_the_app_and_the_api_is_not(served: AppProcess) -> None:
    page = httpx2.get(f"{served.url}/admin")
    assert page.status_code == 200
    assert "sha256-" in page.headers["content-security-policy"]
    assert page.headers["x-request-id"]
    missing = httpx2.get(f"{served.url}/v1/nothing")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "not_found"
    assert httpx2.get(f"{served.url}/_stcore/metrics").status_code == 404
    assert httpx2.get(f"{served.url}/_stcore/health").status_code == 200


def test_a_foreign_page_gets_no_socket_of_the_real_server(served: AppProcess) -> None:
    handshake = {
        "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    path = f"{served.url}/_stcore/stream"
    refused = httpx2.get(path, headers=handshake | {"origin": "https://evil.example"})
    assert refused.status_code == 403


def demo_key(url: str) -> str:
    """A key of the demo person, made in the served process's database."""
    own = Database(settings.current(), url)
    try:
        with own.transaction(TESTS) as session:
            person = session.execute(
                text(
                    "select m.tenant_id, m.user_id from app.memberships m"
                    " join app.users u using (user_id) where u.email = :email limit 1"
                ),
                {"email": script.DEMO_EMAIL},
            ).one()
            issued = keys.issue(
                session, TESTS, "drain", tenant_id=person.tenant_id, user_id=person.user_id
            )
            return issued.secret
    finally:
        own.close()


def test_a_running_answer_is_cut_and_settled_when_the_server_is_told_to_end(
    served: AppProcess,
) -> None:
    secret = demo_key(served.environment["DATABASE_URL"])
    lines: list[str] = []

    def listen() -> None:
        body = {
            "model": "demo/purser", "stream": True,
            "messages": [{"role": "user", "content": "[[long 5000]]"}],
        }  # fmt: skip
        with httpx2.stream(
            "POST", f"{served.url}/v1/chat/completions", json=body, timeout=60,
            headers={"authorization": f"Bearer {secret}"},
        ) as response:  # fmt: skip
            lines.extend(response.iter_lines())

    listening = threading.Thread(target=listen)
    listening.start()
    time.sleep(1.5)
    took_s = served.stop()
    listening.join(20)
    said = [line for line in lines if line]
    assert '"code":"unavailable"' in said[-1]
    assert '"cost":0.0' in said[-2]
    assert took_s < process.DRAIN_S + 8
    checked = served.command("check")
    assert checked.returncode == 0, checked.stdout
