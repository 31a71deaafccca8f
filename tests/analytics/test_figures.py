"""core/analytics/figures.py: every figure is the sum of its events, whatever the zone and the question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core import db, errors
from core.analytics import details, figures, sources
from core.analytics.figures import GroupRow, Step, Totals
from core.analytics.scope import scope_of
from core.analytics.selection import Grain, Group, Selection, Slot
from core.identity import keys, zones
from core.identity.access import Operator, Principal, Role
from core.identity.zones import Calendar
from core.metering import rollups
from core.periods import Period, last_days
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.planted import Event, Ground, ground, histories, planted
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import TESTS, make_model, make_place

pytestmark = pytest.mark.usefixtures("database")
ALL, FIRST = slice(None), slice(1)
OPERATOR = Operator(db.new_id(), "ops@example.com", "Ops")


@pytest.fixture(scope="module")
def land(database: object) -> Ground:
    return ground()


def summed(events: Iterable[Event]) -> Totals:
    """The totals of planted events, added up in Python."""
    found = list(events)
    calls = [event for event in found if event.kind == "call"]
    return Totals(
        requests=len(calls),
        messages=sum(event.source == "chat" for event in calls),
        errors=sum(event.outcome in {"error", "timeout"} for event in calls),
        prompt_tokens=sum(event.prompt_tokens for event in found),
        cached_tokens=sum(event.prompt_tokens // 2 for event in found),
        cache_write_tokens=len(found),
        completion_tokens=sum(event.completion_tokens for event in found),
        reasoning_tokens=sum(event.completion_tokens // 3 for event in found),
        billed_nusd=sum(event.billed_nusd for event in found),
        list_nusd=sum(event.list_nusd for event in found),
    )


def step_sums(steps: Iterable[Step]) -> Totals:
    """The totals of a series."""
    return sum((step.totals for step in steps), Totals(list_nusd=0))


def ours(land: Ground, period: Period, some: slice = ALL) -> Selection:
    """A selection of the planted tenants alone: other tests' tenants share the database."""
    return Selection(period).only(Group.TENANT, *land.tenants[some])


@st.composite
def filters(draw: st.DrawFn) -> dict[Group, tuple[object, ...]]:
    """Filters by what the planted events have."""
    offered = {
        Group.SOURCE: ("chat", "api"), Group.PROVIDER: ("openrouter",), Group.PURPOSE: ("turn",),
        Group.COST_CENTER: (None, "4711"), Group.PROJECT: ("Apollo",), Group.OUTCOME: ("error", "ok"),
        Group.KEY: (None,),
    }  # fmt: skip
    return {by: offered[by] for by in draw(st.sets(st.sampled_from([*offered]), max_size=2))}


@settings(max_examples=50)
@given(
    histories(),
    st.sampled_from([ALL, FIRST]),
    filters(),
    st.sampled_from([*Group]),
    st.sampled_from([*Grain]),
)
def test_days_groups_rows_and_totals_are_the_sum_of_the_events(
    land: Ground, history: tuple, some: slice, narrowed: dict, group: Group, grain: Grain
) -> None:
    calendars, events, period = history
    if grain is Grain.HOUR:
        period = Period(period.first, min(period.last, period.first + timedelta(days=30)))
    with planted(land, calendars, events) as (session, here):
        selection = Selection(period, {**ours(here, period, some).filters, **narrowed})
        matching = here.matching(events, selection)
        expected = summed(matching)
        assert figures.totals(session, OPERATOR, selection) == expected
        assert details.sums(session, OPERATOR, selection) == expected
        of_steps = figures.series(session, OPERATOR, selection, grain, group)
        of_groups = figures.groups(session, OPERATOR, selection, group)
        hours = figures.hours(session, OPERATOR, selection)
    assert step_sums(of_steps) == expected
    parts = Totals(list_nusd=0)
    for row in of_groups:
        parts += row.totals
    assert parts == expected
    steps, values = defaultdict(list), defaultdict(list)
    for event in matching:
        value = here.value(event, group)
        steps[here.bucket(event, grain), None if value is None else str(value)].append(event)
        values[value].append(event)
    found = {(step.bucket, step.group): step.totals for step in of_steps}
    assert len(found) == len(of_steps)
    assert found == {place: summed(some) for place, some in steps.items()}
    assert {row.value: row.totals for row in of_groups} == {
        value: summed(some) for value, some in values.items()
    }
    calls = Counter(here.hour_of(event) for event in matching if event.kind == "call")
    of_week = Counter()
    for hour, count in calls.items():
        of_week[hour.weekday(), hour.hour] += count
    read = {(row.weekday, row.hour): row.requests for row in hours if row.requests}
    assert read == dict(of_week)


@settings(max_examples=25)
@given(histories(), st.sampled_from([ALL, FIRST]), st.sampled_from([None, "chat", "api"]))
def test_all_three_tables_give_the_same_numbers(
    land: Ground, history: tuple, some: slice, source: str | None
) -> None:
    calendars, events, period = history
    with planted(land, calendars, events) as (session, here):
        selection = ours(here, period, some)
        if source:
            selection = selection.only(Group.SOURCE, source)
        scope = scope_of(OPERATOR, selection)
        by_model = sources.pick(session, scope, selection, {Group.MODEL})
        by_person = sources.people(session, scope, selection)
        raw = sources.events(session, scope, selection)
        assert [by_model.relation, by_person.relation] == [
            "app.usage_daily_models u", "app.usage_daily u",
        ]  # fmt: skip
        assert raw.of_events
        answers = [figures.totals_of(session, one) for one in (by_model, by_person, raw)]
        days = [
            session.execute(
                text(f"select {one.day}, {one.value(Group.MODEL)}, {one.sums} {one.rows}"
                     " group by 1, 2 order by 1, 2"), one.bound,
            ).all()
            for one in (by_model, by_person, raw)
        ]  # fmt: skip
    assert answers[0] == answers[1] == answers[2] == summed(here.matching(events, selection))
    # a day of corrections only has sums and no request; no table leaves it out
    assert days[0] == days[1] == days[2]


@settings(max_examples=15)
@given(histories())
def test_making_the_sums_anew_changes_nothing(land: Ground, history: tuple) -> None:
    calendars, events, period = history
    tables = ("usage_daily", "usage_daily_models", "usage_conversations")
    with planted(land, calendars, events) as (session, here):

        def read() -> list[set[tuple[object, ...]]]:
            return [
                {tuple(row) for row in session.execute(text(f"select * from app.{table}"))}
                for table in tables
            ]

        before, selection = read(), ours(here, period)
        totals = figures.totals(session, OPERATOR, selection)
        for tenant_id in here.tenants:
            rollups.rebuild(session, tenant_id)
        assert read() == before
        assert figures.totals(session, OPERATOR, selection) == totals


@settings(max_examples=20)
@given(histories(), st.booleans())
def test_a_person_is_counted_once_a_day_and_once_a_month(
    land: Ground, history: tuple, by_api: bool
) -> None:
    calendars, events, period = history
    with planted(land, calendars, events) as (session, here):
        selection = ours(here, period)
        if by_api:  # a filter that needs the events
            selection = selection.only(Group.PROVIDER, "openrouter")
        found = figures.active(session, OPERATOR, selection)
    calls = [event for event in events if event.kind == "call"]
    people = defaultdict(set)
    for event in here.matching(calls, selection):
        people[here.day_of(event)].add(here.person(event))
    month = selection.within(last_days(30, found.day))
    of_month = {here.person(event) for event in here.matching(calls, month)}
    assert found.by_day == tuple(sorted((day, len(some)) for day, some in people.items()))
    assert found.day == min(period.last, datetime.now(UTC).date())
    assert (found.day_people, found.month_people) == (
        len(people[found.day]), len(of_month),
    )  # fmt: skip


@pytest.mark.parametrize("some", [ALL, FIRST])
def test_after_a_change_westwards_no_row_falls_back_into_the_month_before(
    land: Ground, some: slice
) -> None:
    """Kiritimati's January ends when it is still the thirtieth, 23:00, on Niue."""
    first = Calendar.of_zone("Pacific/Kiritimati")
    ended = datetime(2026, 1, 31, 10, tzinfo=UTC)
    change = zones.next_change(first, "Pacific/Niue", ended - timedelta(days=9))
    moved = Calendar((*first.spans, change))
    assert change.starts_at == ended
    at = [ended + timedelta(hours=hours) for hours in (-1, 0, 20, 48, 49)]
    events = [
        Event(
            moment, 0, 0, 0, None, "call", "chat", "demo", "turn", None, None, "ok", 1, 1, cost, 0
        )
        for moment, cost in zip(at, (1, 10, 100, 1_000, 10_000), strict=True)
    ]
    period = Period(date(2026, 1, 31), date(2026, 2, 2))
    with planted(land, (moved, Calendar.of_zone("Asia/Tokyo")), events) as (session, here):
        selection = ours(here, period, some)
        by_day = figures.series(session, OPERATOR, selection, Grain.DAY)
        of_rows = figures.series(
            session, OPERATOR, selection.only(Group.PROVIDER, "demo"), Grain.DAY
        )
        by_hour = figures.series(session, OPERATOR, selection, Grain.HOUR)
        opened = details.rows(session, OPERATOR, selection.at_hour(datetime(2026, 2, 1))).rows  # noqa: DTZ001
    for steps in (by_day, of_rows):
        assert {step.bucket: step.totals.billed_nusd for step in steps} == {
            date(2026, 1, 31): 1, date(2026, 2, 1): 1_110, date(2026, 2, 2): 10_000,
        }  # fmt: skip
    hours = {step.bucket: step.totals.billed_nusd for step in by_hour}
    assert hours[datetime(2026, 2, 1)] == sum(row.billed_nusd for row in opened) == 110  # noqa: DTZ001
    assert step_sums(by_hour).billed_nusd == 11_111


@pytest.mark.parametrize("slot", [Slot(0, 9), Slot(6, 23)])
def test_an_hour_of_the_week_opens_into_its_rows(slot: Slot) -> None:
    who, period = make_place(role="admin").who, last_days(30, datetime.now(UTC).date())
    model = make_model()
    monday = datetime.now(UTC).replace(hour=0, minute=30, second=0, microsecond=0)
    monday -= timedelta(days=monday.weekday() + 7)
    for weekday, hour in ((0, 9), (0, 9), (6, 23), (3, 9)):
        use(who, model, "0.01", at=monday + timedelta(days=weekday, hours=hour))
    with db.transaction(who) as session:
        hours = figures.hours(session, who, Selection(period))
        (cell,) = [of for of in hours if (of.weekday, of.hour) == (slot.weekday, slot.hour)]
        rows = details.rows(session, who, Selection(period).in_slot(slot)).rows
        sums = figures.totals(session, who, Selection(period).in_slot(slot))
    assert cell.requests == len(rows) == sums.requests
    assert cell.billed_nusd == sum(row.billed_nusd for row in rows) == sums.billed_nusd


def test_one_hour_opens_into_its_rows() -> None:
    who = make_place(role="admin", time_zone="Asia/Kathmandu").who
    model = make_model()
    use(who, model, "0.01", at=datetime(2026, 3, 3, 4, 15, tzinfo=UTC))  # 10:00
    use(who, model, "0.02", at=datetime(2026, 3, 3, 5, 14, tzinfo=UTC))  # 10:59
    use(who, model, "0.04", at=datetime(2026, 3, 3, 5, 15, tzinfo=UTC))  # 11:00
    selection = Selection(Period(date(2026, 3, 1), date(2026, 3, 31)))
    at_ten = selection.at_hour(datetime(2026, 3, 3, 10))  # noqa: DTZ001 - a local hour
    with db.transaction(who) as session:
        by_hour = figures.series(session, who, selection, Grain.HOUR)
        assert figures.totals(session, who, at_ten).billed_nusd == 30_000_000
        assert len(details.rows(session, who, at_ten).rows) == 2
    assert [(step.bucket, step.totals.billed_nusd) for step in by_hour] == [
        (datetime(2026, 3, 3, 10), 30_000_000),  # noqa: DTZ001 - a local hour
        (datetime(2026, 3, 3, 11), 40_000_000),  # noqa: DTZ001
    ]


def test_hours_of_a_long_period_are_refused() -> None:
    who = make_place().who
    long = Selection(Period(date(2026, 1, 1), date(2026, 2, 1)))
    with db.transaction(who) as session, pytest.raises(errors.BadInput) as refused:
        figures.series(session, who, long, Grain.HOUR)
    assert refused.value.param == "rollup"


def test_an_empty_period_has_zero_of_everything_and_no_rows() -> None:
    who = make_place(role="admin").who
    ahead = Selection(Period(date(2035, 1, 1), date(2035, 1, 31)))
    with db.transaction(who) as session:
        assert figures.totals(session, who, ahead) == Totals()
        assert figures.series(session, who, ahead, Grain.DAY, Group.MODEL) == ()
        assert figures.groups(session, who, ahead, Group.PROVIDER) == ()
        assert figures.hours(session, who, ahead) == ()
        assert figures.estimates(session, who, ahead) == figures.Estimates(0, 0)
        active = figures.active(session, who, ahead)
        assert (active.day_people, active.month_people, len(active.by_day)) == (0, 0, 0)


def test_ratios_are_exact_and_none_where_nothing_can_be_divided() -> None:
    some = Totals(
        requests=8, errors=1, prompt_tokens=300, cached_tokens=100, completion_tokens=100,
        billed_nusd=2_001,
    )  # fmt: skip
    assert (some.tokens, some.nusd_per_1k_tokens) == (400, 5_002)
    assert (some.cache_hit_rate, some.error_rate) == (Fraction(1, 3), Fraction(1, 8))
    none = Totals()
    assert (none.nusd_per_1k_tokens, none.cache_hit_rate, none.error_rate) == (None, None, None)


def test_the_rest_of_a_breakdown_is_one_row() -> None:
    rows = [GroupRow(str(n), str(n), Totals(requests=1, billed_nusd=100 - n)) for n in range(25)]
    kept = figures.top(rows, 20)
    assert [row.label for row in kept] == [*(str(n) for n in range(20)), figures.OTHER]
    assert kept[-1].is_rest and kept[-1].totals == Totals(requests=5, billed_nusd=390)
    assert figures.top(rows[:21], 20) == tuple(rows[:21])  # "Other" of one says less than its name


def _address(user_id: UUID) -> str:
    with db.transaction(TESTS) as session:
        query = text("select email from app.users where user_id = :u")
        return str(session.scalar(query, {"u": user_id}))


def wide(who: Principal | Operator) -> Selection:
    """The last 30 days, of the tenant where an operator asks."""
    return Selection(last_days(30, datetime.now(UTC).date()))


def test_list_cost_is_the_operators_alone() -> None:
    place = make_place(role="admin", markup="0.5")
    use(place.who, make_model(), "0.01")
    selection = wide(place.who).only(Group.TENANT, place.tenant_id)
    with db.transaction(place.who) as session:
        seen = figures.totals(session, place.who, selection)
        (step,) = figures.series(session, place.who, selection, Grain.DAY)
    assert (seen.billed_nusd, seen.list_nusd) == (15_000_000, None)
    assert step.totals.list_nusd is None
    with db.transaction(OPERATOR) as session:
        assert figures.totals(session, OPERATOR, selection).list_nusd == 10_000_000


def test_only_what_may_still_change_is_counted_as_an_estimate() -> None:
    who = make_place().who
    model = make_model()
    use(who, model, "0.5")
    guessed = use(who, model, cost=cost_of("0.001", lookup=True))
    corrected = use(who, model, cost=cost_of("0.002", lookup=True), days_ago=1)
    priced = gate.open_call(standing.of_member(who, model), Ask("api", "test", 10))
    for_good = cost_of("0.004")
    gate.close(
        gate.settlement(
            priced, type(for_good)(for_good.usd, "estimate", False, None), outcome="ok",
            gave_output=True, latency_ms=1,
        )
    )  # fmt: skip
    correct(corrected, "0.003")
    with db.transaction(who) as session:
        assert figures.estimates(session, who, wide(who)) == figures.Estimates(1, 1_000_000)
    correct(guessed, "0.01")
    with db.transaction(who) as session:
        assert figures.estimates(session, who, wide(who)) == figures.Estimates(0, 0)


def test_what_is_deleted_disabled_or_revoked_keeps_its_figures_and_its_name() -> None:
    place = make_place(role="admin")
    member = colleague(place)
    with db.transaction(member) as session:
        issued = keys.issue(session, member, "robot")
    call = gate.open_call(
        standing.of_key(issued.secret, make_model()), Ask("api", "test", prompt_tokens_guess=10)
    )
    gate.close(gate.settlement(call, cost_of("0.5"), outcome="ok", gave_output=True, latency_ms=1))
    use(place.who, make_model(), "0.25")

    def read() -> list[object]:
        found: list[object] = []
        for who in (place.who, OPERATOR):
            selection = wide(who).only(Group.TENANT, place.tenant_id)
            with db.transaction(who) as session:
                found += [figures.groups(session, who, selection, group) for group in Group]
                found.append(details.rows(session, who, selection).rows)
                found.append(figures.choices(session, who, selection, Group.USER))
        return found

    before = read()
    labels = {row.label for rows in before[:3] for row in rows}  # type: ignore[attr-defined]
    assert {_address(member.user_id), _address(place.user_id), place.who.tenant_name} <= labels
    with db.transaction(TESTS) as session:
        for statement in (
            "update app.memberships set status = 'disabled' where user_id = :u",
            "update app.users set status = 'disabled', name = 'Renamed' where user_id = :u",
            "update app.api_keys set revoked_at = now() where key_id = :k",
            "update app.tenants set status = 'suspended', name = 'Renamed' where tenant_id = :t",
        ):
            session.execute(
                text(statement), {"u": member.user_id, "k": issued.key_id, "t": place.tenant_id}
            )
    assert read() == before


def test_who_was_renamed_is_called_what_they_were_called_when_they_last_used_something() -> None:
    place = make_place(role="admin")
    model = make_model()
    use(place.who, model, "0.25", days_ago=20)
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "with made as (insert into app.labels(tenant_id, label_id, subject_id, name)"
                " values (:t, :l, :u, 'Countess') returning label_id)"
                " update app.memberships set label_id = :l where tenant_id = :t and user_id = :u"
            ),
            {"t": place.tenant_id, "l": db.new_id(), "u": place.user_id},
        )
    use(place.who, model, "0.25")
    today = datetime.now(UTC).date()
    with db.transaction(place.who) as session:
        for period, name in (
            (last_days(30, today), "Countess"),
            (last_days(5, today - timedelta(days=18)), _address(place.user_id)),
        ):
            (row,) = figures.groups(session, place.who, Selection(period), Group.USER)
            assert (row.value, row.label) == (place.user_id, name)


def test_parts_of_one_name_are_told_apart() -> None:
    place = make_place(role="admin")
    model, ids = make_model(), []
    for _ in range(2):
        with db.transaction(place.who) as session:
            issued = keys.issue(session, place.who, "CI")
        ids.append(issued.key_id)
        call = gate.open_call(
            standing.of_key(issued.secret, model), Ask("api", "test", prompt_tokens_guess=10)
        )
        gate.close(
            gate.settlement(call, cost_of("0.5"), outcome="ok", gave_output=True, latency_ms=1)
        )
    with db.transaction(place.who) as session:
        rows = figures.groups(session, place.who, wide(place.who), Group.KEY)
    assert {row.value: row.label for row in rows} == {of: f"CI ({of.hex[-6:]})" for of in ids}


def test_what_can_be_filtered_by_is_what_occurs() -> None:
    place = make_place(role="admin")
    first, second = sorted((make_model(), make_model()))
    use(place.who, first)
    grace = colleague(place)
    use(grace, second, source="api")
    people = sorted(_address(user_id) for user_id in (place.user_id, grace.user_id))
    with db.transaction(place.who) as session:
        selection = wide(place.who).only(Group.MODEL, first)

        def offered(group: Group) -> list[str]:
            return [label for _, label in figures.choices(session, place.who, selection, group)]

        assert offered(Group.MODEL) == [first, second]  # the filter itself does not narrow
        assert offered(Group.USER) == people
        assert offered(Group.SOURCE) == ["api", "chat"]
        assert offered(Group.COST_CENTER) == ["No cost center"]
        assert offered(Group.TENANT) == [place.who.tenant_name]


def test_a_member_never_sees_a_colleagues_row() -> None:
    place = make_place(role="admin")
    member = colleague(place, Role.MEMBER)
    use(place.who, make_model(), "0.25")
    with db.transaction(member) as session:
        for group in Group:
            assert figures.groups(session, member, wide(member), group) == ()
            assert figures.choices(session, member, wide(member), group) == ()
        asked = wide(member).only(Group.USER, place.user_id)
        assert figures.totals(session, member, asked) == Totals()
