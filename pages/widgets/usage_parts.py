"""Figures as the parts a chart is drawn of: which there are, in which colour, on which steps; and the
way back from a click to the usage behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta

from core.analytics.charts import colors
from core.analytics.charts.parts import Part, Steps
from core.analytics.figures import GroupRow, Step, Totals
from core.analytics.parameters import NONE
from core.analytics.selection import Grain, Group, Selection, Value
from core.periods import Period, following_month, month_of
from pages.widgets.usage_view import called

REST = ""  # the key of what is summed up as other; no value is empty
KINDS = ("Prompt", "From cache", "Into cache", "Answer", "Reasoning")
_WEEK = timedelta(days=7)


def key_of(value: Value) -> str:
    """A value as a click says it."""
    return NONE if value is None else str(value)


def steps_of(period: Period, grain: Grain) -> Steps:
    """Every step of a period, also those without use."""
    match grain:
        case Grain.HOUR:
            begins: tuple[date | datetime, ...] = tuple(
                datetime.combine(day, time(hour)) for day in period.each_day() for hour in range(24)
            )
        case Grain.DAY:
            begins = tuple(period.each_day())
        case Grain.WEEK:
            monday = period.first - timedelta(days=period.first.weekday())
            weeks = (period.last - monday) // _WEEK + 1
            begins = tuple(monday + number * _WEEK for number in range(weeks))
        case Grain.MONTH:
            months = [period.first.replace(day=1)]
            while (following := following_month(months[-1])) <= period.last:
                months.append(following)
            begins = tuple(months)
    return Steps(begins, grain)


def step_at(selection: Selection, grain: Grain, begin: str) -> Selection:
    """A selection narrowed to the step that begins there. Raises ValueError for no such step."""
    if grain is Grain.HOUR:
        return selection.at_hour(datetime.fromisoformat(begin))
    first = date.fromisoformat(begin)
    last = {
        Grain.DAY: first, Grain.WEEK: first + _WEEK - timedelta(days=1),
        Grain.MONTH: month_of(first).last,
    }[grain]  # fmt: skip
    period = selection.period
    return selection.within(Period(max(first, period.first), min(last, period.last)))


def shades(group: Group, rows: Sequence[GroupRow], named: int, *, dark: bool) -> dict[str, str]:
    """The colour of every row by its key. Models have their own; of others the first `named` do."""
    keys = [key_of(row.value) for row in rows if not row.is_rest]
    grey = colors.neutral(dark=dark)
    if group is Group.MODEL:
        found = {key: colors.color_of(key, dark=dark) for key in keys}
    else:
        found = dict.fromkeys(keys, grey) | colors.apart(keys[:named], dark=dark)
    return found | {REST: grey}


def of_rows(group: Group, rows: Sequence[GroupRow], shades: Mapping[str, str]) -> tuple[Part, ...]:
    """Each row of a breakdown with its cost."""
    return tuple(_part(group, row, shades, (row.totals.billed_nusd,)) for row in rows)


def over_time(
    group: Group,
    rows: Sequence[GroupRow],
    shades: Mapping[str, str],
    series: Sequence[Step],
    steps: Steps,
) -> tuple[Part, ...]:
    """Each row of a breakdown with its cost in every step; the last may be all others."""
    own = {key_of(row.value) for row in rows if not row.is_rest}
    sums: dict[tuple[str, date], int] = {}
    for step in series:
        key = key_of(step.group)
        place = (key if key in own else REST, step.bucket)
        sums[place] = sums.get(place, 0) + step.totals.billed_nusd
    return tuple(
        _part(
            group, row, shades,
            tuple(sums.get((_key(row), begin), 0) for begin in steps.begins),
        )
        for row in rows
    )  # fmt: skip


def token_kinds(series: Sequence[Step], steps: Steps, *, dark: bool) -> tuple[Part, ...]:
    """Tokens by kind in every step."""
    by_step = {step.bucket: _kinds(step.totals) for step in series}
    none = (0,) * len(KINDS)
    columns = zip(*(by_step.get(begin, none) for begin in steps.begins), strict=True)
    parts = map(Part, KINDS, KINDS, colors.kinds(dark=dark), columns)
    return tuple(part for part in parts if any(part.values))


def _kinds(sums: Totals) -> tuple[int, ...]:
    """Tokens by KINDS, none counted twice: cached ones are part of the prompt's."""
    return (
        sums.prompt_tokens - sums.cached_tokens - sums.cache_write_tokens, sums.cached_tokens,
        sums.cache_write_tokens, sums.completion_tokens - sums.reasoning_tokens,
        sums.reasoning_tokens,
    )  # fmt: skip


def _part(group: Group, row: GroupRow, shades: Mapping[str, str], values: tuple[int, ...]) -> Part:
    name = row.label if row.is_rest else called(group, row.value, row.label)
    return Part(_key(row), name, shades[_key(row)], values)


def _key(row: GroupRow) -> str:
    return REST if row.is_rest else key_of(row.value)
