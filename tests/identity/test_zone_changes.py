"""A change of time zone, from being asked for to the calls on both sides of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from core import db, errors
from core.identity import limits, terms, zones
from core.identity.access import Actor
from core.identity.limits import LimitName, Subject
from core.identity.tables import ZoneChange
from core.identity.zones import Calendar, Span
from core.metering import rollups
from core.metering.tables import UsageDay, UsageEvent
from core.periods import following_month
from core.quota import standing
from core.quota.tables import Counter
from tests.analytics.using import use
from tests.factories import TESTS, Place, make_model, make_place
from tests.identity.clocks import zone_names
from tests.identity.people import audit_rows, change

pytestmark = pytest.mark.usefixtures("database")

BERLIN, NEW_YORK, KIRITIMATI, MIDWAY = (
    "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Pacific/Midway",
)  # fmt: skip
HOUR = timedelta(hours=1)
AROUND = (-26 * HOUR, -HOUR, timedelta(seconds=-1), timedelta(0), timedelta(seconds=1), 13 * HOUR)


def _ask(who: Actor, tenant_id: UUID, zone: str) -> Span | None:
    with db.transaction(who) as session:
        return terms.set_time_zone(session, who, tenant_id, zone)


def _calendar(tenant_id: UUID) -> Calendar:
    with db.transaction(TESTS) as session:
        return zones.calendar_of(session, tenant_id)


def _asked_last_month(place: Place, old: str, new: str) -> Span:
    """The change as it is now when it was asked for within the last month of the old zone."""
    calendar = Calendar.of_zone(old)
    now = datetime.now(UTC)
    first = calendar.day_of(now).replace(day=1)
    span = zones.next_change(calendar, new, calendar.start_of(first) - 100 * HOUR)
    assert (span.starts_on, span.starts_at) == (first, calendar.start_of(first))
    with db.transaction(TESTS) as session:
        session.add(
            ZoneChange(
                tenant_id=place.tenant_id, starts_on=span.starts_on, starts_at=span.starts_at,
                time_zone=new,
            )
        )  # fmt: skip
    return span


def test_it_takes_effect_with_the_next_month_and_changes_nothing_before() -> None:
    place = make_place(role="admin", time_zone=BERLIN)
    before = standing.of_member(place.who, None)
    span = _ask(place.who, place.tenant_id, NEW_YORK)
    assert span == zones.next_change(Calendar.of_zone(BERLIN), NEW_YORK, datetime.now(UTC))
    after = standing.of_member(place.who, None)
    assert (after.time_zone, after.period, after.period_ends) == (
        BERLIN, before.period, before.period_ends,
    )  # fmt: skip
    assert span is not None
    assert span.starts_at == before.period_ends
    assert span.starts_on == following_month(before.period)
    calendar = _calendar(place.tenant_id)
    assert calendar.coming(datetime.now(UTC)) == span
    assert calendar.said(datetime.now(UTC)) == f"{BERLIN}, from {span.starts_on:%b} 1: {NEW_YORK}"
    assert calendar.said(span.starts_at) == NEW_YORK


def test_a_second_change_replaces_the_first_and_the_zone_in_force_takes_it_back() -> None:
    place = make_place(role="admin", time_zone=BERLIN)
    _ask(place.who, place.tenant_id, NEW_YORK)
    _ask(TESTS, place.tenant_id, KIRITIMATI)
    assert [span.time_zone for span in _calendar(place.tenant_id).spans] == [BERLIN, KIRITIMATI]
    assert _ask(place.who, place.tenant_id, BERLIN) is None
    assert _calendar(place.tenant_id) == Calendar.of_zone(BERLIN)
    with pytest.raises(errors.BadInput, match="Europe/Berlin already"):
        _ask(place.who, place.tenant_id, BERLIN)
    acted = [row[:2] for row in audit_rows(f"tenant:{place.tenant_id}")]
    assert acted[1:] == [("tenant.time_zone", "done")] * 3


def test_a_change_that_took_effect_is_never_replaced() -> None:
    place = make_place(role="admin", time_zone=BERLIN)
    _asked_last_month(place, BERLIN, NEW_YORK)
    _ask(place.who, place.tenant_id, BERLIN)
    spans = _calendar(place.tenant_id).spans
    assert [span.time_zone for span in spans] == [BERLIN, NEW_YORK, BERLIN]
    assert spans[2].starts_at == standing.of_member(place.who, None).period_ends


@pytest.mark.parametrize("zone", ["Mars/Base", "", "localtime", "europe/berlin", "../passwd"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    place = make_place(role="admin")
    with pytest.raises(errors.BadInput):
        _ask(place.who, place.tenant_id, zone)
    assert _calendar(place.tenant_id) == Calendar.of_zone("UTC")


@pytest.mark.parametrize("role", ["member", "finance"])
def test_only_admins_change_it_and_an_attempt_is_logged(role: str) -> None:
    place = make_place(role=role)
    with pytest.raises(errors.Forbidden):
        _ask(place.who, place.tenant_id, BERLIN)
    assert audit_rows(f"tenant:{place.tenant_id}")[-1][:2] == ("tenant.time_zone", "denied")
    with db.transaction(place.who) as session, pytest.raises(errors.Forbidden):
        terms.of_tenant(session, place.who, place.tenant_id)


def test_another_tenants_zone_is_as_missing_as_an_unknown_ones() -> None:
    place, other = make_place(role="admin"), make_place()
    for tenant_id in (other.tenant_id, uuid4()):
        with pytest.raises(errors.NotFound, match="no such tenant"):
            _ask(place.who, tenant_id, BERLIN)
        with db.transaction(place.who) as session, pytest.raises(errors.NotFound):
            terms.of_tenant(session, place.who, tenant_id)
    with pytest.raises(errors.NotFound, match="no such tenant"):
        _ask(TESTS, uuid4(), BERLIN)
    assert _calendar(other.tenant_id) == Calendar.of_zone("UTC")


def test_the_web_role_plans_only_for_its_own_tenant() -> None:
    place, other = make_place(), make_place()
    with db.transaction(place.who) as session:
        session.execute(
            text("select * from verbs.change_zone(:t, :z)"), {"t": other.tenant_id, "z": BERLIN}
        )
    assert _calendar(other.tenant_id) == Calendar.of_zone("UTC")
    assert _calendar(place.tenant_id).spans[1].time_zone == BERLIN
    with db.transaction(db.Reader()) as session:
        nobody = session.execute(
            text("select zone from verbs.change_zone(:t, :z)"), {"t": other.tenant_id, "z": BERLIN}
        )
        assert nobody.scalar_one() is None


def test_an_admin_sees_the_terms_but_not_the_markup() -> None:
    place = make_place(role="admin", markup="0.25", time_zone=BERLIN)
    with db.transaction(place.who) as session:
        own = terms.of_tenant(session, place.who, place.tenant_id)
    with db.transaction(TESTS) as session:
        all_of_it = terms.of_tenant(session, TESTS, place.tenant_id)
    assert own.markup is None
    assert str(all_of_it.markup) == "0.250000"
    assert own.calendar == all_of_it.calendar == Calendar.of_zone(BERLIN)


@pytest.mark.parametrize(
    ("old", "new"),
    [(BERLIN, NEW_YORK), (NEW_YORK, BERLIN), (MIDWAY, KIRITIMATI), (KIRITIMATI, MIDWAY)],
)
def test_calls_on_both_sides_have_one_day_each_and_no_ended_month_grows(old: str, new: str) -> None:
    place, model = make_place(time_zone=old), make_model()
    span = _asked_last_month(place, old, new)
    calendar = _calendar(place.tenant_id)
    moments = [span.starts_at + offset for offset in AROUND]
    for number, at in enumerate(moments, 1):
        use(place.who, model, f"0.{number:03}", at=at)
    with db.transaction(TESTS) as session:
        events = session.scalars(
            select(UsageEvent).where(UsageEvent.tenant_id == place.tenant_id)
        ).all()
        days = {
            day.day: day.billed_nusd
            for day in session.scalars(
                select(UsageDay).where(UsageDay.tenant_id == place.tenant_id)
            )
        }
    by_day: dict[date, int] = {}
    for event in events:
        day = calendar.day_of(event.occurred_at)
        by_day[day] = by_day.get(day, 0) + event.billed_nusd
        assert (day >= span.starts_on) == (event.occurred_at >= span.starts_at)
    assert len(events) == len(moments)
    assert days == by_day
    with db.transaction(TESTS) as session:
        rollups.rebuild(session, tenant_id=place.tenant_id)
        again = session.scalars(select(UsageDay).where(UsageDay.tenant_id == place.tenant_id)).all()
    assert {day.day: day.billed_nusd for day in again} == days


def test_after_the_switch_counters_and_resets_are_those_of_the_new_zone() -> None:
    place, model = make_place(time_zone=MIDWAY), make_model()
    _asked_last_month(place, MIDWAY, KIRITIMATI)
    now = datetime.now(UTC)
    calendar = _calendar(place.tenant_id)
    month = calendar.day_of(now).replace(day=1)
    use(place.who, model, "0.25")
    found = standing.of_member(place.who, model)
    assert (found.time_zone, found.period) == (KIRITIMATI, month)
    assert found.period_ends == calendar.start_of(following_month(month))
    with db.transaction(TESTS) as session:
        counters = session.scalars(
            select(Counter).where(Counter.tenant_id == place.tenant_id)
        ).all()
        limits.set_limit(
            session, TESTS, place.tenant_id, Subject.TENANT, place.tenant_id,
            LimitName.MONTHLY_NUSD, 260_000_000,
        )  # fmt: skip
    assert {(counter.period, counter.spent_nusd) for counter in counters} == {(month, 250_000_000)}
    expensive = make_model(terms={"prompt": "0.001", "completion": "0.001"})
    with pytest.raises(errors.BudgetReached, match=KIRITIMATI) as refused:
        use(place.who, expensive)
    assert refused.value.resets_at == calendar.start_of(following_month(month))


def test_until_the_switch_a_refusal_names_the_moment_the_old_month_ends() -> None:
    place, model = make_place(role="admin", time_zone=BERLIN), make_model()
    span = _ask(place.who, place.tenant_id, NEW_YORK)
    assert span is not None
    with db.transaction(TESTS) as session:
        limits.set_limit(
            session, TESTS, place.tenant_id, Subject.TENANT, place.tenant_id,
            LimitName.MONTHLY_NUSD, 1_000,
        )  # fmt: skip
    with pytest.raises(errors.BudgetReached, match=BERLIN) as refused:
        use(place.who, model)
    assert refused.value.resets_at == span.starts_at


@pytest.fixture(scope="module")
def moving(database: db.Database) -> Place:
    return make_place()


@settings(max_examples=40)
@given(
    old=zone_names, new=zone_names, months_ago=st.integers(1, 30),
    offsets=st.lists(st.integers(-3 * 86_400, 3 * 86_400), min_size=1, max_size=12),
)  # fmt: skip
def test_in_any_zones_the_days_never_overlap_and_none_is_split(
    moving: Place, old: str, new: str, months_ago: int, offsets: list[int]
) -> None:
    calendar = Calendar.of_zone(old)
    asked = datetime.now(UTC) - timedelta(days=30 * months_ago)
    span = zones.next_change(calendar, new, asked)
    change("update app.tenants set first_time_zone = :zone where tenant_id = :tenant",
           zone=old, tenant=moving.tenant_id)  # fmt: skip
    change("delete from app.zone_changes where tenant_id = :tenant", tenant=moving.tenant_id)
    change("insert into app.zone_changes(tenant_id, starts_on, starts_at, time_zone)"
           " values (:tenant, :on, :at, :zone)",
           tenant=moving.tenant_id, on=span.starts_on, at=span.starts_at, zone=new)  # fmt: skip
    both = _calendar(moving.tenant_id)
    moments = sorted(span.starts_at + timedelta(seconds=seconds) for seconds in (*offsets, -1, 0))
    days = [both.day_of(at) for at in moments]
    assert days == sorted(days)
    for at, day in zip(moments, days, strict=True):
        assert (day >= span.starts_on) == (at >= span.starts_at)
        assert both.start_of(day) <= at < both.start_of(day + timedelta(days=1))
    with db.transaction(TESTS) as session:
        said = session.execute(
            text("select verbs.day_of(:tenant, at) from unnest(cast(:moments as timestamptz[]))"
                 " with ordinality as m(at, n) order by n"),
            {"tenant": moving.tenant_id, "moments": moments},
        ).scalars().all()  # fmt: skip
    assert said == days


@settings(max_examples=25)
@given(old=zone_names, new=zone_names)
def test_the_database_plans_what_the_calendar_says(moving: Place, old: str, new: str) -> None:
    change("delete from app.zone_changes where tenant_id = :tenant", tenant=moving.tenant_id)
    change("update app.tenants set first_time_zone = :zone where tenant_id = :tenant",
           zone=old, tenant=moving.tenant_id)  # fmt: skip
    with db.transaction(TESTS) as session:
        planned = session.execute(
            text("select zone, starts_on, starts_at from verbs.change_zone(:tenant, :zone)"),
            {"tenant": moving.tenant_id, "zone": new},
        ).one()
    span = zones.next_change(Calendar.of_zone(old), new, datetime.now(UTC))
    expected = (None, None) if old == new else (span.starts_on, span.starts_at)
    assert (planned.zone, planned.starts_on, planned.starts_at) == (old, *expected)
