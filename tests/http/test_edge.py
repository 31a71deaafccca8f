"""The outermost layer: headers on every answer, one shape for refusals, foreign pages kept out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from core import settings
from core.http import edge, routes
from core.http.edge import Edge
from core.http.headers import SecurityHeaders
from tests.http.serving import PAGE, Client, Service, pages


@pytest.fixture
def browser(data_dir: Any) -> TestClient:
    app = Edge(pages, SecurityHeaders(PAGE, settings.current()))
    return TestClient(app, base_url="http://localhost:8501")


@pytest.mark.parametrize("path", ["/", "/admin", "/livez", "/v1/models", "/v1/none", "/readyz"])
def test_every_answer_carries_the_security_headers(browser: TestClient, path: str) -> None:
    headers = browser.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert len(headers["x-request-id"]) == 32
    assert "strict-transport-security" not in headers


def test_each_request_has_an_id_of_its_own(browser: TestClient) -> None:
    ids = {
        browser.get("/", headers={"x-request-id": "x"}).headers["x-request-id"] for _ in range(3)
    }
    assert len(ids) == 3


def test_pages_may_talk_to_their_own_host_only(browser: TestClient) -> None:
    policy = browser.get("/").headers["content-security-policy"]
    rules = {rule.split(" ")[0]: rule for rule in policy.split("; ")}
    connect = "connect-src 'self' ws://localhost:8501 wss://localhost:8501 data: blob:"
    assert rules["connect-src"] == connect
    digest = base64.b64encode(hashlib.sha256(b"window.ready = false").digest()).decode()
    assert f"'sha256-{digest}'" in rules["script-src"]
    assert "unsafe-inline" not in rules["script-src"]
    assert rules["img-src"] == "img-src 'self' data: blob:"


def test_a_forged_host_does_not_get_into_the_policy(browser: TestClient) -> None:
    forged = {"host": "a; script-src *"}
    policy = browser.get("/", headers=forged).headers["content-security-policy"]
    assert "connect-src 'self' data: blob:" in policy
    assert "*" not in policy


def test_https_is_remembered(data_dir: Any) -> None:
    app = Edge(pages, SecurityHeaders(PAGE, settings.current()))
    headers = TestClient(app, base_url="https://chat.example").get("/").headers
    assert headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.parametrize(
    "path", ["/_stcore/metrics", "/_stcore/agent/interact", "/_stcore/agent/openapi.json"]
)
def test_streamlits_own_side_doors_are_shut(browser: TestClient, path: str) -> None:
    assert browser.get(path).status_code == 404


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost", "http://localhost:8501@evil.example"],
)
def test_a_foreign_page_gets_no_socket_and_no_upload(browser: TestClient, origin: str) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        browser.websocket_connect(
            "/_stcore/stream", headers={"origin": origin, "host": "localhost:8501"}
        ),
    ):
        pass
    assert refused.value.code == 1008
    upload = browser.put("/_stcore/upload_file/a/b", content=b"x", headers={"origin": origin})
    assert upload.status_code == 403
    assert upload.json()["error"]["code"] == "forbidden"


def test_this_sites_page_gets_both(browser: TestClient) -> None:
    own = {"origin": "http://localhost:8501", "host": "localhost:8501"}
    with browser.websocket_connect("/_stcore/stream", headers=own):
        pass
    upload = browser.put("/_stcore/upload_file/a/b", content=b"x", headers=own)
    assert upload.status_code == 200


def test_the_configured_address_counts_as_this_site(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "10.0.0.7")
    settings.current.cache_clear()
    own = {"origin": settings.current().app_url, "host": "10.0.0.7:8501"}
    with browser.websocket_connect("/_stcore/stream", headers=own):
        pass


PATHS = [
    "/", "/usage", "/livez", "/readyz", "/metrics", "/v1/models", "/api/usage", "/session",
    "/stripe/webhook", "/_stcore/health", "/_stcore/host-config", "/_stcore/upload_file/a/b",
    "/media/x.png", "/static/x.js", "/nothing/there",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8501", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_no_path_answers_under_a_strangers_name(browser: TestClient, path: str, host: str) -> None:
    """A name of an attacker's that leads to this address (DNS rebinding) gets nothing."""
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        answer = browser.request(method, path, headers={"host": host})
        assert answer.status_code == 421
        assert answer.json()["error"]["code"] == "misdirected"


@pytest.mark.parametrize("path", ["/_stcore/stream", "/anything"])
def test_no_socket_opens_under_a_strangers_name(browser: TestClient, path: str) -> None:
    forged = {"host": "evil.example:8501", "origin": "http://evil.example:8501"}
    with (
        pytest.raises(WebSocketDisconnect),
        browser.websocket_connect(path, headers=forged),
    ):
        pass


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8501", "127.0.0.1:1", "[::1]:8501"])
def test_loopback_names_are_own_in_development(browser: TestClient, host: str) -> None:
    assert browser.get("/livez", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("chat.example", 200), ("Chat.Example:443", 200), ("10.0.0.7:8501", 200), ("[fd00::7]", 200),
     ("localhost", 421), ("127.0.0.1:8501", 421), ("www.chat.example", 421), ("chat.example.", 421)],
)  # fmt: skip
def test_production_answers_to_its_own_names(
    data_dir: Any, monkeypatch: pytest.MonkeyPatch, host: str, status: int
) -> None:
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("APP_URL", "https://chat.example")
    monkeypatch.setenv("ALLOWED_HOSTS", "10.0.0.7, [fd00::7]")
    monkeypatch.setenv("SECRET_KEY", "k3Jx9Qw2Zr7Tn5Vb8Mc1Lp6Hs4Gd0FyAe")
    settings.current.cache_clear()
    app = Edge(pages, SecurityHeaders(PAGE, settings.current()))
    assert TestClient(app).get("/livez", headers={"host": host}).status_code == status


def test_two_hosts_are_none(data_dir: Any) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = Edge(pages, SecurityHeaders(PAGE, settings.current()))
    headers = [(b"host", b"localhost"), (b"host", b"evil.example")]
    scope = {
        "type": "http", "method": "GET", "path": "/livez", "headers": headers, "query_string": b"",
    }  # fmt: skip
    asyncio.run(app(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 400


def test_an_upload_without_end_is_not_begun(browser: TestClient) -> None:
    def endless() -> Any:
        yield b"x"

    own = {"origin": "http://localhost:8501"}
    path = "/_stcore/upload_file/a/b"
    assert browser.put(path, content=endless(), headers=own).status_code == 411
    too_long = own | {"content-length": str(21 * 1024 * 1024)}
    assert browser.put(path, content=b"x", headers=too_long).status_code == 413


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/embeddings", "/v1/models/", "/v1/../v1/x"])
def test_a_route_that_is_not_there_says_so_in_our_shape(service: Service, path: str) -> None:
    response = httpx2.get(service.url + path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("route", routes.ROUTES, ids=lambda route: route.path)
def test_a_wrong_method_says_which_are_right(service: Service, route: routes.Route) -> None:
    path = route.path.replace("{id}", "a/b")
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - set(route.methods):
        response = httpx2.request(method, service.url + path)
        assert response.status_code == 405
        assert all(right in response.json()["error"]["message"] for right in route.methods)


def test_what_breaks_is_answered_and_logged_without_its_text(
    service: Service, client: Client, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, dict[str, object]]] = []

    class Log:
        def exception(self, event: str, **fields: object) -> None:
            seen.append((event, fields))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("canary-of-content")

    monkeypatch.setattr(edge, "log", Log())
    monkeypatch.setattr("core.http.asks.read", broken)
    response = service.ask(client.key, model)
    assert response.status_code == 500
    error = response.json()["error"]
    assert error["code"] == "internal_error"
    assert error["request_id"] == response.headers["x-request-id"]
    assert "canary" not in response.text
    assert seen == [("http.failed", {"path": "/v1/chat/completions", "method": "POST"})]


def test_what_breaks_in_mid_answer_is_not_begun_again(data_dir: Any) -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = Edge(half, SecurityHeaders(PAGE, settings.current()))
    host = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": host, "query_string": b""}
    asyncio.run(app(scope, None, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["http.response.start"]
