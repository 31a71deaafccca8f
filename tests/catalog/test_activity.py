"""Asking what days cost: exact amounts, odd rows refused whole, and every way of no answer named."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest

from core import errors
from core.catalog import activity
from core.catalog.activity import ActivityRow
from tests.upstream import Script, Upstream

KEY = "sk-or-v1-management"
ROW: dict[str, object] = {
    "date": "2026-11-18", "model": "acme/one", "model_permaslug": "acme/one-20260414",
    "endpoint_id": "550e8400-e29b-41d4-a716-446655440000", "provider_name": "Acme",
    "usage": Decimal("0.015"), "byok_usage_inference": 0, "requests": 5, "prompt_tokens": 50,
    "completion_tokens": 125, "reasoning_tokens": 25,
}  # fmt: skip
READ = ActivityRow(date(2026, 11, 18), "acme/one", 5, 175, Decimal("0.015"))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


def script(status: str, body: bytes, **changes: object) -> Script:
    return Script(f"HTTP/1.1 {status}", ("Content-Type: application/json",), (body,), **changes)  # type: ignore[arg-type]


def answer(row: dict[str, object]) -> Script:
    return script("200 OK", json.dumps({"data": [row]}).encode())


def refusal(upstream: Upstream) -> errors.Refusal:
    with pytest.raises(errors.Refusal) as refused:
        activity.read(upstream.url, KEY)
    assert KEY not in repr(refused.value) and refused.value.__cause__ is None
    assert refused.value.__context__ is None
    return refused.value


def test_a_day_is_asked_for_with_the_management_key(upstream: Upstream) -> None:
    upstream.list_activity([ROW, ROW | {"date": "2026-11-17"}])
    assert activity.read(upstream.url, KEY, day=date(2026, 11, 18)) == (READ,)
    (request,) = upstream.requests
    assert request.path == "/api/v1/activity?date=2026-11-18"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert len(activity.read(upstream.url, KEY)) == 2
    assert upstream.requests[1].path == "/api/v1/activity"


def test_amounts_are_read_as_written_and_the_upstreams_part_is_added(upstream: Upstream) -> None:
    usage, upstreams = "900000.00000000000000000000001", "0.000000000000000000000000000002"
    row = ROW | {"usage": Decimal(usage), "byok_usage_inference": Decimal(upstreams)}
    upstream.list_activity([row])
    (found,) = activity.read(upstream.url, KEY)
    assert str(found.cost_usd) == "900000.000000000000000000000010000002"


@pytest.mark.parametrize(
    "change",
    [
        {"date": "2026-11-18 00:00:00"}, {"date": "2026-11-18T00:00:00.000Z"},
        {"something_new": {"a": [1]}}, {"byok_usage_inference": None}, {"requests": 5.0},
        {"usage": "0.015"}, {"reasoning_tokens": -5},
    ],
)  # fmt: skip
def test_what_may_vary_is_read_all_the_same(upstream: Upstream, change: dict[str, object]) -> None:
    upstream.play_activity(answer({**ROW, "usage": 0.015, **change}))
    assert activity.read(upstream.url, KEY) == (READ,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("date", None), ("date", "18.11.2026"), ("date", "2026-02-30"), ("date", "2026-11-18x"),
        ("usage", None), ("usage", -0.1), ("usage", True), ("usage", 2_000_000), ("usage", "x"),
        ("usage", [1]), ("requests", None), ("requests", -1), ("requests", 1.5),
        ("requests", 10**13), ("requests", "5"), ("prompt_tokens", -1), ("completion_tokens", "x"),
        ("byok_usage_inference", -1), ("byok_usage_inference", ""),
    ],
)  # fmt: skip
def test_one_absurd_row_refuses_the_whole_answer(
    upstream: Upstream, field: str, value: object
) -> None:
    good, bad = {**ROW, "usage": 0.015}, {**ROW, "usage": 0.015, field: value}
    upstream.play_activity(script("200 OK", json.dumps({"data": [good, bad]}).encode()))
    refused = refusal(upstream)
    assert refused.code == "provider_error"
    assert f"row 2, {field}" in refused.message


def test_a_row_without_any_name_of_a_model_is_refused(upstream: Upstream) -> None:
    upstream.play_activity(answer({**ROW, "usage": 1, "model": "", "model_permaslug": "a\x00b"}))
    assert "row 1, model" in refusal(upstream).message


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("401 Unauthorized", "provider_unavailable"), ("403 Forbidden", "provider_unavailable"),
        ("429 Too Many Requests", "provider_overloaded"), ("503 Busy", "provider_overloaded"),
        ("504 Late", "provider_timeout"), ("500 Oops", "provider_error"), ("404 No", "provider_error"),
        ("302 Found", "provider_error"),
    ],
)  # fmt: skip
def test_every_status_has_its_refusal(upstream: Upstream, status: str, code: str) -> None:
    upstream.play_activity(script(status, b'{"error": {"message": "secret words"}}'))
    refused = refusal(upstream)
    assert (refused.code, "secret" in refused.message) == (code, False)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"null", b'{"data": null}', b'{"data": {}}', b'{"data": [1]}',
        b'{"data": [', b"\xff\xfe", b"[" * 100_000, b'{"data": [{"usage": NaN}]}',
        b'{"data": [{"usage": 1e999999999}]}',
    ],
)  # fmt: skip
def test_garbage_is_refused(upstream: Upstream, body: bytes) -> None:
    upstream.play_activity(script("200 OK", body))
    assert refusal(upstream).code == "provider_error"


def test_silence_ends_at_the_deadline(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_READ_S", 0.2)
    upstream.play_activity(script("200 OK", b"{}", delay_s=5))
    began = time.monotonic()
    assert refusal(upstream).code == "provider_timeout"
    assert time.monotonic() - began < 3


def test_an_answer_that_drips_ends_at_the_deadline_too(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "_TOTAL_S", 0.3)
    upstream.play_activity(Script("HTTP/1.1 200 OK", (), (b" ",) * 200, gap_s=0.05))
    assert refusal(upstream).code == "provider_timeout"


def test_an_answer_without_end_is_refused(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "_ANSWER_BYTES_MAX", 1_000)
    upstream.play_activity(script("200 OK", b" " * 5_000))
    assert "too long" in refusal(upstream).message


@pytest.mark.parametrize("ending", ["reset", "drop"])
def test_a_broken_connection_is_named(upstream: Upstream, ending: str) -> None:
    upstream.play_activity(script("200 OK", b'{"data"', ending=ending))
    assert refusal(upstream).code == "provider_error"


def test_nobody_there() -> None:
    with pytest.raises(errors.ProviderFailed, match="not reached"):
        activity.read("http://127.0.0.1:9", KEY)
