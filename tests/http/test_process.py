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
from core.db import Database
from core.http import process
from tests.factories import TESTS
from tests.processes import AppProcess


@pytest.fixture
def _own_process(database: Database) -> Iterator[None]:
    """Give this worker its database back, whatever the test installed."""
    yield
    db.install(database)


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


def test_a_running_answer_is_cut_and_settled_when_the_server_is_told_to_end(
    served: AppProcess,
) -> None:
    made = served.command("tenant", "create", "Drained", "--credits", "5", "--json")
    tenant = httpx2.Response(200, content=made.stdout).json()["id"]
    person = ("--tenant", tenant, "--email", "drained@example.com", "--role", "member")
    served.command("user", "create", *person, "--json")
    key = served.command(
        "key",
        "create",
        "--tenant",
        tenant,
        "--user",
        "drained@example.com",
        "--name",
        "k",
        "--json",
    )
    secret = httpx2.Response(200, content=key.stdout).json()["key"]
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
