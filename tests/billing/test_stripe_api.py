"""Every call against a scripted loopback server: what is sent, and each way a call can end."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
import stripe

from core import errors
from core.billing import stripe_api
from core.billing.stripe_api import (
    CardDeclined,
    CheckoutAsk,
    StripeApi,
    StripeDown,
    StripeRefused,
    UsageTier,
    connection,
)
from core.billing.stripe_objects import PaymentIntent
from tests.stripe_types import RequestValidator

KEY = "sk_test_not_to_be_shown"
TENANT = UUID("8f14e45f-ceea-467f-a8d1-0d4a5e1c7b21")
ORDER = UUID("6b1f0e52-1c1e-4a57-9d39-2f6a0b1d7e01")
AT = datetime(2026, 11, 18, 12, tzinfo=UTC)
FIXTURES = Path(__file__).parent.parent / "fixtures" / "stripe"
check_request = RequestValidator().check_request


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one request. No body: the connection is cut."""

    body: bytes | None
    status: int = 200
    delay_s: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass(slots=True)
class Server:
    """Answers in the order of its script, the last answer again and again."""

    url: str = ""
    script: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def will(self, *answers: object) -> None:
        """Plan the answers: an Answer, or an object to be sent as JSON."""
        self.script = [a if isinstance(a, Answer) else ok(a) for a in answers]

    def take(self, request: Asked) -> Answer:
        self.asked.append(request)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def ok(found: object) -> Answer:
    return Answer(json.dumps(found).encode())


def error(status: int, *, headers: tuple[tuple[str, str], ...] = (), **told: Any) -> Answer:
    told.setdefault("message", "No such thing as jane@example.com with sk_test_not_to_be_shown")
    body = json.dumps({"error": told}).encode()
    return Answer(body, status, headers=(("Request-Id", "req_1"), *headers))


def page(*rows: object, more: bool = False, url: str = "/v1/refunds") -> dict[str, object]:
    return {"object": "list", "data": list(rows), "has_more": more, "url": url}


def fixture(name: str) -> dict[str, Any]:
    event = json.loads((FIXTURES / f"{name}.json").read_text())
    about: dict[str, Any] = event["data"]["object"]
    return about


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # an answer in two writes waits 40 ms otherwise

        def do_GET(self) -> None:
            split = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            form = dict(parse_qsl(body or split.query, keep_blank_values=True))
            answer = made.take(Asked(self.command, split.path, headers, form))
            time.sleep(answer.delay_s)
            if answer.body is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in (*answer.headers, ("Content-Length", str(len(answer.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_DELETE = do_GET  # noqa: N815 - the names the base class calls

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):
                self.close_connection = True

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    made.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def api(server: Server, monkeypatch: pytest.MonkeyPatch) -> StripeApi:
    """Pauses between repeats are short here, and silence is half a second."""
    monkeypatch.setattr("stripe._http_client.HTTPClient.INITIAL_DELAY", 0.01)
    monkeypatch.setattr(connection, "_SILENCE_S", 0.5)
    return StripeApi(KEY, base=server.url)


def ask(**changes: Any) -> CheckoutAsk:
    given: dict[str, Any] = {
        "mode": "payment", "tenant_id": TENANT, "order_id": ORDER, "attempt": 2, "kind": "package",
        "customer_id": "cus_1", "price_id": "price_1", "amount_minor": None, "title": "Pro",
        "save_card": True, "success_url": "https://app/billing?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://app/billing", "asked_at": AT,
    }  # fmt: skip
    return CheckoutAsk(**given | changes)


SESSION = fixture("checkout.session.completed.paid")
INTENT = fixture("payment_intent.succeeded")
REFUND = fixture("refund.created.partial")
SUBSCRIPTION = fixture("customer.subscription.created")
INVOICE = fixture("invoice.paid.subscription_cycle")
PAYMENT = fixture("invoice_payment.paid")
MISSING = error(404, type="invalid_request_error", code="resource_missing", param="id")
CARD = {"id": "pm_1", "object": "payment_method", "type": "card", "card": {
    "brand": "visa", "last4": "4242"}}  # fmt: skip
PRICE = {"id": "price_1", "object": "price", "product": "purser_package_pro", "currency": "usd",
         "unit_amount": 5000, "recurring": None}  # fmt: skip
PRODUCT = {"id": "purser_package_pro", "object": "product", "name": "Pro", "active": True}
TIERS = (UsageTier(100_000, Decimal(0)), UsageTier(None, Decimal("0.08")))
USAGE_PRICE = {
    "id": "price_u", "object": "price", "recurring": {"meter": "mtr_1"},
    "tiers": [{"up_to": 100_000, "unit_amount_decimal": "0"},
              {"up_to": None, "unit_amount_decimal": "0.08"}],
}  # fmt: skip
PAYOUT = {"id": "po_1", "object": "payout", "currency": "usd", "amount": 900,
          "arrival_date": 1795003200, "status": "paid"}  # fmt: skip
MOVEMENT = {"id": "txn_1", "object": "balance_transaction", "reporting_category": "charge",
            "source": {"id": "ch_1", "object": "charge", "payment_intent": "pi_1"}, "amount": 1000,
            "fee": 59, "net": 941, "currency": "usd"}  # fmt: skip
METER = {"id": "mtr_1", "object": "billing.meter", "event_name": "tokens"}
EVENT = {"id": "evt_1", "object": "event", "created": 5, "type": "refund.created"}


@dataclass(frozen=True, slots=True)
class Case:
    """A method, what Stripe answers, and each write it makes with its idempotency key."""

    name: str
    call: Callable[[StripeApi], object]
    answers: tuple[object, ...]
    keys: tuple[str, ...] = ()


def refund_of(api: StripeApi) -> object:
    return api.refund(
        tenant_id=TENANT, request_id=ORDER, payment_intent_id="pi_1", amount_minor=100
    )


def charge(api: StripeApi) -> PaymentIntent:
    return api.charge_off_session(
        tenant_id=TENANT, order_id=ORDER, customer_id="cus_1", payment_method_id="pm_1",
        amount_minor=2000,
    )  # fmt: skip


def mirror(api: StripeApi, **changes: Any) -> stripe_api.MirroredPrice:
    offer = {"kind": "package", "code": "pro", "title": "Pro", "price_minor": 5000,
             "monthly": False}  # fmt: skip
    return api.mirror_price(**offer | changes)


def usage_price(api: StripeApi) -> str:
    return api.create_usage_price(
        meter_id="mtr_1", event_name="tokens", title="Tokens", tiers=TIERS
    )


NONE = page(url="/v1/prices")
CASES = [
    Case(
        "create_customer",
        lambda api: api.create_customer(tenant_id=TENANT, name="Acme", email="a@b.c", key="k:1"),
        ({"id": "cus_1", "object": "customer"},), ("k:1",),
    ),
    Case(
        "default_card",
        lambda api: api.default_card("cus_1"),
        ({"id": "cus_1", "object": "customer", "invoice_settings": {}}, page(CARD)),
    ),
    Case(
        "portal_url",
        lambda api: api.portal_url("cus_1", return_url="https://app/billing"),
        ({"id": "bps_1", "object": "billing_portal.session", "url": "https://stripe/p"},), ("*",),
    ),
    Case(
        "portal_url_to_a_flow",
        lambda api: api.portal_url(
            "cus_1", return_url="https://app/billing", flow="payment_method_update"
        ),
        ({"id": "bps_1", "object": "billing_portal.session", "url": "https://stripe/p"},), ("*",),
    ),
    Case(
        "mirror_a_new_package", mirror, (MISSING, PRODUCT, NONE, NONE, PRICE),
        ("product:purser_package_pro", "price:purser_package_pro:first:5000:once"),
    ),
    Case(
        "mirror_a_plan",
        lambda api: mirror(api, monthly=True),
        (PRODUCT, page(PRICE), PRICE), ("price:purser_package_pro:price_1:5000:month",),
    ),
    Case("mirror_again", mirror, ({**PRODUCT, "name": "Old"}, PRODUCT, page(PRICE)), ("*",)),
    Case(
        "create_meter",
        lambda api: api.create_meter(event_name="tokens", title="Tokens"),
        (page({**METER, "event_name": "other"}), METER), ("meter:tokens",),
    ),
    Case(
        "create_usage_price", usage_price, (MISSING, PRODUCT, NONE, NONE, USAGE_PRICE),
        ("product:purser_usage_tokens", "price:purser_usage_tokens:first:100000x0-infx0.08"),
    ),
    Case(
        "send_usage",
        lambda api: api.send_usage(
            event_name="tokens", identifier="t:tokens:9:1", customer_id="cus_1", units=25, at=AT
        ),
        ({"object": "billing.meter_event", "identifier": "t:tokens:9:1"},), ("usage:t:tokens:9:1",),
    ),
    Case("open_checkout", lambda api: api.open_checkout(ask()), (SESSION,),
         (f"checkout:{ORDER}:2",)),
    Case(
        "open_checkout_for_an_amount_with_tax",
        lambda api: api.open_checkout(ask(price_id=None, amount_minor=1234, tax=True)),
        (SESSION,), (f"checkout:{ORDER}:2",),
    ),
    Case(
        "open_checkout_of_a_plan",
        lambda api: api.open_checkout(ask(mode="subscription", kind="plan")),
        (SESSION,), (f"checkout:{ORDER}:2",),
    ),
    Case("checkout_session", lambda api: api.checkout_session("cs_1"), (SESSION,)),
    Case("expire_session", lambda api: api.expire_session("cs_1"), (SESSION,), ("expire:cs_1",)),
    Case("sessions_since", lambda api: list(api.sessions_since(AT)), (page(SESSION),)),
    Case("charge_off_session", charge, (INTENT,), (f"topup:{ORDER}",)),
    Case("payment_intent", lambda api: api.payment_intent("pi_1"), (INTENT,)),
    Case("cancel_payment", lambda api: api.cancel_payment("pi_1"), (INTENT,), ("cancel:pi_1",)),
    Case("refund", refund_of, (REFUND,), (f"refund:{ORDER}",)),
    Case("refunds_since", lambda api: list(api.refunds_since(AT)), (page(REFUND),)),
    Case("subscription", lambda api: api.subscription("sub_1"), (SUBSCRIPTION,)),
    Case(
        "change_price_at_once",
        lambda api: api.change_price("sub_1", "si_1", "price_2", prorate=True, key="plan:1"),
        (SUBSCRIPTION,), ("plan:1",),
    ),
    Case(
        "change_price_later",
        lambda api: api.change_price("sub_1", "si_1", "price_2", prorate=False, key="plan:2"),
        (SUBSCRIPTION,), ("plan:2",),
    ),
    Case(
        "set_cancel_at_period_end",
        lambda api: api.set_cancel_at_period_end("sub_1", True, key="plan:3"),
        (SUBSCRIPTION,), ("plan:3",),
    ),
    Case("cancel_now", lambda api: api.cancel_now("sub_1"), (SUBSCRIPTION,), ("cancel:sub_1",)),
    Case(
        "subscribe_usage",
        lambda api: api.subscribe_usage(
            tenant_id=TENANT, customer_id="cus_1", price_id="price_u", key="usage:1"
        ),
        (SUBSCRIPTION,), ("usage:1",),
    ),
    Case("invoice", lambda api: api.invoice("in_1"), (INVOICE,)),
    Case("invoice_payments", lambda api: api.invoice_payments("in_1"), (page(PAYMENT),)),
    Case(
        "events",
        lambda api: list(api.events(types=["refund.created"], since=AT, undelivered=True)),
        (page(EVENT),),
    ),
    Case("payouts_since", lambda api: list(api.payouts_since(AT)), (page(PAYOUT),)),
    Case(
        "balance_transactions", lambda api: list(api.balance_transactions("po_1")),
        (page(MOVEMENT),),
    ),
]  # fmt: skip
each_method = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_method
def test_a_request_is_as_stripe_takes_it_with_its_key_and_version(
    case: Case, server: Server, api: StripeApi
) -> None:
    server.will(*case.answers)
    case.call(api)
    assert len(server.asked) == len(case.answers)
    for asked in server.asked:
        check_request(asked.method, asked.path, asked.form)
        assert asked.headers["stripe-version"] == stripe_api.API_VERSION
        assert asked.headers["authorization"] == f"Bearer {KEY}"
    keys = [a.headers["idempotency-key"] for a in server.asked if a.method != "GET"]
    wanted = [k if w == "*" else w for k, w in zip(keys, case.keys, strict=True)]
    assert keys == wanted
    assert all(0 < len(key) <= 255 for key in keys)


@each_method
@pytest.mark.parametrize(
    "trouble",
    [
        Answer(None),
        Answer(b"<html>502</html>", 502),
        Answer(b"<html>hello</html>"),
        Answer(b'{"error": "Bad Gateway"}', 502),
        Answer(b"[]"),
        error(500, type="api_error"),
        error(409, type="invalid_request_error", code="lock_timeout"),
    ],
    ids=["reset", "html_502", "html_200", "error_text", "array", "500", "409"],
)
def test_trouble_is_repeated_with_the_same_key_and_ends_as_down(
    case: Case, trouble: Answer, server: Server, api: StripeApi
) -> None:
    server.will(trouble)
    with pytest.raises(StripeDown) as caught:
        case.call(api)
    assert caught.value.status == 503
    assert len(server.asked) == 3
    assert len({asked.headers.get("idempotency-key") for asked in server.asked}) == 1
    assert len({tuple(asked.form.items()) for asked in server.asked}) == 1


def test_silence_ends_as_down_and_a_second_try_may_succeed(server: Server, api: StripeApi) -> None:
    server.will(Answer(b"{}", delay_s=2))
    began = time.monotonic()
    with pytest.raises(StripeDown):
        refund_of(api)
    assert time.monotonic() - began < 4
    server.asked.clear()
    server.will(Answer(None), error(503, type="api_error"), REFUND)
    assert refund_of(api) is not None
    assert {asked.headers["idempotency-key"] for asked in server.asked} == {f"refund:{ORDER}"}


def test_nobody_listening_is_down(api: StripeApi) -> None:
    with pytest.raises(StripeDown, match="could not be reached"):
        refund_of(StripeApi(KEY, base="http://127.0.0.1:1"))


def test_too_many_requests_is_down_and_not_hammered(server: Server, api: StripeApi) -> None:
    server.will(error(429, type="invalid_request_error", code="rate_limit"))
    with pytest.raises(StripeDown):
        refund_of(api)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [409, 500])
def test_stripe_may_forbid_repeats(status: int, server: Server, api: StripeApi) -> None:
    server.will(error(status, type="api_error", headers=(("Stripe-Should-Retry", "false"),)))
    with pytest.raises(StripeDown):
        refund_of(api)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "code", "param"),
    [
        (error(400, type="invalid_request_error", code="parameter_missing", param="amount"),
         "parameter_missing", "amount"),
        (error(400, type="idempotency_error"), "idempotency_error", None),
        (error(400, type="invalid_request_error", param="a b\nc"), "invalid_request_error", None),
        (error(401, type="invalid_request_error"), "invalid_request_error", None),
        (error(403, type="invalid_request_error", code="not_yours"), "not_yours", None),
        (error(404, type="invalid_request_error", code="resource_missing", param="intent"),
         "resource_missing", "intent"),
        (error(400), "http_400", None),
        (error(400, type="invalid_request_error",
               message="An event already exists with identifier x"), "duplicate_meter_event", None),
    ],
)  # fmt: skip
def test_a_refusal_has_stripes_code_and_nothing_of_its_text(
    answer: Answer, code: str, param: str | None, server: Server, api: StripeApi
) -> None:
    server.will(answer)
    with pytest.raises(StripeRefused) as caught:
        refund_of(api)
    refused = caught.value
    assert (refused.code, refused.param, refused.status) == (code, param, answer.status)
    assert refused.request_id == "req_1"
    assert "jane" not in str(refused) and KEY not in repr(refused)
    assert refused.__cause__ is None and refused.__suppress_context__
    assert len(server.asked) == 1


def test_a_decline_names_its_payment(server: Server, api: StripeApi) -> None:
    declined = {"type": "card_error", "code": "authentication_required",
                "decline_code": "authentication_required", "payment_intent": INTENT}  # fmt: skip
    server.will(error(402, **declined))
    with pytest.raises(CardDeclined) as caught:
        charge(api)
    assert caught.value.code == "authentication_required"
    assert caught.value.payment_intent_id == INTENT["id"]
    assert "jane" not in str(caught.value)
    server.will(error(402, type="card_error", code="card_declined", decline_code="lost_card"))
    with pytest.raises(CardDeclined) as again:
        charge(api)
    assert (again.value.decline_code, again.value.payment_intent_id) == ("lost_card", None)


@pytest.mark.parametrize("status", ["processing", "requires_action", "succeeded"])
def test_an_off_session_payment_comes_back_in_any_status(
    status: str, server: Server, api: StripeApi
) -> None:
    server.will({**INTENT, "status": status})
    assert charge(api).status == status
    form = server.asked[0].form
    assert (form["off_session"], form["confirm"]) == ("true", "true")
    assert form["metadata[kind]"] == "auto_topup"


@pytest.mark.parametrize(
    ("call", "answer", "field"),
    [
        (refund_of, {**REFUND, "amount": "5"}, "amount"),
        (refund_of, {}, "id"),
        (lambda api: api.subscription("s"), {**SUBSCRIPTION, "items": page()}, None),
        (lambda api: list(api.refunds_since(AT)), page({"id": "re_1", "object": "refund"}),
         "currency"),
        (lambda api: list(api.refunds_since(AT)), {"object": "list"}, "data"),
        (lambda api: list(api.refunds_since(AT)), {**page({}, more=True), "url": None}, "id"),
        (lambda api: list(api.balance_transactions("po")), page({**MOVEMENT, "net": None}), "net"),
        (lambda api: api.invoice("in_1"), {**INVOICE, "lines": None}, "lines"),
        (lambda api: api.default_card("c"), {"object": "customer", "invoice_settings": {
            "default_payment_method": {"card": {}}}}, "id"),
    ],
)  # fmt: skip
def test_an_answer_of_another_shape_is_unreadable(
    call: Callable[[StripeApi], object],
    answer: object,
    field: str | None,
    server: Server,
    api: StripeApi,
) -> None:
    server.will(answer)
    with pytest.raises(StripeRefused) as caught:
        call(api)
    assert caught.value.code == "unreadable"
    assert field is None or caught.value.param == field


def test_metadata_is_on_all_that_a_payment_makes(server: Server, api: StripeApi) -> None:
    server.will(SESSION)
    api.open_checkout(ask())
    form = server.asked[0].form
    for owner in ("", "payment_intent_data", "invoice_creation[invoice_data]"):
        prefix = f"{owner}[metadata]" if owner else "metadata"
        assert form[f"{prefix}[order_id]"] == str(ORDER)
        assert form[f"{prefix}[tenant_id]"] == str(TENANT)
    assert form["payment_intent_data[setup_future_usage]"] == "off_session"
    assert form["success_url"].endswith("{CHECKOUT_SESSION_ID}")
    assert form["adaptive_pricing[enabled]"] == "false"
    assert "automatic_tax[enabled]" not in form
    api.open_checkout(ask(mode="subscription", save_card=False))
    form = server.asked[1].form
    assert form["subscription_data[metadata][tenant_id]"] == str(TENANT)
    assert not any(name.startswith(("payment_intent_data", "invoice_creation")) for name in form)


def test_the_same_ask_is_the_same_request_at_any_time(server: Server, api: StripeApi) -> None:
    server.will(SESSION)
    api.open_checkout(ask())
    time.sleep(1.1)
    api.open_checkout(ask())
    assert server.asked[0].form == server.asked[1].form
    assert int(server.asked[0].form["expires_at"]) - AT.timestamp() >= 30 * 60
    api.open_checkout(ask(asked_at=None))
    assert int(server.asked[2].form["expires_at"]) - time.time() >= 30 * 60


def test_a_mirrored_price_stays_until_its_terms_change(server: Server, api: StripeApi) -> None:
    server.will(PRODUCT, page(PRICE))
    assert mirror(api).price_id == "price_1"
    for terms in ({"price_minor": 6000}, {"monthly": True}):
        server.asked.clear()
        server.will(PRODUCT, page(PRICE), {**PRICE, "id": "price_2"})
        assert mirror(api, **terms).price_id == "price_2"
        form = server.asked[-1].form
        assert form["transfer_lookup_key"] == "true" and form["lookup_key"] == PRICE["product"]
    server.will({"id": "purser_usage_tokens", "object": "product", "name": "Tokens",
                 "active": True}, page(USAGE_PRICE))  # fmt: skip
    assert usage_price(api) == "price_u"


def test_the_key_of_a_price_that_comes_back_is_a_new_one(server: Server, api: StripeApi) -> None:
    server.will(PRODUCT, page({**PRICE, "id": "price_2", "unit_amount": 6000}), PRICE)
    mirror(api)
    key = server.asked[-1].headers["idempotency-key"]
    assert key == "price:purser_package_pro:price_2:5000:once"


def test_the_card_that_invoices_are_paid_with_comes_first(server: Server, api: StripeApi) -> None:
    customer = {"id": "cus_1", "object": "customer"}
    link = {"id": "pm_2", "object": "payment_method", "type": "link"}
    server.will({**customer, "invoice_settings": {"default_payment_method": link}})
    assert api.default_card("cus_1") == stripe_api.Card("pm_2", "link")
    server.will({**customer, "invoice_settings": None}, page(CARD))
    assert api.default_card("cus_1") == stripe_api.Card("pm_1", "visa •••• 4242")
    server.will({**customer, "invoice_settings": None}, page())
    assert api.default_card("cus_1") is None
    server.will({**customer, "deleted": True})
    assert api.default_card("cus_1") is None


def test_lists_are_read_to_their_end(server: Server, api: StripeApi) -> None:
    second = {**REFUND, "id": "re_2"}
    server.will(page(REFUND, more=True), page(second, more=True), page())
    found = [refund.refund_id for refund in api.refunds_since(AT)]
    assert found == [REFUND["id"], "re_2"]
    assert [asked.form.get("starting_after") for asked in server.asked] == [
        None, REFUND["id"], "re_2",
    ]  # fmt: skip
    assert all(asked.form["created[gte]"] == str(int(AT.timestamp())) for asked in server.asked)
    for asked in server.asked:
        check_request(asked.method, asked.path, asked.form)


def test_a_list_without_end_ends(
    server: Server, api: StripeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PAGES_MAX", 3)
    server.will(page(REFUND, more=True))
    with pytest.raises(StripeRefused, match="too_many"):
        list(api.refunds_since(AT))
    assert len(server.asked) <= 4


def test_events_come_oldest_first_whatever_the_number_of_types(
    server: Server, api: StripeApi
) -> None:
    made = [{**EVENT, "id": f"evt_{n}", "created": at} for n, at in enumerate((9, 7, 7, 8, 2))]
    server.will(page(*made[:2], more=True, url="/v1/events"), page(made[2]), page(*made[3:]))
    types = [f"type.{n}" for n in range(21)]
    found = [event["id"] for event in api.events(types=types, since=AT, undelivered=True)]
    assert found == ["evt_4", "evt_1", "evt_2", "evt_3", "evt_0"]
    assert {asked.form.get("delivery_success") for asked in server.asked} == {"false"}
    assert "types[19]" in server.asked[0].form and "types[20]" not in server.asked[0].form
    assert server.asked[2].form["types[0]"] == "type.20"
    server.will(page())
    assert list(api.events(types=types[:1], since=AT, undelivered=False)) == []
    assert "delivery_success" not in server.asked[-1].form


def test_an_invoice_comes_with_all_its_lines(server: Server, api: StripeApi) -> None:
    line = INVOICE["lines"]["data"][0]
    first = {**INVOICE, "lines": {**INVOICE["lines"], "has_more": True}}
    lines = [{**line, "id": f"il_{n}"} for n in range(3)]
    server.will(first, page(*lines[:2], more=True, url="/v1/invoices/in_1/lines"), page(lines[2]))
    found = api.invoice("in_1")
    assert [line.line_id for line in found.lines] == ["il_0", "il_1", "il_2"]
    assert found.lines_complete
    for asked in server.asked:
        check_request(asked.method, asked.path, asked.form)


@pytest.mark.parametrize(
    ("call", "found", "ended"),
    [
        (lambda api: api.expire_session("cs_1"), SESSION, {**SESSION, "status": "open"}),
        (lambda api: api.cancel_payment("pi_1"), {**INTENT, "status": "canceled"}, INTENT),
        (lambda api: api.cancel_now("sub_1"), {**SUBSCRIPTION, "ended_at": 1795003200},
         SUBSCRIPTION),
    ],
)  # fmt: skip
def test_what_is_ended_already_is_well_ended(
    call: Callable[[StripeApi], object],
    found: object,
    ended: object,
    server: Server,
    api: StripeApi,
) -> None:
    refused = error(400, type="invalid_request_error", code="unexpected_state")
    server.will(refused, found)
    assert call(api) is not None
    server.will(refused, ended)
    with pytest.raises(StripeRefused, match="unexpected_state"):
        call(api)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("checkout.session", "/v1/checkout/sessions/x_1"),
        ("payment_intent", "/v1/payment_intents/x_1"),
        ("subscription", "/v1/subscriptions/x_1"),
        ("refund", "/v1/refunds/x_1"),
        ("dispute", "/v1/disputes/x_1"),
        ("charge", "/v1/charges/x_1"),
        ("customer", "/v1/customers/x_1"),
        ("event", "/v1/events/x_1"),
        ("invoice_payment", "/v1/invoice_payments/x_1"),
        ("payment_method", "/v1/payment_methods/x_1"),
        ("payout", "/v1/payouts/x_1"),
        ("billing.meter", "/v1/billing/meters/x_1"),
        ("radar.early_fraud_warning", "/v1/radar/early_fraud_warnings/x_1"),
        ("v2.core.event", "/v2/core/events/x_1"),
    ],
)
def test_any_object_can_be_read_again(kind: str, path: str, server: Server, api: StripeApi) -> None:
    told = {"id": "x_1", "object": kind, "amount": 5, "at": None, "list": [{"a": "1"}]}
    server.will(told)
    assert api.fetch(kind, "x_1") == told
    assert [(asked.method, asked.path) for asked in server.asked] == [("GET", path)]
    check_request("GET", path, server.asked[0].form)


def test_an_object_of_no_concern_is_not_read(api: StripeApi) -> None:
    with pytest.raises(StripeRefused, match="unknown_kind"):
        api.fetch("issuing.card", "x_1")


def test_exact_decimals_stay_exact(server: Server, api: StripeApi) -> None:
    price = {"object": "price", "id": "price_1", "unit_amount_decimal": "0.100000000001"}
    item = {"object": "subscription_item", "id": "si_1", "price": price}
    server.will({**SUBSCRIPTION, "items": page(item)})
    found = api.fetch("subscription", "sub_1")
    assert found["items"]["data"][0]["price"]["unit_amount_decimal"] == "0.100000000001"
    server.will(MISSING, PRODUCT, NONE, NONE, USAGE_PRICE)
    usage_price(api)
    assert server.asked[-1].form["tiers[1][unit_amount_decimal]"] == "0.08"


def test_nothing_is_reported_about_us_and_nothing_is_logged(
    server: Server,
    api: StripeApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    caplog.set_level(logging.DEBUG)
    server.will(Answer(json.dumps({"id": "cus_1", "object": "customer"}).encode(),
                       headers=(("Request-Id", "req_1"),)))  # fmt: skip
    for _ in range(2):
        api.create_customer(tenant_id=TENANT, name="Jane Doe", email="jane@example.com", key="k")
    assert list(tmp_path.rglob("*")) == []
    assert "x-stripe-client-telemetry" not in server.asked[1].headers
    client = json.loads(server.asked[1].headers["x-stripe-client-user-agent"])
    assert not {"telemetry_id", "platform"} & client.keys()
    assert "jane" not in caplog.text.lower() and KEY not in caplog.text


def test_threads_share_one_api(server: Server, api: StripeApi) -> None:
    server.will(INTENT)
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: seen.append(api.payment_intent("pi_1").payment_intent_id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [INTENT["id"]] * 8


def test_the_pinned_version_is_the_librarys() -> None:
    assert stripe.api_version == stripe_api.API_VERSION


def test_the_mode_is_the_keys() -> None:
    assert [StripeApi(key).live for key in ("sk_live_1", "rk_live_1", "sk_test_1", "rk_test_1")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert StripeApi("sk_test_sandbox", sandbox=True).sandbox


def test_a_process_sells_only_after_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe_api, "_installed", None)  # put back afterwards
    assert not stripe_api.configured()
    with pytest.raises(errors.Unavailable, match="not set up"):
        stripe_api.current()
    made = StripeApi(KEY)
    stripe_api.install(made)
    assert stripe_api.configured() and stripe_api.current() is made
    stripe_api.install(None)
    assert not stripe_api.configured()
