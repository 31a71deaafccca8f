"""Over a raw socket: headers without an end, half-sent ones, slow bodies, clients that take nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
import pytest

from core.http import connections
from tests.http.serving import Client, Service, question

START = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n"


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as made:
        yield made


def sent_until_cut(made: socket.socket, piece: bytes, times: int) -> int:
    """How many bytes could be sent before the server cut the connection."""
    sent = 0
    try:
        for _ in range(times):
            made.sendall(piece)
            sent += len(piece)
    except OSError:
        return sent
    return sent


def seconds_until_closed(made: socket.socket) -> float:
    began = time.monotonic()
    try:
        while made.recv(65_536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


def test_a_header_without_an_end_is_cut_early(service: Service) -> None:
    with connected(service) as made:
        made.sendall(START + b"x-endless: ")
        assert sent_until_cut(made, b"x" * 65_536, 1_440) < 16_000_000


def test_headers_without_an_end_and_a_path_without_one_are_cut_early(service: Service) -> None:
    for begin, piece in ((START, b"x-more: 1\r\n" * 6_000), (b"GET /", b"x" * 65_536)):
        with connected(service) as made:
            made.sendall(begin)
            assert sent_until_cut(made, piece, 1_440) < 16_000_000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"x-large: " + b"x" * 20_000 + b"\r\n", 200),
        (b"x-large: " + b"x" * 40_000 + b"\r\n", 431),
        (b"x-many: 1\r\n" * 80, 200),
        (b"x-many: 1\r\n" * 200, 431),
        (b"no header\r\n", 400),
    ],
)
def test_headers_are_bounded_also_where_they_end(
    service: Service, headers: bytes, status: int
) -> None:
    with connected(service) as made:
        made.sendall(START + headers + b"connection: close\r\n\r\n")
        assert int(made.recv(65_536).split(b" ")[1]) == status


@pytest.mark.parametrize("begin", [b"", START, b"\r\n", b"GET"])
def test_headers_that_do_not_come_to_an_end_are_not_waited_for(
    service: Service, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.6)
    with connected(service) as made:
        made.sendall(begin)
        assert seconds_until_closed(made) < 5


def test_a_byte_now_and_then_keeps_no_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.6)
    for piece in (b"x", b"\r\n"):
        with connected(service) as made:
            made.sendall(START if piece == b"x" else b"")
            began = time.monotonic()
            while time.monotonic() - began < 10 and sent_until_cut(made, piece, 1):
                time.sleep(0.1)
            assert time.monotonic() - began < 5


def test_the_second_request_of_a_connection_has_as_long_as_the_first(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.6)
    with connected(service) as made:
        for _ in range(3):
            made.sendall(START + b"\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += made.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.2)
        made.sendall(START)
        assert seconds_until_closed(made) < 5


def test_a_body_that_does_not_come_is_not_waited_for(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BODY_S", 0.6)
    with connected(service) as made:
        made.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99\r\n"
            + f"authorization: Bearer {client.key}\r\n\r\n{{".encode()
        )
        assert seconds_until_closed(made) < 5


def test_a_body_that_nobody_wants_is_taken_for_a_moment_only(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.6)
    with connected(service) as made:
        made.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-length: 900000000\r\n\r\n"
        )
        assert made.recv(4_096).startswith(b"HTTP/1.1 401")
        began = time.monotonic()
        while time.monotonic() - began < 10 and sent_until_cut(made, b"x" * 65_536, 1):
            time.sleep(0.01)
        assert time.monotonic() - began < 5


def test_a_client_that_takes_nothing_is_left(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TAKING_S", 0.6)
    ask = START.replace(b"livez", b"metrics") + b"\r\n"
    with connected(service) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        cut = False
        for _ in range(200):
            try:
                made.sendall(ask * 50)
            except (ConnectionError, TimeoutError):
                cut = True
                break
            time.sleep(0.02)
        assert cut


def test_an_answer_may_take_longer_than_headers_and_bodies(
    service: Service, client: Client, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEADERS_S", "BODY_S", "LINGER_S"):
        monkeypatch.setattr(connections, name, 0.5)
    service.up.play("01_normal_usage_cost.txt", gap_s=0.3, fresh_ids=True)
    assert service.stream(client.key, model).is_done


def test_a_websocket_outlives_the_deadlines(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.3)
    with connected(service) as made:
        made.sendall(
            b"GET /_stcore/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\n"
            b"connection: Upgrade\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert made.recv(4_096).startswith(b"HTTP/1.1 101")


def test_requests_that_are_well_made_are_answered(
    service: Service, client: Client, model: str
) -> None:
    with httpx2.Client(base_url=service.url, timeout=30) as http:
        for _ in range(3):
            assert http.get("/livez").status_code == 200
            answer = http.post(
                "/v1/chat/completions", json=question(model),
                headers={"authorization": f"Bearer {client.key}"},
            )  # fmt: skip
            assert answer.status_code == 200
