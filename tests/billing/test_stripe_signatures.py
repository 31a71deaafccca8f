"""Messages to the webhook: which are Stripe's, of now, and of our mode."""

from __future__ import annotations

import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from core.billing.stripe_api import SignatureRefused, StripeApi

NEW, OLD = "whsec_new", "whsec_old"
FIXTURES = Path(__file__).parent.parent / "fixtures" / "stripe"
EVENT = {"id": "evt_1", "object": "event", "type": "refund.created", "livemode": False}
BODY = json.dumps(EVENT)


@pytest.fixture(scope="module")
def api() -> StripeApi:
    return StripeApi("sk_test_1", webhook_secrets=(NEW, OLD), base="http://127.0.0.1:1")


def signed(body: str, secret: str = NEW, *, age_s: int = 0) -> str:
    at = int(time.time()) - age_s
    header: str = stripe.WebhookSignature.generate_signature_header(body, secret, timestamp=at)
    return header


def reason(api: StripeApi, raw: bytes, header: str | None) -> str:
    with pytest.raises(SignatureRefused) as caught:
        api.verify(raw, header)
    return caught.value.reason


@pytest.mark.parametrize(
    "file", [f for f in sorted(FIXTURES.glob("*.json")) if f.name != "index.json"], ids=lambda f: f.stem
)  # fmt: skip
def test_every_fixture_verifies_thin_ones_too(file: Path, api: StripeApi) -> None:
    body = file.read_text()
    assert api.verify(body.encode(), signed(body)) == json.loads(body)


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_both_secrets_are_good_while_they_rotate(secret: str, api: StripeApi) -> None:
    assert api.verify(BODY.encode(), signed(BODY, secret))["id"] == "evt_1"


@pytest.mark.parametrize("order", [(NEW, "whsec_x"), ("whsec_x", NEW)])
def test_one_good_signature_of_two_is_enough(order: tuple[str, str], api: StripeApi) -> None:
    first, second = (signed(BODY, secret) for secret in order)
    assert api.verify(BODY.encode(), f"{first},{second.partition(',')[2]}")["id"] == "evt_1"


@pytest.mark.parametrize(
    ("age_s", "refused"),
    [
        (299, None),
        (302, "too_old"),
        (31_536_000, "too_old"),
        (-298, None),
        (-303, "in_the_future"),
        (-86_400, "in_the_future"),
    ],
)
def test_only_what_was_signed_about_now_counts(
    age_s: int, refused: str | None, api: StripeApi
) -> None:
    header = signed(BODY, age_s=age_s)
    if refused is None:
        assert api.verify(BODY.encode(), header)["id"] == "evt_1"
    else:
        assert reason(api, BODY.encode(), header) == refused


@pytest.mark.parametrize("header", [None, "", "   "])
def test_a_header_must_be_there(header: str | None, api: StripeApi) -> None:
    assert reason(api, BODY.encode(), header) == "no_header"


def forged_headers() -> list[str]:
    good = signed(BODY)
    at, signature = good.split(",")
    return [
        signed(BODY, "whsec_other"),
        good.replace("v1=", "v0="),
        at,
        signature,
        f"{at},v1=",
        f"{at},v1=é",
        "t=now,v1=00",
        "t=1e9,v1=00",
        "nonsense",
        ",,,===",
        f"t={int(time.time()) + 1},{signature}",
    ]


@pytest.mark.parametrize("n", range(len(forged_headers())))
def test_a_forged_header_is_refused(n: int, api: StripeApi) -> None:
    assert reason(api, BODY.encode(), forged_headers()[n]) == "bad_signature"


@pytest.mark.parametrize("body", [BODY + "\n", json.dumps(EVENT, indent=1), BODY + " ", "{}", ""])
def test_the_body_counts_byte_for_byte(body: str, api: StripeApi) -> None:
    assert reason(api, body.encode(), signed(BODY)) == "bad_signature"


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ("not json", "not_json"),
        ("", "not_json"),
        ("[" * 100_000, "not_json"),
        ("[]", "not_an_object"),
        ('"text"', "not_an_object"),
        ("null", "not_an_object"),
        ("{}", "other_mode"),
        (json.dumps({**EVENT, "livemode": True}), "other_mode"),
        (json.dumps({**EVENT, "livemode": None}), "other_mode"),
        (json.dumps({**EVENT, "livemode": 0}), "other_mode"),
    ],
)
def test_a_good_signature_is_not_enough(body: str, refused: str, api: StripeApi) -> None:
    assert reason(api, body.encode(), signed(body)) == refused


def test_a_body_that_is_not_text_is_refused_also_when_it_is_signed(api: StripeApi) -> None:
    raw, at = b"\xff\xfe{}", int(time.time())
    signature = hmac.digest(NEW.encode(), f"{at}.".encode() + raw, "sha256").hex()
    assert reason(api, raw, f"t={at},v1={signature}") == "not_utf8"


def test_a_live_key_takes_live_messages_only() -> None:
    live = StripeApi("rk_live_1", webhook_secrets=(NEW,))
    body = json.dumps({**EVENT, "livemode": True})
    assert live.verify(body.encode(), signed(body))["livemode"] is True
    assert reason(live, BODY.encode(), signed(BODY)) == "other_mode"


@pytest.mark.parametrize("secrets", [(), ("",), (" ", "\t\n")])
def test_without_a_secret_nothing_is_taken(secrets: tuple[str, ...]) -> None:
    closed = StripeApi("sk_test_1", webhook_secrets=secrets)
    assert closed.webhook_secrets == ()
    for secret in ("", " ", NEW):
        assert reason(closed, BODY.encode(), signed(BODY, secret)) == "no_secret"


def test_a_blank_secret_beside_a_real_one_opens_nothing() -> None:
    half = StripeApi("sk_test_1", webhook_secrets=("", NEW))
    assert half.verify(BODY.encode(), signed(BODY))["id"] == "evt_1"
    assert reason(half, BODY.encode(), signed(BODY, "")) == "bad_signature"


def test_unknown_types_and_other_versions_pass(api: StripeApi) -> None:
    odd: dict[str, Any] = {**EVENT, "type": "new.thing", "api_version": "2017-08-15"}
    body = json.dumps(odd)
    assert api.verify(body.encode(), signed(body)) == odd


def test_a_refusal_shows_neither_secret_nor_body(api: StripeApi) -> None:
    with pytest.raises(SignatureRefused) as caught:
        api.verify(BODY.encode(), signed(BODY, "whsec_other"))
    assert str(caught.value) == "webhook refused: bad_signature"
