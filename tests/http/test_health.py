"""The probes: alive without a database, ready only when calls can be charged and recorded."""

from __future__ import annotations

import httpx2
import pytest
from starlette.testclient import TestClient

from core import errors, settings
from core.http import health
from core.http.edge import Edge
from core.http.headers import SecurityHeaders
from tests.http.serving import PAGE, Client, Service, pages


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
    def away(_who: object) -> object:
        raise errors.Unavailable("away")

    monkeypatch.setattr(health.db, "transaction", away)
    ready = httpx2.get(f"{service.url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"] == "failed"
    assert httpx2.get(f"{service.url}/livez").status_code == 200


def test_a_database_of_another_version_is_not_ready(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.schema, "head", lambda: "9999")
    ready = httpx2.get(f"{service.url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"] == {
        "engine": "ok", "database": "ok", "migrations": "failed", "keyring": "ok"
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
    [("127.0.0.1", 200), ("10.1.2.3", 200), ("::1", 200), ("::ffff:10.0.0.1", 200),
     ("93.184.216.34", 404), ("::ffff:93.184.216.34", 404), ("testclient", 404), ("", 404)],
)  # fmt: skip
def test_metrics_are_for_the_house_only(service: Service, host: str, status: int) -> None:
    app = Edge(pages, SecurityHeaders(PAGE, settings.current()))
    assert TestClient(app, client=(host, 1)).get("/metrics").status_code == status
