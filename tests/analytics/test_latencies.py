"""core/analytics/latencies.py"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core import db
from core.analytics import latencies
from core.analytics.latencies import Latency, Percentiles
from core.analytics.selection import Group, Selection
from core.identity.access import Operator
from core.periods import Period, last_days
from tests.analytics.using import correct, cost_of, use
from tests.factories import make_model, make_place

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = Operator(db.new_id(), "ops@example.com", "Ops")


def recent(days: int = 30) -> Selection:
    return Selection(last_days(days, datetime.now(UTC).date()))


def test_percentiles_are_times_that_some_call_took() -> None:
    who, model = make_place().who, make_model()
    for number in range(1, 21):
        use(who, model, "0.0001", latency_ms=number * 100, first_token_ms=number * 10)
    with db.transaction(who) as session:
        found = latencies.overall(session, who, recent())
    assert found.latency == Latency(
        None, 20, Percentiles(100, 190, 200), Percentiles(1_000, 1_900, 2_000)
    )
    assert found.period == recent().period


def test_failed_calls_and_corrections_do_not_count() -> None:
    who, model = make_place().who, make_model()
    use(who, model, latency_ms=100, first_token_ms=10)
    use(who, model, latency_ms=60_000, first_token_ms=None, outcome="timeout")
    use(who, model, latency_ms=50_000, first_token_ms=40_000, outcome="error")
    correct(use(who, model, cost=cost_of("0.001", lookup=True), latency_ms=100), "0.002")
    with db.transaction(who) as session:
        found = latencies.overall(session, who, recent()).latency
    assert found.calls == 2
    assert found.duration == Percentiles(100, 100, 100)


def test_calls_that_never_streamed_have_a_duration_only() -> None:
    who = make_place().who
    use(who, make_model(), latency_ms=100, first_token_ms=None)
    with db.transaction(who) as session:
        found = latencies.overall(session, who, recent()).latency
    assert (found.first_token, found.duration) == (None, Percentiles(100, 100, 100))


def test_each_model_has_its_own_the_busiest_first() -> None:
    who, busy, idle = make_place().who, make_model(), make_model()
    for model, latency_ms in ((busy, 100), (busy, 300), (idle, 5_000)):
        use(who, model, "0.001", latency_ms=latency_ms)
    with db.transaction(who) as session:
        rows = latencies.by(session, who, recent(), Group.MODEL).rows
        by_provider = latencies.by(session, who, recent(), Group.PROVIDER).rows
        narrowed = latencies.by(session, who, recent().only(Group.MODEL, idle), Group.MODEL).rows
    assert [(row.value, row.calls, row.duration) for row in rows] == [
        (busy, 2, Percentiles(100, 300, 300)), (idle, 1, Percentiles(5_000, 5_000, 5_000)),
    ]  # fmt: skip
    assert [(row.value, row.calls) for row in by_provider] == [("openrouter", 3)]
    assert narrowed == rows[1:]


def test_without_calls_there_is_no_time() -> None:
    who = make_place().who
    with db.transaction(who) as session:
        assert latencies.overall(session, who, recent()).latency == Latency(None, 0, None, None)
        assert latencies.by(session, who, recent(), Group.MODEL).rows == ()


def test_over_all_tenants_a_month_is_read_and_said() -> None:
    today = datetime.now(UTC).date()
    long, ahead = recent(200), Period(today - timedelta(days=60), today + timedelta(days=60))
    place = make_place(role="admin")
    with db.transaction(OPERATOR) as session:
        assert latencies.overall(session, OPERATOR, long).period == last_days(31, today)
        found = latencies.by(session, OPERATOR, long.within(ahead), Group.MODEL)
        assert found.period == last_days(31, today)
        one = long.only(Group.TENANT, place.tenant_id)
        assert latencies.overall(session, OPERATOR, one).period == long.period
    with db.transaction(place.who) as session:
        assert latencies.overall(session, place.who, long).period == long.period
