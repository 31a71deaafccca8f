"""core/clock.py: a process whose clock is wrong knows it, says so, and still dates rightly"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx2
import pytest
from sqlalchemy import text

from core import clock, db, telemetry
from core.billing.stripe_api.connection import _untimely
from core.db import Database, System
from tests import days
from tests.processes import AppProcess

WHO = System("clock tests")


@pytest.fixture(autouse=True)
def _clock_of_before() -> Iterator[None]:
    yield
    clock._Offset.seconds, clock._Offset.is_apart = 0.0, False


def _compare() -> None:
    with db.transaction(WHO) as session:
        clock.compare(session)


def _off_by(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """This process's clock is wrong; the database's and the one that measures durations are not."""
    real = time.time
    monkeypatch.setattr(clock.time, "time", lambda: real() + seconds)


def test_clocks_that_agree_change_nothing(database: Database) -> None:
    _compare()
    assert (clock.offset_s(), clock.is_apart()) == (0.0, False)
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 1


@pytest.mark.parametrize("seconds", [-600.0, -31.0, 31.0, 600.0, 86_400.0])
def test_a_clock_that_is_wrong_is_noticed_and_reckoned_with(
    database: Database, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    alarms = telemetry.alarms_total.labels(name="clock_apart")
    before = alarms._value.get()
    _off_by(monkeypatch, seconds)
    for _ in range(3):
        _compare()
    assert clock.offset_s() == pytest.approx(-seconds, abs=1)
    assert clock.is_apart()
    assert alarms._value.get() == before + 1  # once, not every minute
    with db.transaction(WHO) as session:
        theirs = session.execute(text("select extract(epoch from clock_timestamp())")).scalar_one()
    assert clock.time_s() == pytest.approx(float(theirs), abs=1)


def test_a_few_seconds_are_reckoned_with_and_no_alarm(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _off_by(monkeypatch, 12)
    _compare()
    assert clock.offset_s() == pytest.approx(-12, abs=1)
    assert not clock.is_apart()


@pytest.mark.parametrize("seconds", [-600.0, 600.0])
def test_an_event_signed_now_is_timely_whatever_this_clock_says(
    database: Database, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    signed_at = int(time.time())
    _off_by(monkeypatch, seconds)
    assert _untimely(signed_at) is not None  # as it was: refused
    _compare()
    assert _untimely(signed_at) is None
    assert _untimely(signed_at - 400) == "too_old"
    assert _untimely(signed_at + 400) == "in_the_future"


@pytest.fixture(scope="module")
def wrong_app(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """A real process whose wall clock is ten minutes ahead of its database's."""
    folder = tmp_path_factory.mktemp("wrong")
    library = days._build(folder / "clock_offset.so")
    environment = {
        "DATABASE_URL": database_url, "LD_PRELOAD": str(library), "CLOCK_OFFSET_S": "600",
        "RUN_WORKER": "false",
    }  # fmt: skip
    app = AppProcess(folder, environment)
    app.wait_ready = lambda seconds=60: _wait_alive(app)  # type: ignore[method-assign]
    with app:
        yield app


def _wait_alive(app: AppProcess) -> None:
    deadline = time.monotonic() + 60
    while app.status("/livez") != 200:
        assert time.monotonic() < deadline, app.tail()
        time.sleep(0.2)


@pytest.mark.faults
def test_a_real_process_ten_minutes_off_is_not_ready_and_says_why(wrong_app: AppProcess) -> None:
    ready = httpx2.get(f"{wrong_app.url}/readyz")
    assert ready.status_code == 503
    failed = [name for name, state in ready.json()["checks"].items() if state != "ok"]
    assert failed == ["clock"]
    shown = httpx2.get(f"{wrong_app.url}/metrics").text
    assert 'purser_alarms_total{name="clock_apart"} 1.0' in shown
    (line,) = [row for row in shown.splitlines() if row.startswith("purser_clock_offset_seconds ")]
    assert float(line.split()[1]) == pytest.approx(-600, abs=2)
