"""core/http/proxies.py: what proxies say is believed from the named ones alone"""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.responses import JSONResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from core import settings
from core.http import proxies
from core.http.edge import Edge
from core.http.headers import SecurityHeaders
from tests.http.serving import PAGE
from tests.processes import AppProcess


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the pages would hear of the connection."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"{scope['client']} {scope['scheme']}"})
        await send({"type": "websocket.close", "code": 1000})
        return
    client = scope["client"][0] if scope["client"] else None
    host = dict(scope["headers"])[b"host"].decode()
    await JSONResponse([client, scope["scheme"], host])(scope, receive, send)


@pytest.fixture(autouse=True)
def _environment(data_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::1")
    monkeypatch.setenv("ALLOWED_HOSTS", "chat.example")
    settings.current.cache_clear()


def heard(peer: str, **headers: str) -> list[str | None]:
    app = Edge(tell, SecurityHeaders(PAGE, settings.current()))
    browser = TestClient(app, base_url="http://localhost:8501", client=(peer, 5))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = browser.get("/_stcore/told", headers=sent)
    assert answer.status_code == 200
    found: list[str | None] = answer.json()
    return found


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "192.168.1.9", "93.184.216.34", "testclient"])
def test_nobody_but_a_named_proxy_is_believed(peer: str) -> None:
    told = heard(
        peer, x_forwarded_for="8.8.8.8", x_forwarded_proto="https", x_forwarded_host="chat.example"
    )
    assert told == [peer, "http", "localhost:8501"]


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"])
def test_a_named_proxy_says_client_scheme_and_host(peer: str) -> None:
    told = heard(
        peer, x_forwarded_for="8.8.8.8", x_forwarded_proto="https", x_forwarded_host="chat.example"
    )
    assert told == ["8.8.8.8", "https", "chat.example"]


@pytest.mark.parametrize(
    ("written", "client"),
    [("1.1.1.1, 8.8.8.8", "8.8.8.8"), ("8.8.8.8, 10.0.0.7", "8.8.8.8"), ("8.8.8.8:555", "8.8.8.8"),
     ("[2001:4860::8]:44", "2001:4860::8"), ("2001:4860::8", "2001:4860::8"), ("10.0.0.7", None),
     ("8.8.8.8, unknown", None), ("", None), ("x" * 9000, None)],
)  # fmt: skip
def test_the_client_is_the_last_who_is_no_proxy(written: str, client: str | None) -> None:
    assert heard("10.0.0.1", x_forwarded_for=written)[0] == client


def test_a_proxy_that_names_no_client_leaves_it_unknown() -> None:
    assert heard("10.0.0.1")[0] is None


@pytest.mark.parametrize("scheme", ["ftp", "HTTPS ", "wss", "javascript"])
def test_a_strange_scheme_changes_nothing(scheme: str) -> None:
    assert heard("10.0.0.1", x_forwarded_proto=scheme)[1] == "http"


def test_the_nearest_word_on_scheme_and_host_counts() -> None:
    told = heard("10.0.0.1", x_forwarded_proto="http, https",
                 x_forwarded_host="evil.example, chat.example")  # fmt: skip
    assert told[1:] == ["https", "chat.example"]


def test_a_socket_hears_the_same() -> None:
    app = Edge(tell, SecurityHeaders(PAGE, settings.current()))
    browser = TestClient(app, base_url="http://localhost:8501", client=("10.0.0.1", 5))
    said = {
        "host": "localhost", "x-forwarded-for": "8.8.8.8", "x-forwarded-proto": "https",
    }  # fmt: skip
    with browser.websocket_connect("/_stcore/stream", headers=said) as socket:
        assert socket.receive_text() == "('8.8.8.8', 0) wss"


def test_uvicorn_leaves_the_headers_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "uvicorn.config.ProxyHeadersMiddleware", uvicorn.config.ProxyHeadersMiddleware
    )
    proxies.leave_to_us()
    config = uvicorn.Config(tell, interface="asgi3", log_config=None)
    config.load()
    assert config.loaded_app is tell


@pytest.mark.faults
def test_the_real_server_believes_no_local_process(tmp_path: Any) -> None:
    """A forged scheme would show in what is said about transport."""
    with AppProcess(tmp_path, {"LOG_LEVEL": "INFO"}) as app:
        forged = {"x-forwarded-for": "8.8.8.8", "x-forwarded-proto": "https"}
        assert httpx2.get(f"{app.url}/metrics").status_code == 200
        answer = httpx2.get(f"{app.url}/livez", headers=forged)
        assert "strict-transport-security" not in answer.headers
        assert httpx2.get(f"{app.url}/livez", headers={"host": "evil.example"}).status_code == 421
        assert httpx2.get(f"{app.url}/metrics", headers=forged).status_code == 404
