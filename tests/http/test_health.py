"""The probes: alive without a database, ready only when calls can be charged and recorded."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Mapping

import httpx2
import pytest
from starlette.testclient import TestClient

from core import db, settings
from core.http import health, work
from core.http.edge import Edge
from core.http.headers import SecurityHeaders
from tests.http.serving import PAGE, Client, Service, pages

TOKEN = "k3Jx9Qw2Zr7Tn5Vb8Mc1Lp6Hs4Gd0FyAe"


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_last", health._Last())


def test_a_working_process_is_ready(service: Service) -> None:
    ready = httpx2.get(f"{service.url}/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["checks"].values()) == {"ok"}
    assert httpx2.get(f"{service.url}/livez").json() == {"status": "ok"}


def test_without_a_database_it_lives_but_is_not_ready(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db.current(), "jobs_url", "postgresql://nobody@127.0.0.1:1/none")
    ready = httpx2.get(f"{service.url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"] == "failed"
    assert httpx2.get(f"{service.url}/livez").status_code == 200


def test_a_database_that_does_not_answer_is_said_within_a_second(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(db.current(), "jobs_url", f"postgresql://nobody@127.0.0.1:{port}/none")
        for _ in range(2):  # the second finds the thread still stuck with the first
            health._last.at = 0.0
            began = time.monotonic()
            ready = httpx2.get(f"{service.url}/readyz")
            assert time.monotonic() - began < 1
            assert ready.json()["checks"]["database"] == "failed"


def test_readiness_waits_behind_no_other_work(service: Service) -> None:
    held = threading.Event()

    async def fill() -> None:
        for number in range(20):
            task = asyncio.ensure_future(work.run(number, held.wait, 10))
            task.add_done_callback(lambda done: done.exception())

    asyncio.run_coroutine_threadsafe(fill(), service.engine.loop).result(5)
    try:
        began = time.monotonic()
        assert httpx2.get(f"{service.url}/readyz").status_code == 200
        assert time.monotonic() - began < 1
    finally:
        held.set()


def test_a_database_of_another_version_is_not_ready(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.schema, "head", lambda: "9999")
    ready = httpx2.get(f"{service.url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"] == {
        "engine": "ok", "database": "ok", "migrations": "failed", "keyring": "ok",
        "clock": "ok",
    }  # fmt: skip


def test_a_draining_process_is_not_ready(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.engine, "draining", True)
    assert httpx2.get(f"{service.url}/readyz").json()["checks"]["engine"] == "failed"


def test_many_probes_ask_the_database_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    original = health._database
    monkeypatch.setattr(health, "_database", lambda: asked.append(1) or original())
    monkeypatch.setattr(health, "_ASK_AGAIN_AFTER_S", 60)
    for _ in range(5):
        assert httpx2.get(f"{service.url}/readyz").status_code == 200
    assert len(asked) == 1


def test_metrics_count_calls_and_name_nobody(service: Service, client: Client, model: str) -> None:
    service.ask(client.key, model, said="a-canary-text")
    shown = httpx2.get(f"{service.url}/metrics")
    assert shown.status_code == 200
    assert 'purser_calls_total{outcome="ok",source="api"}' in shown.text
    assert "canary" not in shown.text
    assert str(client.place.tenant_id) not in shown.text


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("10.1.2.3", 404),
     ("::ffff:10.0.0.1", 404), ("93.184.216.34", 404), ("testclient", 404), ("", 404)],
)  # fmt: skip
def test_metrics_without_a_token_are_for_this_machine(
    service: Service, host: str, status: int
) -> None:
    assert _metrics(host) == status


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "X-Forwarded-Host"]
)
def test_metrics_are_closed_through_a_proxy_of_this_machine(service: Service, header: str) -> None:
    """It would pass on what the world asks; whom it names does not matter."""
    assert _metrics("127.0.0.1", {header: "127.0.0.1"}) == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "93.184.216.34"])
@pytest.mark.parametrize(
    ("given", "status"),
    [(f"Bearer {TOKEN}", 200), (None, 404), ("Bearer ", 404), (f"Basic {TOKEN}", 404),
     (f"Bearer {TOKEN}x", 404), ("Bearer \xff", 404)],
)  # fmt: skip
def test_a_metrics_token_decides_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch, host: str, given: str | None, status: int
) -> None:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    settings.current.cache_clear()
    headers = {} if given is None else {"authorization": given.encode("latin1")}
    assert _metrics(host, headers) == status


def test_production_without_a_token_shows_no_metrics(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("SECRET_KEY", TOKEN)
    settings.current.cache_clear()
    assert _metrics("127.0.0.1") == 404


def _metrics(host: str, headers: Mapping[str, str | bytes] | None = None) -> int:
    app = Edge(pages, SecurityHeaders(PAGE, settings.current()))
    browser = TestClient(app, base_url="http://localhost", client=(host, 1))
    return browser.get("/metrics", headers=headers).status_code
