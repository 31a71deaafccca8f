"""core/analytics/parameters.py: what an address may ask for, and what it may not."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from core.analytics import parameters
from core.analytics.parameters import Span, one_of, read, read_view, write
from core.analytics.selection import IDS, Grain, Group, Selection, Slot
from core.periods import Period

TODAY = date(2026, 3, 15)
ID = UUID("01a1f9ba-1263-7351-b260-42678d932ec8")


def test_without_parameters_the_last_thirty_days_by_model_and_day() -> None:
    assert read({}, TODAY) == Selection(Period(date(2026, 2, 14), TODAY))
    assert read_view({}) == (Group.MODEL, Grain.DAY)


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        ("7d", date(2026, 3, 9), TODAY),
        ("30d", date(2026, 2, 14), TODAY),
        ("90d", date(2025, 12, 16), TODAY),
        ("12m", date(2025, 4, 1), TODAY),
        ("this_month", date(2026, 3, 1), TODAY),
        ("last_month", date(2026, 2, 1), date(2026, 2, 28)),
    ],
)
def test_a_span_moves_with_the_day(span: str, first: date, last: date) -> None:
    assert read({"span": [span]}, TODAY).period == Period(first, last)


def test_days_and_filters_are_read_and_unknown_names_are_left_to_the_caller() -> None:
    found = read(
        {
            "from": ["2026-01-01"], "to": ["2026-01-31"], "user": [str(ID), str(ID)],
            "model": ["a/b", "c/d"], "cost_center": ["none", "4711"], "color": ["red"],
            "source": ["api"],
        },
        TODAY,
    )  # fmt: skip
    assert found.period == Period(date(2026, 1, 1), date(2026, 1, 31))
    assert found.filters == {
        Group.USER: (ID,), Group.MODEL: ("a/b", "c/d"), Group.COST_CENTER: (None, "4711"),
        Group.SOURCE: ("api",),
    }  # fmt: skip


def test_one_word_of_a_few_is_read_and_no_other() -> None:
    choices = ("rise", "fall")
    assert one_of({"sort": ["cost"]}, "changes", choices) is None
    assert one_of({"changes": []}, "changes", choices) is None
    assert one_of({"changes": ["fall"]}, "changes", choices) == "fall"
    for words in (["up"], [""], ["Fall"], ["fall "], ["rise", "fall"], ["fall", "fall"]):
        with pytest.raises(errors.BadInput) as refusal:
            one_of({"changes": words}, "changes", choices)
        assert refusal.value.param == "changes"


def test_none_is_a_name_like_any_other_where_everything_has_a_value() -> None:
    assert read({"model": ["none"]}, TODAY).filters == {Group.MODEL: ("none",)}
    with pytest.raises(errors.BadInput):
        read({"user": ["none"]}, TODAY)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"from": ["2026-03-02"], "to": ["2026-03-01"]}, "to"),  # reversed
        ({"from": [""], "to": [""]}, "from"),  # empty
        ({"from": ["2026-03-01"]}, "to"),
        ({"to": ["2026-03-01"]}, "from"),
        ({"from": ["2026-3-1"], "to": ["2026-03-01"]}, "from"),
        ({"from": ["\u0662\u0660\u0662\u0666-\u0660\u0663-\u0660\u0661"], "to": ["2026-03-01"]}, "from"),
        ({"from": ["2026-02-28"], "to": ["2026-02-29"]}, "to"),  # no such day
        ({"from": ["0026-01-01"], "to": ["2026-03-01"]}, "from"),
        ({"from": ["1999-12-31"], "to": ["2000-01-31"]}, "from"),
        ({"from": ["2026-03-01"], "to": ["9999-12-31"]}, "to"),
        ({"from": ["2026-03-01"], "to": ["2027-03-17"]}, "to"),  # 367 days ahead
        ({"from": ["2020-01-01"], "to": ["2026-03-01"]}, "from"),  # six years
        ({"from": ["2026-01-01", "2026-01-02"], "to": ["2026-03-01"]}, "from"),
        ({"span": ["8d"]}, "span"),
        ({"span": [""]}, "span"),
        ({"span": ["7d"], "from": ["2026-03-01"], "to": ["2026-03-02"]}, "span"),
        ({"user": ["somebody"]}, "user"),
        ({"tenant": ["{01a1f9ba-1263-7351-b260-42678d932ec8}"]}, "tenant"),
        ({"key_id": ["' or 1=1"]}, "key_id"),
        ({"source": ["email"]}, "source"),
        ({"outcome": ["OK"]}, "outcome"),
        ({"model": [""]}, "model"),
        ({"model": ["x" * 201]}, "model"),
        ({"project": ["a\x00b"]}, "project"),
        ({"cost_center": ["a\ud800"]}, "cost_center"),
        ({"hour": ["2026-03-15T24"]}, "hour"),
        ({"hour": ["2026-03-16T10"]}, "hour"),  # not in the period
        ({"hour": ["2026-03-15"]}, "hour"),
        ({"slot": ["7-1"]}, "slot"),
        ({"slot": ["0-24"]}, "slot"),
        ({"slot": [""]}, "slot"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(asked: dict[str, list[str]], named: str) -> None:
    with pytest.raises(errors.BadInput) as refused:
        read(asked, TODAY)
    assert refused.value.param == named


@pytest.mark.parametrize(
    "asked", [{"group_by": ["color"]}, {"rollup": ["minute"]}, {"rollup": ["day", "week"]}]
)
def test_an_unknown_view_is_refused(asked: dict[str, list[str]]) -> None:
    with pytest.raises(errors.BadInput) as refused:
        read_view(asked)
    assert refused.value.param in asked


def test_ten_thousand_filters_are_refused_and_a_hundred_are_not() -> None:
    with pytest.raises(errors.BadInput):
        read({"model": [f"m/{n}" for n in range(10_000)]}, TODAY)
    many = {"model": [f"m/{n}" for n in range(60)], "purpose": [f"p{n}" for n in range(40)]}
    assert len(read(many, TODAY).filters[Group.MODEL]) == 60
    with pytest.raises(errors.BadInput):
        read(many | {"project": ["one more"]}, TODAY)


def test_a_year_ahead_and_five_years_are_the_most() -> None:
    ahead = Period(TODAY, TODAY + timedelta(days=366))
    assert parameters.require_period(ahead, TODAY) == ahead
    long = Period(TODAY - timedelta(days=5 * 366 - 1), TODAY)
    assert parameters.require_period(long, TODAY) == long


def test_hours_are_for_a_month_at_most() -> None:
    month = Period(date(2026, 3, 1), date(2026, 3, 31))
    assert parameters.require_grain(month, Grain.HOUR) is Grain.HOUR
    longer = Period(date(2026, 3, 1), date(2026, 4, 1))
    assert parameters.require_grain(longer, Grain.DAY) is Grain.DAY
    with pytest.raises(errors.BadInput):
        parameters.require_grain(longer, Grain.HOUR)


names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=200)
lacking = names.filter(lambda name: name != "none") | st.none()


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    first = draw(st.dates(date(2025, 1, 1), TODAY))
    selection = Selection(Period(first, first + timedelta(days=draw(st.integers(0, 300)))))
    values: dict[Group, st.SearchStrategy[object]] = {
        group: st.uuids() if group in IDS else names for group in Group
    }
    values |= {
        Group.KEY: st.uuids() | st.none(),
        Group.COST_CENTER: lacking,
        Group.PROJECT: lacking,
    }
    values |= {Group.SOURCE: st.just("api"), Group.OUTCOME: st.just("ok")}
    for group in draw(st.sets(st.sampled_from([*Group]))):
        some = draw(st.lists(values[group], min_size=1, max_size=5, unique=True))
        selection = selection.only(group, *some)  # type: ignore[arg-type]
    if draw(st.booleans()):
        selection = selection.in_slot(Slot(draw(st.integers(0, 6)), draw(st.integers(0, 23))))
    if draw(st.booleans()):
        selection = selection.at_hour(datetime.combine(first, datetime.min.time()))
    return selection


@given(selections(), st.sampled_from([*Group]), st.sampled_from([*Grain]))
def test_what_is_written_is_read_back(selection: Selection, group: Group, grain: Grain) -> None:
    address = write(selection, group=group, grain=grain)
    assert read(address, TODAY) == selection
    assert read_view(address) == (group, grain)


def test_an_address_with_a_span_goes_on_moving() -> None:
    address = write(Selection(Period(TODAY, TODAY)), span=Span.WEEK)
    assert address == {"span": ["7d"]}
    assert read(address, date(2026, 5, 1)).period.last == date(2026, 5, 1)


@given(st.dictionaries(
    st.sampled_from([*Group, "from", "to", "span", "hour", "slot", "group_by", "rollup"]),
    st.lists(st.text(max_size=12), max_size=3),
))  # fmt: skip
def test_nothing_in_an_address_makes_more_than_a_refusal(address: dict[str, list[str]]) -> None:
    for reads in (lambda: read(address, TODAY), lambda: read_view(address)):
        with suppress(errors.BadInput):
            assert reads()
