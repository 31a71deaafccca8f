"""A selection as the parameters of an address, and back. The pages and the API use the same names.
Believes nothing it reads, and says nothing about who may see it; unknown names are the caller's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from core import errors
from core.analytics.selection import HOUR_DAYS_MAX, IDS, Grain, Group, Selection, Slot, Value
from core.periods import Period, last_days, month_of

FROM, TO, SPAN, HOUR, SLOT = "from", "to", "span", "hour", "slot"
GROUP_BY, ROLLUP = "group_by", "rollup"
NONE = "none"  # those without a cost centre, project or key

_FIRST_DAY = date(2000, 1, 1)
_DAYS_AHEAD_MAX = 366
_DAYS_MAX = 5 * 366
_VALUES_MAX, _LENGTH_MAX = 100, 200
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}", re.ASCII)
_SLOT = re.compile(r"([0-6])-([01]?[0-9]|2[0-3])", re.ASCII)
_MAY_LACK = frozenset({Group.COST_CENTER, Group.PROJECT, Group.KEY})
_CHOICES = {
    Group.SOURCE: ("chat", "api", "background"),
    Group.OUTCOME: ("ok", "stopped", "cut", "error", "timeout"),
}

Parameters = Mapping[str, Sequence[str]]


class Span(StrEnum):
    """Periods that move with today."""

    WEEK = "7d"
    DAYS_30 = "30d"
    DAYS_90 = "90d"
    YEAR = "12m"
    THIS_MONTH = "this_month"
    LAST_MONTH = "last_month"


def read(parameters: Parameters, today: date) -> Selection:
    """The selection an address asks for; the last 30 days where it names no period.

    Raises errors.BadInput naming the parameter.
    """
    selection = Selection(_period(parameters, today), _filters(parameters))
    if (slot := _single(parameters, SLOT)) is not None:
        selection = selection.in_slot(_slot(slot))
    if (hour := _single(parameters, HOUR)) is not None:
        selection = selection.at_hour(_hour(hour, selection.period))
    return selection


def read_view(parameters: Parameters) -> tuple[Group, Grain]:
    """What to break down by and how long a step is: by model and day where nothing is said.

    Raises errors.BadInput.
    """
    return (
        Group(one_of(parameters, GROUP_BY, [*Group]) or Group.MODEL),
        Grain(one_of(parameters, ROLLUP, [*Grain]) or Grain.DAY),
    )


def write(
    selection: Selection,
    *,
    span: Span | None = None,
    group: Group | None = None,
    grain: Grain | None = None,
) -> dict[str, list[str]]:
    """The parameters that `read` and `read_view` read back as the same.

    With a `span` the address goes on moving with the day; else it names the days.
    """
    days = selection.period
    named = (
        {SPAN: [span.value]}
        if span
        else {FROM: [days.first.isoformat()], TO: [days.last.isoformat()]}
    )
    named |= {
        str(by): [NONE if value is None else str(value) for value in values]
        for by, values in selection.filters.items()
    }
    if selection.slot:
        named[SLOT] = [f"{selection.slot.weekday}-{selection.slot.hour}"]
    if selection.hour:
        named[HOUR] = [f"{selection.hour:%Y-%m-%dT%H}"]
    return (
        named
        | ({GROUP_BY: [str(group)]} if group else {})
        | ({ROLLUP: [str(grain)]} if grain else {})
    )


def period_of(span: Span, today: date) -> Period:
    """The days a span stands for on a day; whole months end today where they are not over."""
    match span:
        case Span.WEEK:
            return last_days(7, today)
        case Span.DAYS_30:
            return last_days(30, today)
        case Span.DAYS_90:
            return last_days(90, today)
        case Span.YEAR:
            return Period(_year_before(month_of(today).last), today)
        case Span.THIS_MONTH:
            return Period(today.replace(day=1), today)
        case Span.LAST_MONTH:
            return month_of(today.replace(day=1) - timedelta(days=1))


def require_period(period: Period, today: date) -> Period:
    """A period that can be shown; days to come are empty. Raises errors.BadInput."""
    if period.last < period.first:
        raise errors.BadInput("The period ends before it begins.", param=TO)
    if period.first < _FIRST_DAY:
        raise errors.BadInput(f"Nothing was used before {_FIRST_DAY}.", param=FROM)
    if period.last > today + timedelta(days=_DAYS_AHEAD_MAX):
        raise errors.BadInput("The period ends more than a year ahead.", param=TO)
    if period.days > _DAYS_MAX:
        raise errors.BadInput("At most five years can be shown at once.", param=FROM)
    return period


def require_grain(period: Period, grain: Grain) -> Grain:
    """A step that suits the period: hours only of a month. Raises errors.BadInput."""
    if grain is Grain.HOUR and period.days > HOUR_DAYS_MAX:
        raise errors.BadInput(
            f"At most {HOUR_DAYS_MAX} days can be shown by the hour.", param=ROLLUP
        )
    return grain


def one_of(parameters: Parameters, name: str, choices: Sequence[str]) -> str | None:
    """The one word of a parameter; None where it is not given.

    Raises errors.BadInput for any other word, and for more than one.
    """
    text = _single(parameters, name)
    if text is not None and text not in choices:
        raise errors.BadInput(f"{name} is one of {', '.join(choices)}.", param=name)
    return text


def _period(parameters: Parameters, today: date) -> Period:
    first, last = _single(parameters, FROM), _single(parameters, TO)
    span = one_of(parameters, SPAN, [*Span])
    if first is None and last is None:
        return period_of(Span(span or Span.DAYS_30), today)
    if span is not None:
        raise errors.BadInput("Give either a span or the first and last day.", param=SPAN)
    if first is None or last is None:
        missing = FROM if first is None else TO
        raise errors.BadInput("Give both the first and the last day.", param=missing)
    return require_period(Period(_day(first, FROM), _day(last, TO)), today)


def _filters(parameters: Parameters) -> dict[Group, tuple[Value, ...]]:
    named = {group: parameters[group] for group in Group if parameters.get(group)}
    if sum(map(len, named.values())) > _VALUES_MAX:
        raise errors.BadInput(f"At most {_VALUES_MAX} values can be filtered by.")
    return {
        group: tuple(dict.fromkeys(_value(group, text) for text in texts))
        for group, texts in named.items()
    }


def _value(group: Group, text: str) -> Value:
    if text == NONE and group in _MAY_LACK:
        return None
    if group in IDS:
        return _id(text, group)
    if not text or len(text) > _LENGTH_MAX or not text.isprintable():
        raise errors.BadInput(f"This is not a value to filter by {_said(group)} with.", param=group)
    if group in _CHOICES and text not in _CHOICES[group]:
        raise errors.BadInput(
            f"The {_said(group)} is one of {', '.join(_CHOICES[group])}.", param=group
        )
    return text


def _id(text: str, group: Group) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        found = None
    if found is None or str(found) != text.lower():
        raise errors.BadInput(f"This is not the id of a {_said(group)}.", param=group)
    return found


def _day(text: str, name: str) -> date:
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # such as February 30
    raise errors.BadInput("A day is written as 2026-03-31.", param=name)


def _hour(text: str, period: Period) -> datetime:
    try:
        found = datetime.fromisoformat(text) if _HOUR.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None:
        raise errors.BadInput("An hour is written as 2026-03-31T14.", param=HOUR)
    if not period.first <= found.date() <= period.last:
        raise errors.BadInput("The hour is not in the period.", param=HOUR)
    return found


def _slot(text: str) -> Slot:
    if found := _SLOT.fullmatch(text):
        return Slot(int(found[1]), int(found[2]))
    raise errors.BadInput("An hour of the week is written as 0-14: Monday, 14:00.", param=SLOT)


def _single(parameters: Parameters, name: str) -> str | None:
    given = parameters.get(name) or ()
    if len(given) > 1:
        raise errors.BadInput(f"{name} is given more than once.", param=name)
    return given[0] if given else None


def _year_before(last: date) -> date:
    """The first day of the twelve months that end with that of `last`."""
    return (last + timedelta(days=1)).replace(year=(last + timedelta(days=1)).year - 1)


def _said(group: Group) -> str:
    return group.removesuffix("_id").replace("_", " ")
