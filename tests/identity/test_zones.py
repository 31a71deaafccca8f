"""core/identity/zones.py and zones.sql: every moment has exactly one day, and both say the same one."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import db, errors
from core.identity import zones
from core.identity.zones import Calendar, Span
from core.periods import Period, following_month, month_of
from tests.factories import TESTS, make_place
from tests.identity.clocks import zone_names

pytestmark = pytest.mark.usefixtures("database")

_FIRST, _LAST = datetime(2015, 1, 1), datetime(2035, 1, 1)  # noqa: DTZ001 - hypothesis adds the zone
_MOMENT = timedelta(microseconds=1)

moments = st.datetimes(_FIRST, _LAST, timezones=st.just(UTC))
days = st.dates(_FIRST.date(), _LAST.date())


changes = st.lists(st.tuples(zone_names, moments), max_size=4)


def calendar_with(first: str, asked: Sequence[tuple[str, datetime]]) -> Calendar:
    """The calendar of a tenant that asked for other zones at these moments."""
    calendar = Calendar.of_zone(first)
    for zone, at in sorted(asked, key=lambda change: change[1]):
        span = zones.next_change(calendar, zone, at)
        if at >= calendar.spans[-1].starts_at:  # one change at a time
            calendar = Calendar((*calendar.spans, span))
    return calendar


class Books:
    """A tenant in the database whose calendar is set for one example and forgotten after it."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self.tenant_id = make_place().tenant_id
        self.connection = connection

    def put(self, calendar: Calendar) -> None:
        """Give the tenant this calendar until the next one."""
        self.connection.rollback()
        first, *changed = calendar.spans
        self.connection.execute(
            "update app.tenants set first_time_zone = %s where tenant_id = %s",
            (first.time_zone, self.tenant_id),
        )
        for span in changed:
            self.connection.execute(
                "insert into app.zone_changes(tenant_id, starts_on, starts_at, time_zone)"
                " values (%s, %s, %s, %s)",
                (self.tenant_id, span.starts_on, span.starts_at, span.time_zone),
            )

    def read(self, at: datetime) -> tuple[object, ...]:
        """Zone, day, month and the month's end of a moment, as SQL says."""
        row = self.connection.execute(
            "select verbs.zone_of(t, at), verbs.day_of(t, at), verbs.month_of(t, at),"
            " verbs.month_ends(t, at) from (select %s::uuid as t, %s::timestamptz as at) as asked",
            (self.tenant_id, at),
        ).fetchone()
        assert row is not None
        return row

    def midnight(self, day: date, time_zone: str) -> object:
        """The first moment of a day, as SQL says."""
        row = self.connection.execute("select verbs.midnight(%s, %s)", (day, time_zone)).fetchone()
        return row[0] if row else None


@pytest.fixture(scope="module")
def books(database_url: str, database: object) -> Iterator[Books]:
    with psycopg.connect(database_url) as connection:
        yield Books(connection)
        connection.rollback()


@given(zone_names, changes, st.lists(moments, min_size=1, max_size=10))
@example("Antarctica/Casey", [], [datetime(2020, 3, 7, 14, tzinfo=UTC)])
@example(
    "Pacific/Niue",
    [("Pacific/Kiritimati", datetime(2026, 1, 31, tzinfo=UTC))],
    [datetime(2026, 2, 1, 11, tzinfo=UTC) - _MOMENT, datetime(2026, 2, 1, 11, tzinfo=UTC)],
)
@example(
    "Pacific/Kiritimati",
    [("Pacific/Niue", datetime(2026, 1, 31, 9, tzinfo=UTC))],
    [datetime(2026, 1, 31, 10, tzinfo=UTC) - _MOMENT, datetime(2026, 1, 31, 10, tzinfo=UTC)],
)
def test_python_and_sql_give_a_moment_the_same_day_and_month(
    books: Books, first: str, asked: list[tuple[str, datetime]], at: list[datetime]
) -> None:  # fmt: skip
    calendar = calendar_with(first, asked)
    books.put(calendar)
    edges = [
        edge for span in calendar.spans[1:] for edge in (span.starts_at, span.starts_at - _MOMENT)
    ]
    for moment in [*at, *edges]:
        day = calendar.day_of(moment)
        zone, sql_day, month, ends = books.read(moment)
        assert (zone, sql_day) == (calendar.span_at(moment).time_zone, day)
        assert month == month_of(day).first
        assert ends == calendar.start_of(following_month(day))


@given(zone_names, days)
@example("America/Havana", date(2026, 3, 8))  # no midnight: the clock goes from 0 to 1
@example("America/Havana", date(2026, 11, 1))  # two of them
@example("Africa/Cairo", date(2026, 4, 24))
@example("Africa/Cairo", date(2026, 10, 30))
@example("Australia/Lord_Howe", date(2026, 4, 5))  # half an hour back
@example("Antarctica/Vostok", date(2023, 12, 18))  # two hours back
@example("Antarctica/Casey", date(2020, 3, 8))  # three hours back
@example("Asia/Beirut", date(2026, 3, 29))
def test_python_and_sql_begin_a_day_at_the_same_moment(books: Books, zone: str, day: date) -> None:
    assert books.midnight(day, zone) == Calendar.of_zone(zone).start_of(day)


@given(zone_names, days)
def test_a_day_begins_with_its_first_moment(zone: str, day: date) -> None:
    calendar = Calendar.of_zone(zone)
    begins = calendar.start_of(day)
    assert calendar.day_of(begins) == day
    assert calendar.day_of(begins - _MOMENT) == day - timedelta(days=1)


@given(zone_names, changes, moments)
def test_days_follow_each_other_without_gap_or_overlap(
    first: str, asked: list[tuple[str, datetime]], at: datetime
) -> None:
    calendar = calendar_with(first, asked)
    for moment in (at, *(span.starts_at for span in calendar.spans[1:])):
        day = calendar.day_of(moment)
        assert calendar.start_of(day) <= moment < calendar.start_of(day + timedelta(days=1))
        begins = [calendar.start_of(day + timedelta(days=n)) for n in range(-3, 4)]
        assert begins == sorted(begins)


@given(zone_names, changes, days, st.integers(1, 800), st.lists(moments, max_size=30))
def test_the_days_of_a_period_hold_each_of_its_moments_once(
    first: str, asked: list[tuple[str, datetime]], begin: date, length: int, at: list[datetime]
) -> None:
    calendar = calendar_with(first, asked)
    period = Period(begin, begin + timedelta(days=length - 1))
    begins, ends = calendar.bounds(period)
    edges = [begins, begins - _MOMENT, ends, ends - _MOMENT]
    edges += [span.starts_at for span in calendar.spans[1:]]
    for moment in [*at, *edges]:
        inside = begins <= moment < ends
        assert inside == (period.first <= calendar.day_of(moment) <= period.last)
        cut = [part for part in calendar.segments(period) if part.begins <= moment < part.ends]
        assert len(cut) == inside
        for part in cut:
            assert part.time_zone == calendar.span_at(moment).time_zone
            local = moment.astimezone(zoneinfo.ZoneInfo(part.time_zone)).date()
            assert max(local, part.first_day) == calendar.day_of(moment)


@given(zone_names, changes, days, st.integers(1, 800))
def test_the_segments_of_a_period_join_up(
    first: str, asked: list[tuple[str, datetime]], begin: date, length: int
) -> None:
    calendar = calendar_with(first, asked)
    period = Period(begin, begin + timedelta(days=length - 1))
    begins, ends = calendar.bounds(period)
    parts = calendar.segments(period)
    if begins == ends:  # a day that was left out
        assert parts == ()
        return
    assert (parts[0].begins, parts[-1].ends) == (begins, ends)
    assert all(one.ends == next_one.begins for one, next_one in pairwise(parts))


def test_a_day_that_a_change_of_zone_skips_has_no_moment() -> None:
    """Niue's February begins when it is the second of February on Kiritimati."""
    asked = [("Pacific/Kiritimati", datetime(2026, 1, 15, tzinfo=UTC))]
    calendar = calendar_with("Pacific/Niue", asked)
    (_, change) = calendar.spans
    assert change == Span(
        "Pacific/Kiritimati", datetime(2026, 2, 1, 11, tzinfo=UTC), date(2026, 2, 1)
    )
    assert calendar.day_of(change.starts_at) == date(2026, 2, 2)
    assert calendar.segments(Period(date(2026, 2, 1), date(2026, 2, 1))) == ()


def test_a_change_westwards_makes_a_long_first_day() -> None:
    asked = [("Pacific/Niue", datetime(2026, 1, 15, tzinfo=UTC))]
    calendar = calendar_with("Pacific/Kiritimati", asked)
    begins, ends = calendar.bounds(Period(date(2026, 2, 1), date(2026, 2, 1)))
    assert ends - begins == timedelta(hours=49)


@pytest.mark.parametrize(
    "zone", ["CET", "EET", "MET", "WET", "localtime", "Nowhere", "posixrules", ""]
)
def test_a_zone_that_is_not_read_alike_everywhere_is_refused(zone: str) -> None:
    with db.transaction(TESTS) as session, pytest.raises(errors.BadInput):
        zones.require_zone(session, zone)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu"])
def test_a_zone_that_is_read_alike_is_taken(zone: str) -> None:
    with db.transaction(TESTS) as session:
        assert zones.require_zone(session, zone) == zone


def test_a_missing_tenant_has_no_calendar() -> None:
    with db.transaction(TESTS) as session, pytest.raises(errors.NotFound):
        zones.calendar_of(session, db.new_id())
