"""`reconcile --day`: a closed UTC day against the provider's bill, and its exit status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from core import db
from core.finance.bills import received
from core.finance.bills.rows import DayRow
from tests.analytics.using import use
from tests.core.cli import Run
from tests.factories import TESTS, make_model, make_place
from tests.upstream import Upstream

DAY = datetime.now(UTC).date() - timedelta(days=777)


def at_noon() -> datetime:
    return datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)


def bill(*rows: DayRow) -> None:
    with db.transaction(TESTS) as session:
        received.replace_days(session, "openrouter", [DAY], rows, "upload")


def test_it_exits_with_one_beyond_one_percent_and_with_nothing_within(run: Run) -> None:
    model = make_model()
    use(make_place().who, model, "1.5", at=at_noon())
    bill(DayRow(DAY, model, 1, 150, Decimal("1.5")))
    same = run("reconcile", "--day", str(DAY), "--json")
    assert same.status == 0
    assert same.facts["differs"] is False
    bill(DayRow(DAY, model, 2, 300, Decimal("2.5")))
    other = run("reconcile", "--day", str(DAY), "--json")
    assert other.status == 1
    facts = other.facts
    assert (facts["day"], facts["ours_usd"], facts["theirs_usd"], facts["difference_usd"]) == (
        str(DAY), "1.5", "2.5", "1.0",
    )  # fmt: skip
    assert facts["models"] == [
        {
            "model": model, "ours_usd": "1.5", "ours_requests": 1, "theirs_usd": "2.5",
            "theirs_requests": 2, "cause": "unrecorded",
        }
    ]  # fmt: skip
    spoken = run("reconcile", "--day", str(DAY))
    assert spoken.status == 1
    assert "they differ" in spoken.out
    assert "calls that we did not record" in spoken.err


@pytest.mark.parametrize(
    "day", ["yesterday", "2026-02-30", "2999-01-01", str(datetime.now(UTC).date()), "2025-01-01"]
)
def test_a_day_without_a_bill_or_an_end_cannot_be_compared(day: str, run: Run) -> None:
    answer = run("reconcile", "--day", day)
    assert (answer.status, answer.out) == (2, "")


def test_a_provider_that_refuses_the_key_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    with Upstream() as upstream:
        monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", "sk-or-management")
        monkeypatch.setenv("OPENROUTER_BASE_URL", upstream.url)
        upstream.list_activity([])
        from_provider = run("reconcile", "--day", str(yesterday), "--json")
        upstream.refuse_connections()
        refused = run("reconcile", "--day", str(yesterday))
    assert from_provider.facts["theirs_usd"] == "0"
    assert (refused.status, refused.out) == (1, "")
    assert "not reached" in refused.err
