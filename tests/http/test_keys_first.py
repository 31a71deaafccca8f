"""The key comes before the body, and what a body may hold is bounded before it is parsed."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx2
import pytest

from core import errors
from core.http import bodies, keys, sizes, work
from core.http.rates import Rates
from tests.http.serving import Client, Service, a_client, question, rows

BRACKETS = b'{"messages":[' + b"[]," * 6_600_000 + b"[]]}"
STRANGER = "sk-purser-" + "x" * 40


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", "host: 127.0.0.1", *headers, "", "")).encode()


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/chat/completions", (), 401),
        ("/v1/chat/completions", (f"authorization: Bearer {STRANGER}",), 401),
        ("/v1/chat/completions", ("authorization: Bearer rubbish",), 401),
        ("/session", (), 403),
    ],
)
def test_who_may_not_ask_is_answered_before_a_byte_of_the_body(
    service: Service, path: str, headers: tuple[str, ...], status: int
) -> None:
    with connected(service) as made:
        made.sendall(head(path, *headers, "content-length: 19000000"))
        assert int(made.recv(4_096).split(b" ")[1]) == status


@pytest.mark.parametrize("secret", [STRANGER, None])
def test_millions_of_brackets_stop_nobody(
    service: Service, client: Client, secret: str | None
) -> None:
    """Without a valid key they are not read; with one they are refused after the first of them."""
    place = urlsplit(service.url)
    sender = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    slowest = [0.0]

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            slowest[0] = max(slowest[0], time.monotonic() - began)

    watching = asyncio.run_coroutine_threadsafe(watch(), service.engine.loop)
    try:
        sender.request(
            "POST", "/v1/chat/completions", BRACKETS,
            {"authorization": f"Bearer {secret or client.key}"},
        )  # fmt: skip
        response = sender.getresponse()
        assert response.status == (401 if secret else 400)
        response.read()
    finally:
        watching.cancel()
        sender.close()
    assert slowest[0] < 1.0


@pytest.mark.parametrize(
    "body",
    [
        b'{"m":[' + b"0," * sizes.VALUES_MAX + b"0]}",
        b'{"m":[' + b'"",' * sizes.VALUES_MAX + b'""]}',
        b'{"m":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"m":' + b'{"a":' * 65 + b"1" + b"}" * 65 + b"}",
        b'{"m":' + b"9" * 5_000 + b"}",
        b'{"m":' + b"[]" * 400_000,
    ],
)
def test_more_values_depth_or_digits_than_are_read_are_refused(body: bytes) -> None:
    with pytest.raises(errors.BadInput):
        sizes.check(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"m":"' + b"[{," * 300_000 + b'"}',
        b'{"m":"' + b'\\"[' * 300_000 + b'","n":[1]}',
        b'{"m":"' + b"\\\\" * 70_000 + b'","n":"' + b"9" * 5_000 + b'"}',
        b'{"m":' + b"[" * 60 + b"]" * 60 + b"}",
        b'{"m":"never ends',
        b'"' + b"\\" * 131_073,
    ],
)
def test_what_stands_in_a_text_counts_for_nothing(body: bytes) -> None:
    sizes.check(body)


@pytest.mark.parametrize("piece", [b'\\"', b"\\n", b'"",', b" ", b"x", b"1 ", b"\\\\"])
def test_a_body_of_any_make_is_measured_in_linear_time(piece: bytes) -> None:
    def seconds(length: int) -> float:
        began = time.process_time()
        with suppress(errors.BadInput):
            sizes.check(b'{"m":"' + piece * (length // len(piece)))
        return time.process_time() - began

    assert seconds(4_000_000) < 12 * seconds(1_000_000) + 0.05


def test_bytes_in_flight_are_bounded_for_one_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "EACH_IN_FLIGHT_MAX", 100)
    monkeypatch.setattr(bodies, "IN_FLIGHT_MAX", 150)
    with bodies.in_flight("a") as mine, bodies.in_flight("a") as more, bodies.in_flight("b") as b:
        mine.add(60)
        with pytest.raises(errors.Busy) as busy:
            more.add(60)
        assert busy.value.retry_after_s
        b.add(60)
        with pytest.raises(errors.Busy):
            b.add(40)
    with bodies.in_flight("a") as again:
        again.add(100)


def test_a_key_with_too_much_in_flight_is_told_when_to_come_back(
    service: Service, client: Client, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "EACH_IN_FLIGHT_MAX", 1_000)
    told = service.ask(client.key, model, said="x" * 2_000)
    assert (told.status_code, told.headers["retry-after"]) == (503, "5")
    assert service.ask(client.key, model, said="x").status_code == 200
    assert bodies._in_flight.total() == 0


def test_a_known_key_is_looked_up_anew_after_some_seconds_and_never_acts_unresolved(
    service: Service, client: Client, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.ask(client.key, model).status_code == 200
    revoke(client)
    assert service.ask(client.key, model).status_code == 401  # read, and refused at the gate
    monkeypatch.setattr(keys, "_KNOWN_S", 0)
    assert service.ask(client.key, model).status_code == 401


def revoke(client: Client) -> None:
    statement = "update app.api_keys set revoked_at = now() where key_id = :k returning key_id"
    assert rows(statement, k=client.key_id)


def test_unknown_keys_of_one_public_address_are_bounded_and_of_a_private_one_not(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_strangers", Rates(60, at_once=2))
    for _ in range(5):
        assert service.post(STRANGER, question("m")).status_code == 401
    monkeypatch.setattr(keys, "_public_address", lambda _request: "93.184.216.34")
    told = [service.post(STRANGER, question("m")) for _ in range(3)]
    assert [one.status_code for one in told] == [401, 401, 429]
    assert int(told[2].headers["retry-after"]) >= 1


def test_requests_of_a_key_are_bounded_in_a_minute(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = a_client(), a_client()
    monkeypatch.setattr(keys, "_requests", Rates(60, at_once=3))
    told = [api(service, mine.key, "/api/quota") for _ in range(4)]
    assert [one.status_code for one in told] == [200, 200, 200, 429]
    assert int(told[3].headers["retry-after"]) >= 1
    assert api(service, mine.key, "/v1/models").status_code == 429
    assert api(service, other.key, "/api/quota").status_code == 200


def api(service: Service, key: str, path: str) -> httpx2.Response:
    return httpx2.get(
        f"{service.url}{path}", headers={"authorization": f"Bearer {key}"}, timeout=30
    )


def test_a_rate_comes_back_steadily() -> None:
    rates = Rates(600, at_once=2)
    assert [rates.take("a"), rates.take("a")] == [0, 0]
    assert rates.take("a") == 1
    assert rates.take("b") == 0
    time.sleep(0.12)
    assert rates.take("a") == 0


def test_what_is_asked_of_the_api_runs_on_its_own_threads() -> None:
    name = asyncio.run(work.run("t", lambda: threading.current_thread().name))
    assert name.startswith("purser-api")
