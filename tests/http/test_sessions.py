"""POST and DELETE /session: one ticket, one cookie, from this site's pages only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from core import settings
from core.identity import cookies, sessions
from core.identity.cookies import SESSION as COOKIE
from pages.widgets import session as page_session
from tests.factories import make_place
from tests.http.serving import Service


def post(service: Service, body: str | bytes, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{service.url}/session", content=body, headers={"origin": service.url} | headers
    )


def a_ticket() -> str:
    return sessions.issue_ticket(make_place().user_id)


def test_a_ticket_becomes_a_cookie_no_script_can_read(service: Service) -> None:
    opened = post(service, a_ticket())
    assert opened.status_code == 204
    assert opened.headers["cache-control"] == "no-store"
    cookie = opened.headers["set-cookie"].lower()
    for wanted in ("httponly", "samesite=lax", "path=/", f"max-age={sessions.SESSION_S}"):
        assert wanted in cookie
    assert "secure" not in cookie  # plain http, as in development
    assert sessions.who(opened.cookies[COOKIE]) is not None


def test_a_ticket_is_good_once(service: Service) -> None:
    ticket = a_ticket()
    assert post(service, ticket).status_code == 204
    again = post(service, ticket)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers


@pytest.mark.parametrize("body", ["", "x", "é" * 40, "y" * 43, b"\xff\x00\xff"])
def test_what_is_no_ticket_opens_nothing(service: Service, body: Any) -> None:
    assert post(service, body).status_code == 401


def test_a_long_body_is_not_read(service: Service) -> None:
    assert post(service, "x" * 201).status_code == 413


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", ""])
def test_a_foreign_page_cannot_sign_anybody_in_or_out(service: Service, origin: str) -> None:
    ticket = a_ticket()
    assert post(service, ticket, origin=origin).status_code == 403
    token = post(service, ticket).cookies[COOKIE]
    headers = {"origin": origin, "cookie": f"{COOKIE}={token}"}
    assert httpx2.delete(f"{service.url}/session", headers=headers).status_code == 403
    assert sessions.who(token) is not None


def test_signing_out_ends_the_session_at_once(service: Service) -> None:
    token = post(service, a_ticket()).cookies[COOKIE]
    headers = {"origin": service.url, "cookie": f"{COOKIE}={token}"}
    ended = httpx2.delete(f"{service.url}/session", headers=headers)
    assert ended.status_code == 204
    assert "max-age=0" in ended.headers["set-cookie"].lower()
    assert sessions.who(token) is None
    assert httpx2.delete(f"{service.url}/session", headers=headers).status_code == 204


def test_the_pages_read_the_same_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = SimpleNamespace(cookies={COOKIE: "a token", cookies.KNOWN: "a mark"})
    monkeypatch.setattr(page_session.st, "context", sent)
    assert (page_session.token(), page_session.known_browser()) == ("a token", "a mark")


def test_a_sign_in_leaves_a_mark_by_which_the_browser_is_known(service: Service) -> None:
    opened = post(service, a_ticket())
    who = sessions.who(opened.cookies[COOKIE])
    assert who is not None
    mark = opened.cookies[cookies.KNOWN]
    assert cookies.known(mark, who.who.email)
    assert cookies.known(mark, "somebody@example.com") is None
    (line,) = [v for v in opened.headers.get_list("set-cookie") if v.startswith(cookies.KNOWN)]
    assert f"Max-Age={cookies.KNOWN_S}" in line
    assert "HttpOnly" in line
    gone = httpx2.delete(f"{service.url}/session", headers={"origin": service.url})
    assert cookies.KNOWN not in str(gone.headers.get_list("set-cookie"))


def test_on_https_no_other_host_can_have_set_the_cookies(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_URL", "https://localhost")
    settings.current.cache_clear()
    opened = httpx2.post(
        f"{service.url}/session", content=a_ticket(), headers={"origin": "https://localhost"}
    )
    assert opened.status_code == 204
    lines = opened.headers.get_list("set-cookie")
    assert {line.partition("=")[0] for line in lines} == {
        "__Host-purser_session", "__Host-purser_known"
    }  # fmt: skip
    for line in lines:
        assert "Secure" in line
        assert "Path=/" in line
        assert "domain" not in line.lower()
    token = lines[0].partition("=")[2].partition(";")[0]
    headers = {"origin": "https://localhost", "cookie": f"{COOKIE}={token}"}
    httpx2.delete(f"{service.url}/session", headers=headers)
    assert sessions.who(token) is not None  # a plain name is not ours there
    headers["cookie"] = f"__Host-{COOKIE}={token}"
    httpx2.delete(f"{service.url}/session", headers=headers)
    assert sessions.who(token) is None
