"""What is told of what happened: signatures, copies, order, delays, drops, retries, and the list."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from core.billing.sandbox import Server, serve
from core.billing.sandbox.sender import sign
from core.billing.stripe_api import SignatureRefused, StripeApi
from tests.billing.conftest import KEY, SECRET, running
from tests.billing.sandbox.shop import TENANT, customer, paid

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


class Ear:
    """Hears events and answers as told."""

    def __init__(self, api: StripeApi, *answers: int) -> None:
        self._api = api
        self._answers = list(answers)
        self.types: list[str] = []
        self.ids: list[str] = []

    def __call__(self, raw: bytes, header: str) -> int:
        event = self._api.verify(raw, header)
        self.types.append(event["type"])
        self.ids.append(event["id"])
        return self._answers.pop(0) if self._answers else 200


def test_events_are_signed_and_told_once_in_order(sandbox: Server, api: StripeApi) -> None:
    paid(api, sandbox.control)
    ear = Ear(api)
    assert sandbox.control.deliver(ear) == len(sandbox.control.objects("event"))
    assert ear.ids == [event["id"] for event in sandbox.control.objects("event")]
    assert "checkout.session.completed" in ear.types and "invoice_payment.paid" in ear.types
    assert sandbox.control.deliver(ear) == 0


def test_an_event_says_which_request_made_it(sandbox: Server, api: StripeApi) -> None:
    api.create_customer(tenant_id=TENANT, name="A", email="a@b.example", key="customer:1")
    event = sandbox.control.event("customer.created")[0]
    assert event["request"]["idempotency_key"] == "customer:1"
    assert event["api_version"] == "2026-10-28.endive" and event["livemode"] is False


def test_what_is_not_heard_is_told_again(sandbox: Server, api: StripeApi) -> None:
    customer(api)
    ear = Ear(api, 500, 500)
    for _ in range(3):
        sandbox.control.deliver(ear)
    assert ear.types == ["customer.created"] * 3
    assert list(api.events(types=["customer.created"], since=LONG_AGO, undelivered=True)) == []


def test_copies_delays_and_another_order(sandbox: Server, api: StripeApi) -> None:
    sandbox.control.sender(copies=3, is_reordering=True)
    for _ in range(4):
        customer(api)
    ear = Ear(api)
    assert sandbox.control.deliver(ear, seed=7) == 12
    made = [event["id"] for event in sandbox.control.objects("event")]
    assert sorted(ear.ids) == sorted(made * 3)
    assert list(dict.fromkeys(ear.ids)) != made


def test_the_same_seed_gives_the_same_order(sandbox: Server, api: StripeApi) -> None:
    orders = []
    for _ in range(2):
        sandbox.control.sender(is_reordering=True)
        paid(api, sandbox.control)
        ear = Ear(api)
        sandbox.control.deliver(ear, seed=11)
        orders.append(ear.types)
    assert orders[0] == orders[1]


def test_a_dropped_event_is_only_found_in_the_list(sandbox: Server, api: StripeApi) -> None:
    sandbox.control.sender(drop=["charge.succeeded"])
    paid(api, sandbox.control)
    ear = Ear(api)
    sandbox.control.deliver(ear)
    assert "charge.succeeded" not in ear.types
    types = ["charge.succeeded", "payment_intent.succeeded"]
    found = list(api.events(types=types, since=LONG_AGO, undelivered=True))
    assert [event["type"] for event in found] == ["charge.succeeded"]
    everything = list(api.events(types=types, since=LONG_AGO, undelivered=False))
    assert len(everything) == 2


def test_events_are_listed_for_thirty_days(sandbox: Server, api: StripeApi) -> None:
    customer(api)
    sandbox.control.deliver(Ear(api))
    sandbox.control.advance(31 * 86_400)
    assert list(api.events(types=["customer.created"], since=LONG_AGO, undelivered=False)) == []


def test_an_event_that_waits_is_told_after_any_time(sandbox: Server, api: StripeApi) -> None:
    customer(api)
    sandbox.control.advance(40 * 86_400)
    ear = Ear(api)
    sandbox.control.deliver(ear)
    assert ear.types == ["customer.created"]


def test_two_secrets_sign_while_one_is_replaced(sandbox: Server, api: StripeApi) -> None:
    sandbox.control.sender(secrets=("whsec_new", SECRET))
    customer(api)
    old = Ear(api)
    sandbox.control.deliver(old)
    assert old.types == ["customer.created"]
    new = StripeApi(KEY, base=sandbox.url, webhook_secrets=("whsec_new",), sandbox=True)
    customer(api)
    assert sandbox.control.deliver(Ear(new)) == 1


def test_a_signature_of_another_time_or_secret_does_not_verify(api: StripeApi) -> None:
    raw = b'{"livemode": false}'
    assert api.verify(raw, sign(raw, (SECRET,)))["livemode"] is False
    for header in (
        sign(raw, ("whsec_other",)),
        sign(raw, (SECRET,), at_s=int(time.time()) - 400),
        sign(b"{}", (SECRET,)),
    ):
        with pytest.raises(SignatureRefused):
            api.verify(raw, header)


class _Hook(BaseHTTPRequestHandler):
    heard: list[dict[str, Any]]
    refusals = 2

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        if type(self).refusals > 0:
            type(self).refusals -= 1
            self.send_response(503)
        else:
            self.heard.append(json.loads(raw) | {"signature": self.headers["stripe-signature"]})
            self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []
    handler = type("Hook", (_Hook,), {"heard": heard, "refusals": 2})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/webhook", heard
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_the_running_sender_repeats_until_it_is_heard() -> None:
    with hook() as (url, heard), running(webhook_url=url) as server:
        api = StripeApi(KEY, base=server.url, webhook_secrets=(SECRET,), sandbox=True)
        customer(api)
        deadline = time.monotonic() + 20
        while not heard and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [event["type"] for event in heard] == ["customer.created"]
        assert heard[0]["signature"].startswith("t=")


def test_a_port_that_is_taken_is_an_error(sandbox: Server) -> None:
    port = int(sandbox.url.rpartition(":")[2])

    async def start() -> None:
        await server_on(port)

    with pytest.raises(OSError, match="in use"):
        asyncio.run(start())


async def server_on(port: int) -> Server:
    return await serve(state_file=None, webhook_url=None, webhook_secret=SECRET, port=port)
