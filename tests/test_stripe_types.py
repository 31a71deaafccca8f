"""The validators find what they are there to find."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stripe_types import ObjectValidator, RequestValidator

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "stripe").glob("*.json"))
EVENTS = [file for file in FIXTURES if file.name != "index.json"]

check_request = RequestValidator().check_request
check_object = ObjectValidator().check_object


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_every_fixture_is_as_the_library_says(file: Path) -> None:
    assert check_object(json.loads(file.read_text())) == []


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        (
            "invoice.paid.subscription_cycle",
            lambda o: o.update(subscription="sub_1"),
            "event.data.invoice.subscription: unknown key",
        ),
        (
            "invoice.paid.subscription_cycle",
            lambda o: o["lines"]["data"][0].pop("period"),
            "event.data.invoice.lines.data[0].period: missing",
        ),
        (
            "invoice.paid.subscription_cycle",
            lambda o: o["lines"].pop("has_more"),
            "event.data.invoice.lines.has_more: missing or of another type",
        ),
        (
            "customer.subscription.created",
            lambda o: o.update(current_period_end=1),
            "event.data.subscription.current_period_end: unknown key",
        ),
        (
            "customer.subscription.created",
            lambda o: o.update(customer=7),
            "event.data.subscription.customer: int instead of Customer",
        ),
        (
            "refund.created.partial",
            lambda o: o.update(amount="5"),
            "event.data.refund.amount: str instead of int",
        ),
        (
            "refund.created.partial",
            lambda o: o.update(object="refond"),
            "event.data.refond: unknown object 'refond'",
        ),
        (
            "charge.dispute.created",
            lambda o: o.update(status="open"),
            "event.data.dispute.status: 'open' is not one of",
        ),
        (
            "checkout.session.completed.paid",
            lambda o: o.update(ui_mode="hosted"),
            "event.data.checkout.session.ui_mode: 'hosted' is not one of",
        ),
        (
            "checkout.session.completed.paid",
            lambda o: o["metadata"].update(n=1),
            "event.data.checkout.session.metadata.n: int instead of str",
        ),
        (
            "payment_intent.succeeded",
            lambda o: o.update(charges={}),
            "event.data.payment_intent.charges: unknown key",
        ),
    ],
)
def test_a_fault_in_an_object_is_found_where_it_is(
    name: str, change: Callable[[dict[str, Any]], object], found: str
) -> None:
    event = json.loads((FIXTURES[0].parent / f"{name}.json").read_text())
    change(event["data"]["object"])
    differences = check_object(event)
    assert len(differences) == 1
    assert differences[0].startswith(found)


def test_an_unknown_type_of_event_and_a_broken_notification_are_found() -> None:
    folder = FIXTURES[0].parent
    event = json.loads((folder / "refund.failed.json").read_text())
    assert check_object({**event, "type": "refund.vanished"})[0].startswith("event.type")
    thin = json.loads((folder / "thin.v1.checkout.session.completed.json").read_text())
    assert check_object({**thin, "type": "v1.nothing"}) == [
        "v2.core.event.type: unknown event 'v1.nothing'"
    ]
    del thin["related_object"]["url"]
    assert check_object(thin) == ["v2.core.event.related_object.url: missing"]


GOOD_PAYMENT = {"amount": "500", "currency": "usd", "customer": "cus_1", "metadata[kind]": "x"}


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("POST", "/v1/payment_intents", GOOD_PAYMENT),
        ("POST", "/v1/payment_intents", {**GOOD_PAYMENT, "off_session": "true", "confirm": "true"}),
        ("POST", "/v1/payment_intents", {"amount": 500, "currency": "usd", "metadata": {"a": "b"}}),
        ("POST", "/v1/checkout/sessions", {"ui_mode": "hosted_page", "line_items[0][price]": "p"}),
        ("GET", "/v1/events", {"types[0]": "a", "delivery_success": "false", "created[gte]": "1"}),
        ("POST", "/v1/subscriptions/sub_1", {"billing_cycle_anchor[type]": "now"}),
        ("GET", "/v1/customers/cus_1", {"expand[0]": "tax"}),
    ],
)
def test_what_stripe_takes_passes(method: str, path: str, form: dict[str, Any]) -> None:
    check_request(method, path, form)


@pytest.mark.parametrize(
    ("method", "path", "form", "field"),
    [
        ("POST", "/v1/payment_intents", {"amount": "500"}, "currency"),
        ("POST", "/v1/payment_intents", {**GOOD_PAYMENT, "amount": "5.5"}, "amount"),
        ("POST", "/v1/payment_intents", {**GOOD_PAYMENT, "ofsession": "true"}, "ofsession"),
        (
            "POST",
            "/v1/payment_intents",
            {**GOOD_PAYMENT, "idempotency_key": "k"},
            "idempotency_key",
        ),
        (
            "POST",
            "/v1/payment_intents",
            {**GOOD_PAYMENT, "payment_method_types[0]": "card"},
            "payment_method_types",
        ),
        (
            "POST",
            "/v1/checkout/sessions",
            {"payment_method_types[0]": "card"},
            "payment_method_types",
        ),
        ("POST", "/v1/checkout/sessions", {"sucess_url": "u"}, "sucess_url"),
        ("POST", "/v1/checkout/sessions", {"ui_mode": "hosted"}, "ui_mode"),
        (
            "POST",
            "/v1/checkout/sessions",
            {"line_items[0][price]": "p", "line_items[0][quantitiy]": "1"},
            "line_items.0.quantitiy",
        ),
        ("POST", "/v1/prices", {"product": "p", "unit_amount": "1"}, "currency"),
        (
            "POST",
            "/v1/subscriptions/sub_1",
            {"billing_cycle_anchor": "now"},
            "billing_cycle_anchor",
        ),
        (
            "POST",
            "/v1/subscriptions/sub_1",
            {"proration_behavior": "always"},
            "proration_behavior",
        ),
        ("GET", "/v1/customers/cus_1", {"limit": "1"}, "limit"),
        ("POST", "/v1/usage_records", {}, "nothing of ours calls this"),
    ],
)
def test_the_known_traps_are_refused(
    method: str, path: str, form: dict[str, Any], field: str
) -> None:
    with pytest.raises(AssertionError, match=field):
        check_request(method, path, form)
