"""What of the usage is shown and how it is broken down: the period, the filters, the group, the step.
All of it only changes the address, which the page then reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.analytics import parameters
from core.analytics.parameters import Span
from core.analytics.selection import HOUR_DAYS_MAX, Grain, Group, Selection, Value
from core.periods import Period
from pages.widgets import acts, usage_address
from pages.widgets import session as tab
from pages.widgets.text import plain
from pages.widgets.usage_address import View
from pages.widgets.usage_view import GROUPS, SLOT_DAYS, Sight, called, days, labels, part

_SPANS = {
    Span.WEEK: "7 days", Span.DAYS_30: "30 days", Span.DAYS_90: "90 days", Span.YEAR: "12 months",
    Span.THIS_MONTH: "This month", Span.LAST_MONTH: "Last month",
}  # fmt: skip
_EARLIEST = date(2000, 1, 1)
_SPAN, _GROUP, _GRAIN, _RANGE = "usage_span", "usage_group", "usage_grain", "usage_range"


def draw(sight: Sight) -> None:
    """The choices, what is filtered by, and which days are compared."""
    view = sight.view
    tab.keep(_SPAN, view.span)
    tab.keep(_GROUP, view.group)
    tab.keep(_GRAIN, view.grain)
    st.segmented_control(  # on a line of its own it wraps on a phone
        "Period", list(_SPANS), key=_SPAN, format_func=lambda span: _SPANS[span],
        label_visibility="collapsed", on_change=_choose_span, args=(view, sight.today),
    )  # fmt: skip
    row = st.container(horizontal=True, vertical_alignment="center")
    groups = sight.groups if view.group in sight.groups else [*sight.groups, view.group]
    row.selectbox(
        "Group by", groups, key=_GROUP, width=155, on_change=_choose_view, args=(view,),
        format_func=lambda group: f"By {GROUPS[group]}", label_visibility="collapsed",
    )  # fmt: skip
    row.selectbox(
        "Step", _grains(view), key=_GRAIN, width=125, on_change=_choose_view, args=(view,),
        format_func=lambda grain: f"Per {grain}", label_visibility="collapsed",
    )  # fmt: skip
    with row:
        _filters(sight)
    if sight.selection.filters or sight.selection.slot or sight.selection.hour:
        _active(sight)
    period, before = sight.selection.period, sight.before.period
    st.caption(f"{plain(days(period))}, compared with {plain(days(before))}")


def _choose_span(view: View, today: date) -> None:
    span = tab.holds(_SPAN)
    if isinstance(span, Span):
        period = parameters.period_of(span, today)
        usage_address.show(_of_period(view, period, span))


def _choose_view(view: View) -> None:
    group, grain = tab.recall(_GROUP, view.group), tab.recall(_GRAIN, view.grain)
    usage_address.show(replace(view, group=group, grain=grain))


def _of_period(view: View, period: Period, span: Span | None) -> View:
    """The view of other days; by the day where they are too many for hours."""
    suits = view.grain is not Grain.HOUR or period.days <= HOUR_DAYS_MAX
    grain = view.grain if suits else Grain.DAY
    return replace(view, selection=view.selection.within(period), span=span, grain=grain)


def _grains(view: View) -> list[Grain]:
    too_long = view.selection.period.days > HOUR_DAYS_MAX
    return [grain for grain in Grain if grain is not Grain.HOUR or not too_long]


@part(parallel=False)
def _filters(sight: Sight) -> None:
    """The filters, read and drawn only once they are looked at."""
    count = len(sight.selection.filters)
    popover = st.popover(
        f"Filters ({count})" if count else "Filters", icon=":material/filter_list:",
        key=acts.fresh("usage_filters"), on_change="rerun", width="content",
    )  # fmt: skip
    if popover.open:
        _form(sight, popover)


def _form(sight: Sight, popover: DeltaGenerator) -> None:
    period = sight.selection.period
    with popover.form("usage_form", border=False):
        tab.keep(_RANGE, (period.first, min(period.last, sight.today)))
        st.date_input(
            "First and last day", key=_RANGE, min_value=_EARLIEST, max_value=max(
                sight.today, period.last
            ), format="YYYY-MM-DD",
        )  # fmt: skip
        with st.grid(2, min_column_width=200, gap="small"):
            for group in sight.groups:
                _field(sight, group)
        st.form_submit_button("Apply", type="primary", on_click=_apply, args=(sight,))


def _field(sight: Sight, group: Group) -> None:
    names = labels(sight, group)
    chosen = sight.selection.filters.get(group, ())
    names |= {value: str(value) for value in chosen if value not in names}
    tab.keep(_key(group), list(chosen))
    st.multiselect(
        GROUPS[group].capitalize(), list(names), key=_key(group), placeholder="All",
        format_func=lambda value: called(group, value, names[value]),
    )  # fmt: skip


def _apply(sight: Sight) -> None:
    """Make the address that of what the form holds, and close it."""
    view, filters = sight.view, dict[Group, tuple[Value, ...]]()
    for group in sight.groups:
        if values := tab.recall(_key(group), list[Value]()):
            filters[group] = tuple(values)
    kept = {g: v for g, v in sight.selection.filters.items() if g not in sight.groups}
    view = replace(view, selection=replace(sight.selection, filters={**kept, **filters}))
    dates = tab.recall(_RANGE, tuple[date, ...]())
    if len(dates) == 2 and dates != (sight.selection.period.first, sight.selection.period.last):
        view = _of_period(view, Period(*dates), None)
    usage_address.show(view)
    acts.renew()


def _active(sight: Sight) -> None:
    """What is filtered by, each with the way out of it."""
    row = st.container(horizontal=True, gap="xsmall")
    selection = sight.selection
    for group, values in selection.filters.items():
        names = labels(sight, group)
        said = ", ".join(called(group, value, names.get(value, str(value))) for value in values[:3])
        more = f" and {len(values) - 3} more" if len(values) > 3 else ""
        rest = {g: v for g, v in selection.filters.items() if g is not group}
        _chip(row, sight, f"{GROUPS[group].capitalize()}: {said}{more}",
              replace(selection, filters=rest), f"usage_without_{group}")  # fmt: skip
    if slot := selection.slot:
        said = f"{SLOT_DAYS[slot.weekday]}, {slot.hour}:00"
        _chip(row, sight, said, replace(selection, slot=None), "usage_without_slot")
    if selection.hour:
        said = f"{days(selection.period)}, {selection.hour:%H:%M}"
        _chip(row, sight, said, replace(selection, hour=None), "usage_without_hour")


def _chip(row: DeltaGenerator, sight: Sight, said: str, without: Selection, key: str) -> None:
    row.button(
        plain(said), icon=":material/close:", key=key, type="tertiary", icon_position="right",
        help="Take this filter away", on_click=usage_address.show,
        args=(replace(sight.view, selection=without),),
    )  # fmt: skip


def _key(group: Group) -> str:
    return f"usage_filter_{group}"
