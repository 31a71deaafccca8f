"""Logs hold facts from an allow-list: never content, never secrets, never an error's own text."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from prometheus_client import CollectorRegistry, Gauge

from core import telemetry

CANARY = "canary-0815-a-secret"


Log = Callable[[], list[dict[str, object]]]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], Log]]:
    """Starts logging as the product does and returns what reads the lines since."""
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def begin() -> Log:
        telemetry.configure("INFO")
        return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    yield begin
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def test_a_field_that_is_not_allowed_is_dropped(logged: Callable[[], Log]) -> None:
    lines = logged()
    structlog.get_logger("t").info("x.done", content=CANARY, call_id="c1")
    (line,) = lines()
    assert line["event"] == "x.done"
    assert line["call_id"] == "c1"
    assert CANARY not in json.dumps(line)


def test_an_exception_is_named_with_its_place_and_without_its_text(
    logged: Callable[[], Log],
) -> None:
    lines = logged()
    try:
        int(CANARY)
    except ValueError as error:
        structlog.get_logger("t").error("x.failed", exc_info=error)
    (line,) = lines()
    assert line["error"] == "ValueError"
    assert str(line["error_at"]).startswith("tests.core.test_telemetry:")
    assert CANARY not in json.dumps(line)


def test_a_librarys_sentence_is_dropped_and_its_place_is_kept(
    logged: Callable[[], Log],
) -> None:
    lines = logged()
    logging.getLogger("some.library").warning("got %s", CANARY)
    sentence = "got " + CANARY
    logging.getLogger("some.library").error(sentence)
    found = lines()
    assert len(found) == 2
    for line in found:
        assert line["name"] == "some.library"
        assert CANARY not in json.dumps(line)


def test_everything_of_a_request_carries_its_id(logged: Callable[[], Log]) -> None:
    lines = logged()
    request_id = telemetry.new_request_id()
    structlog.get_logger("t").info("x.done")
    assert lines()[0]["request_id"] == request_id


def test_an_alarm_is_counted_and_logged(logged: Callable[[], Log]) -> None:
    lines = logged()
    before = telemetry.alarms_total.labels(name="test")._value.get()
    telemetry.alarm("test", call_id="c1")
    assert telemetry.alarms_total.labels(name="test")._value.get() == before + 1
    assert lines()[0]["alarm"] == "test"


def test_what_another_process_logged_is_counted_here(logged: Callable[[], Log]) -> None:
    gauge = Gauge("t_measured", "Of a test", ["name"], registry=CollectorRegistry())
    lines = logged()
    telemetry.measure(gauge, {"a": 2, "b": 0})
    said = next(line for line in lines() if line["event"] == "measured")
    other = Gauge("t_measured", "Of a test", ["name"], registry=CollectorRegistry())
    telemetry.hear(said, {"t_measured": other})
    telemetry.hear({"event": "alarm", "alarm": "t_heard"}, {})
    assert [other.labels(name)._value.get() for name in ("a", "b")] == [2, 0]
    assert telemetry.alarms_total.labels(name="t_heard")._value.get() == 1
