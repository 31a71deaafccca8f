"""The webhook through the real server: what is signed for us now is stored once, all else has no
effect. Handling is tested with the inbox."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from core import db, telemetry
from core.billing import inbox, stripe_api
from core.billing.stripe_api import StripeApi
from core.billing.stripe_tables import StripeEvent
from core.db import Database, new_id
from core.http import webhooks
from core.settings import Settings
from tests.billing.story import FIXTURES, SECRET, jobs_for, sign
from tests.factories import TESTS
from tests.http.serving import Service

OLD_SECRET = "whsec_of_yesterday_also_long_enough"


@pytest.fixture(autouse=True)
def _stripe() -> Iterator[None]:
    stripe_api.install(StripeApi("sk_test_x", webhook_secrets=(SECRET, OLD_SECRET)))
    yield
    stripe_api.install(None)


def an_event(**fields: Any) -> dict[str, Any]:
    """A fixture under an id nobody else uses."""
    found = json.loads((FIXTURES / "charge.succeeded.json").read_text())
    return found | {"id": f"evt_{new_id().hex}"} | fields


def raw(event: object) -> bytes:
    return json.dumps(event, indent=2).encode()


def post(service: Service, body: object, *signatures: str, **headers: str) -> httpx2.Response:
    given = [("stripe-signature", s) for s in signatures] + list(headers.items())
    return httpx2.post(f"{service.url}/stripe/webhook", content=body, headers=given, timeout=30)


def stored(event_id: str) -> StripeEvent | None:
    with db.transaction(TESTS) as session:
        return session.get(StripeEvent, event_id)


def refused(reason: str) -> float:
    found = telemetry.registry.get_sample_value("purser_webhooks_refused_total", {"reason": reason})
    return found or 0


def assert_refused(response: httpx2.Response, event_id: str, reason: str) -> None:
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "webhook_refused" and error["request_id"]
    assert reason.replace("_", " ") in error["message"]
    assert stored(event_id) is None and jobs_for(event_id) == 0


def test_a_signed_event_is_stored_with_its_job_before_it_is_answered(service: Service) -> None:
    event = an_event()
    body = raw(event)
    response = post(service, body, sign(body))
    assert (response.status_code, response.json()) == (200, {"received": True})
    row = stored(event["id"])
    assert row is not None and (row.state, row.came_by, row.deliveries) == ("waiting", "webhook", 1)
    assert row.payload == event
    assert jobs_for(event["id"]) == 1


def test_a_copy_is_answered_like_the_first_and_only_counted(service: Service) -> None:
    event = an_event()
    body = raw(event)
    assert [post(service, body, sign(body)).status_code for _ in range(3)] == [200] * 3
    row = stored(event["id"])
    assert row is not None and row.deliveries == 3
    assert jobs_for(event["id"]) == 1


def test_forty_copies_at_once_are_one_row_and_one_job(service: Service) -> None:
    event = an_event()
    body = raw(event)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(service, body, sign(body)).status_code, range(40)))
    row = stored(event["id"])
    assert row is not None
    assert answers.count(200) == row.deliveries  # whoever got no connection in time was told 503
    assert set(answers) <= {200, 503}
    assert jobs_for(event["id"]) == 1


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no_header"),
        ("t=1,v1=", "bad_signature"),
        ("v0=abc", "bad_signature"),
        ("rubbish", "bad_signature"),
        ("t=now,v1=abc", "bad_signature"),
    ],
)
def test_no_signature_is_refused(service: Service, header: str, reason: str) -> None:
    event, before = an_event(), refused(reason)
    assert_refused(post(service, raw(event), header), event["id"], reason)
    assert refused(reason) == before + 1


def test_no_signature_header_at_all_is_refused(service: Service) -> None:
    event = an_event()
    assert_refused(post(service, raw(event)), event["id"], "no_header")


def test_two_signature_headers_are_none(service: Service) -> None:
    event = an_event()
    body = raw(event)
    assert_refused(post(service, body, sign(body), sign(body)), event["id"], "no_header")


def test_another_endpoints_secret_is_refused(service: Service) -> None:
    event = an_event()
    body = raw(event)
    response = post(service, body, sign(body, "whsec_of_another_endpoint"))
    assert_refused(response, event["id"], "bad_signature")


@pytest.mark.parametrize(("age_s", "reason"), [(310, "too_old"), (-310, "in_the_future")])
def test_another_time_is_refused(service: Service, age_s: int, reason: str) -> None:
    event = an_event()
    body = raw(event)
    response = post(service, body, sign(body, at=time.time() - age_s))
    assert_refused(response, event["id"], reason)


@pytest.mark.parametrize("age_s", [280, -280])
def test_a_clock_may_be_minutes_off(service: Service, age_s: int) -> None:
    body = raw(an_event())
    assert post(service, body, sign(body, at=time.time() - age_s)).status_code == 200


@pytest.mark.parametrize("change", [lambda e: json.dumps(e).encode(), lambda e: raw(e) + b"\n"])
def test_a_body_written_anew_is_refused(service: Service, change: Any) -> None:
    event = an_event()
    response = post(service, change(event), sign(raw(event)))
    assert_refused(response, event["id"], "bad_signature")


def test_both_secrets_hold_while_they_are_exchanged(service: Service) -> None:
    body = raw(an_event())
    assert post(service, body, sign(body, OLD_SECRET)).status_code == 200
    both = f"{sign(body, 'whsec_unknown')},{sign(body, OLD_SECRET).partition(',')[2]}"
    assert post(service, raw(an_event()), both).status_code == 400
    assert post(service, body, both).status_code == 200


def test_a_live_event_is_refused_in_test_mode(service: Service) -> None:
    event = an_event(livemode=True)
    body = raw(event)
    assert_refused(post(service, body, sign(body)), event["id"], "other_mode")


def test_a_test_event_is_refused_in_live_mode(service: Service) -> None:
    stripe_api.install(StripeApi("sk_live_x", webhook_secrets=(SECRET,)))
    event = an_event()
    body = raw(event)
    assert_refused(post(service, body, sign(body)), event["id"], "other_mode")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not_json"),
        (b"[1, 2]", "not_an_object"),
        (b'"evt_1"', "not_an_object"),
        (b"\xff\xfe{}", "not_utf8"),
        (b'{"livemode": false}', "not_an_event"),
        (b'{"livemode": false, "id": 7, "type": "x", "created": 1}', "not_an_event"),
        (b'{"livemode": false, "id": "evt_1", "type": "x", "created": 1e99}', "not_an_event"),
    ],
)
def test_what_is_signed_but_no_event_is_refused(service: Service, body: bytes, reason: str) -> None:
    assert_refused(post(service, body, sign(body)), "evt_1", reason)


def test_a_body_of_five_megabytes_is_refused_unread(service: Service) -> None:
    event = an_event(padding="x" * 5 * 1024**2)
    body, before = raw(event), refused("too_large")
    response = post(service, body, sign(body))
    assert response.status_code == 413 and response.json()["error"]["code"] == "too_large"
    assert stored(event["id"]) is None
    assert refused("too_large") == before + 1


def test_a_body_without_a_length_is_capped_too(service: Service) -> None:
    event = an_event(padding="x" * webhooks.LENGTH_MAX)
    body = raw(event)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    with contextlib.suppress(httpx2.TransportError):  # it may hang up before all was sent
        assert post(service, pieces(), sign(body)).status_code == 413
    assert stored(event["id"]) is None


def test_a_body_just_below_the_cap_is_taken(service: Service) -> None:
    event = an_event()
    body = raw(event | {"padding": "x" * (webhooks.LENGTH_MAX - len(raw(event)) - 100)})
    assert post(service, body, sign(body)).status_code == 200


def test_an_unknown_type_is_kept_and_ignored_with_a_reason(service: Service) -> None:
    event = an_event(type="tax.settings.updated")
    body = raw(event)
    assert post(service, body, sign(body)).status_code == 200
    inbox.handle(event["id"])
    row = stored(event["id"])
    assert row is not None and (row.state, row.reason) == ("ignored", "a type we do not use")


@pytest.mark.parametrize(
    "installed", [None, StripeApi("sk_test_x"), StripeApi("sk_test_x", webhook_secrets=("", " "))]
)
def test_without_a_secret_there_is_no_webhook(
    service: Service, installed: StripeApi | None
) -> None:
    stripe_api.install(installed)
    event = an_event()
    body = raw(event)
    for header in (sign(body), sign(body, ""), ""):
        response = post(service, body, header)
        assert response.status_code == 404
        assert response.json()["error"]["message"] == "Webhooks are not set up."
    assert stored(event["id"]) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(service: Service, method: str) -> None:
    assert httpx2.request(method, f"{service.url}/stripe/webhook").status_code == 405


def test_no_origin_is_asked_for(service: Service) -> None:
    body = raw(an_event())
    headers = {"origin": "https://elsewhere.example", "cookie": "purser_session=x"}
    assert post(service, body, sign(body), **headers).status_code == 200


def test_while_the_database_is_away_stripe_is_told_to_come_again(
    service: Service, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Database(
        Settings(database_pooler="transaction"), "postgresql://nobody@127.0.0.1:1/nothing"
    )
    event = an_event()
    body = raw(event)
    monkeypatch.setattr(db, "_database", nowhere)
    try:
        response = post(service, body, sign(body))
    finally:
        monkeypatch.undo()
        nowhere.close()
    assert response.status_code == 503 and response.headers["retry-after"]
    assert stored(event["id"]) is None
    assert post(service, body, sign(body)).status_code == 200


def test_text_that_postgres_cannot_keep_does_not_lose_the_event(service: Service) -> None:
    event = an_event()
    event["data"]["object"]["description"] = "a\0b"
    body = raw(event).replace(b'"currency"', b'"odd": "\\ud800", "rate": NaN, "currency"', 1)
    assert post(service, body, sign(body)).status_code in {200, 400}  # NaN is no JSON
    body = raw(event).replace(b'"currency"', b'"odd": "\\ud800", "currency"', 1)
    assert post(service, body, sign(body)).status_code == 200
    row = stored(event["id"])
    assert row is not None and row.payload["data"]["object"]["description"] == "ab"


def test_a_refusal_shows_neither_the_body_nor_a_secret(service: Service) -> None:
    event = an_event(note="canary-of-the-body")
    response = post(service, raw(event), sign(raw(event), "whsec_wrong"))
    assert "canary" not in response.text and SECRET not in response.text


def test_nothing_but_the_event_is_written(service: Service) -> None:
    def entries() -> int:
        with db.transaction(TESTS) as session:
            return session.execute(text("select count(*) from app.entries")).scalar_one()

    before = entries()
    body = raw(an_event())
    assert post(service, body, sign(body)).status_code == 200
    assert entries() == before
