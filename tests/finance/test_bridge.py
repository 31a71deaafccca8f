"""Usage and ledger tie to the nano-USD, however the two date what they book; and a break is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import db, errors
from core.finance import bridge
from core.finance.bridge import Bridge, Leg, Offence
from core.identity.access import Role
from core.periods import Period, following_month, month_of
from tests.analytics.using import colleague, correct, cost_of, use
from tests.billing.books import set_times
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.books import (
    calendar_of,
    close,
    guessed,
    keeper,
    last_month,
    month_before,
    old_place,
    within,
)

pytestmark = pytest.mark.usefixtures("database")
NONE = Leg(0, 0)
CENT = 10**7


def tied(place: Place, period: Period) -> Bridge:
    with db.transaction(TESTS) as session:
        return bridge.read(session, TESTS, place.tenant_id, period)


def test_what_is_used_and_booked_in_one_month_needs_no_leg() -> None:
    place, model = make_place(), make_model()
    for usd in ("0.01", "0.02"):
        use(place.who, model, usd)
    use(place.who, model, cost=cost_of("0"))
    found = tied(place, month_of(calendar_of(place).today()))
    assert found == Bridge(Leg(2, 3 * CENT), Leg(2, 3 * CENT), NONE, NONE)
    assert found.difference_nusd == 0


def test_a_call_that_is_booked_in_the_next_month_is_a_leg_of_both() -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    use(place.who, model, "0.04", at=within(place, month))
    use(place.who, model, "0.01")
    before, now = tied(place, month_of(month)), tied(place, month_of(following_month(month)))
    assert before == Bridge(Leg(1, 4 * CENT), NONE, NONE, Leg(1, 4 * CENT))
    assert now == Bridge(Leg(1, CENT), Leg(2, 5 * CENT), Leg(1, 4 * CENT), NONE)
    assert before.difference_nusd == now.difference_nusd == 0


@pytest.mark.parametrize(("usd", "cents"), [("0.05", 3), ("0.01", -1), ("0.02", 0)])
def test_a_late_truth_is_used_and_booked_when_it_comes(usd: str, cents: int) -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    call = guessed(place, model, within(place, month), "0.02")
    close(place, month, accept_unreconciled=True)
    correct(call, usd)
    leg = Leg(int(cents != 0), cents * CENT)
    now = tied(place, month_of(following_month(month)))
    assert (now.used, now.booked) == (leg, Leg(1 + leg.count, (2 + cents) * CENT))
    assert (now.used_elsewhere, now.booked_elsewhere) == (Leg(1, 2 * CENT), NONE)
    assert now.difference_nusd == 0


def test_several_truths_about_one_call_are_tied_one_by_one(database_url: str) -> None:
    """A bill may say it again: each time one event and one entry, here in three different months."""
    place, model = old_place(), make_model()
    this = calendar_of(place).today().replace(day=1)
    last = month_before(this)
    first = month_before(last)
    call = guessed(place, model, within(place, first), "0.02")
    close(place, first, accept_unreconciled=True)
    correct(call, "0.05")
    with psycopg.connect(database_url) as connection:
        connection.execute("set role app_owner")
        for event, cents in ((within(place, last), 4), (within(place, this), -1)):
            _adjust_again(connection, call.call_id, event, cents)
    # its first credit, the capture, the correction, and the two of the bill
    booked_at = [within(place, first), within(place, last), within(place, first),
                 within(place, this), within(place, this)]  # fmt: skip
    set_times(database_url, place.tenant_id, booked_at)
    found = {month: tied(place, month_of(month)) for month in (first, last, this)}
    assert [one.difference_nusd for one in found.values()] == [0, 0, 0]
    assert [one.used.amount_nusd for one in found.values()] == [2 * CENT, 4 * CENT, 2 * CENT]
    assert [one.booked.amount_nusd for one in found.values()] == [3 * CENT, 2 * CENT, 3 * CENT]
    assert found[last] == Bridge(
        Leg(1, 4 * CENT), Leg(1, 2 * CENT), Leg(1, 2 * CENT), Leg(1, 4 * CENT)
    )


def _adjust_again(
    connection: psycopg.Connection[tuple[object]], call_id: UUID, at: datetime, cents: int
) -> None:
    """One more adjustment of a call and its entry, as the provider's bill books them."""
    connection.execute(
        "insert into app.usage_events(tenant_id, occurred_at, kind, call_id, adjusts_call_id, user_id,"
        " tenant_label_id, user_label_id, source, purpose, provider, model_requested, model_served,"
        " price_id, prompt_tokens, cached_tokens, cache_write_tokens, completion_tokens,"
        " reasoning_tokens, list_nusd, billed_nusd, cost_source, outcome, latency_ms)"
        " select tenant_id, %s, 'adjustment', call_id, call_id, user_id, tenant_label_id,"
        " user_label_id, source, purpose, provider, model_requested, model_served, price_id, 0, 0, 0,"
        " 0, 0, %s, %s, 'provider', outcome, 0 from app.usage_events"
        " where call_id = %s and kind = 'call'",
        (at, cents * CENT, cents * CENT, call_id),
    )
    connection.execute(
        "select verbs.adjust(tenant_id, call_id, %s, %s, 'tests', 'the bill') from app.calls"
        " where call_id = %s",
        (cents * CENT, f"bill:{at}", call_id),
    )


_BOOKED = st.tuples(
    st.integers(0, 89), st.integers(0, 89), st.integers(0, 3), st.none() | st.integers(0, 3)
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(_BOOKED, min_size=1, max_size=6), cut=st.integers(1, 89))
def test_any_dates_tie_and_periods_leave_nothing_out(
    database_url: str, calls: list[tuple[int, int, int, int | None]], cut: int
) -> None:
    place, model = make_place(time_zone="Pacific/Kiritimati"), make_model()
    first = calendar_of(place).today() - timedelta(days=90)
    begins = calendar_of(place).start_of(first)
    times = [begins - timedelta(days=1)]  # of the tenant's first credit
    billed = 0
    for opened, booked, cents, truth in calls:
        call = use(
            place.who, model, at=begins + timedelta(days=opened),
            cost=cost_of(f"0.0{cents}", lookup=truth is not None),
        )  # fmt: skip
        times += [begins + timedelta(days=booked)] * bool(cents)
        if truth is not None:
            correct(call, f"0.0{truth}")
            times += [begins + timedelta(days=(booked + 7) % 90)] * (truth != cents)
        billed += (cents if truth is None else truth) * CENT
    set_times(database_url, place.tenant_id, times)
    middle = first + timedelta(days=cut)
    parts = (Period(first, middle - timedelta(days=1)), Period(middle, first + timedelta(days=90)))
    found = [tied(place, part) for part in parts]
    assert [one.difference_nusd for one in found] == [0, 0]
    assert sum(one.used.amount_nusd for one in found) == billed
    assert sum(one.booked.amount_nusd for one in found) == billed
    whole = tied(place, Period(parts[0].first, parts[1].last))
    assert (whole.used_elsewhere, whole.booked_elsewhere) == (NONE, NONE)
    assert whole.difference_nusd == 0


BREAKS = {
    "an entry is missing": (
        "delete from app.entries where kind = 'capture' and call_id = %(call)s", (2, 0),
    ),
    "a debit has no usage": (
        "delete from app.usage_events where call_id = %(call)s", (0, 2),
    ),
    "the two differ": (
        "update app.entries set amount_nusd = -5 where kind = 'capture' and call_id = %(call)s",
        (2, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BREAKS))
@pytest.mark.parametrize("late", [False, True])
def test_a_break_is_a_difference_and_named(database_url: str, name: str, late: bool) -> None:
    place, model = make_place(), make_model()
    month = last_month(place)
    use(place.who, model, "0.07", at=within(place, month))
    used_at = within(place, month if late else following_month(month))
    call = use(place.who, model, "0.02", at=used_at)
    statement, (used, booked) = BREAKS[name]
    with psycopg.connect(database_url) as connection:  # no verb can break the books
        connection.execute("set session_replication_role = replica")
        connection.execute(statement, {"call": call.call_id})
    used_nusd, booked_nusd = used * CENT, 5 if booked is None else booked * CENT
    of = month_of(following_month(month))
    if late and name != "a debit has no usage":
        of = month_of(month)  # there the usage is that the ledger does not explain
    assert tied(place, of).difference_nusd == used_nusd - booked_nusd
    with db.transaction(TESTS) as session:
        found = bridge.offences(session, TESTS, place.tenant_id, of)
    assert found == (Offence(call.call_id, "call", used_nusd, booked_nusd),)


def test_only_who_keeps_the_books_reads_it() -> None:
    place, other = make_place(), make_place()
    use(place.who, make_model(), "0.01")
    period = month_of(calendar_of(place).today())
    for who in (keeper(place), keeper(place, Role.ADMIN)):
        with db.transaction(who) as session:
            assert bridge.read(session, who, place.tenant_id, period).used == Leg(1, CENT)
    for who, refusal in (
        (colleague(place), errors.Forbidden), (keeper(other), errors.NotFound),
        (replace(keeper(place), key_id=db.new_id()), errors.Forbidden),
    ):  # fmt: skip
        with pytest.raises(refusal), db.transaction(who) as session:
            bridge.read(session, who, place.tenant_id, period)
        with pytest.raises(refusal), db.transaction(who) as session:
            bridge.offences(session, who, place.tenant_id, period)


def test_an_empty_period_ties() -> None:
    place = make_place()
    found = tied(place, Period(date(2020, 1, 1), date(2020, 1, 31)))
    assert found == Bridge(NONE, NONE, NONE, NONE) and found.difference_nusd == 0
