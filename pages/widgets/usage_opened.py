"""What was opened by a click, in words and as usage: the values, days and hours it is narrowed to."""

from __future__ import annotations

from core.analytics.selection import Group, Selection
from pages.widgets.text import plain
from pages.widgets.usage_address import Opened
from pages.widgets.usage_view import (
    GROUPS,
    SLOT_DAYS,
    Sight,
    called,
    days,
    labels,
    without_first,
)

_NO_LINK = "@\N{WORD JOINER}"  # an address of a person stays text


def selection_of(sight: Sight, opened: Opened) -> Selection:
    """The usage behind it; what is summed up as other is found again from the view."""
    if opened.rest is None:
        return opened.selection
    return without_first(sight, opened.rest, opened.selection)


def title(sight: Sight, opened: Opened | None) -> str:
    """What the rows are of, safe within Markdown."""
    if opened is None:
        return "Calls"
    said = [
        plain(_named(sight, group, opened.selection)).replace("@", _NO_LINK)
        for group in opened.selection.filters
        if group in opened.narrowed
    ]
    if opened.rest is not None:
        said.append(f"all but the first {opened.rest.count} by {GROUPS[opened.rest.group]}")
    if opened.selection.hour is not None and "hour" in opened.narrowed:
        said.append(
            f"{opened.selection.hour:%b} {opened.selection.hour.day}, {opened.selection.hour:%H:%M}"
        )
    elif "from" in opened.narrowed:
        said.append(plain(days(opened.selection.period)))
    if (slot := opened.selection.slot) is not None and "slot" in opened.narrowed:
        said.append(f"{SLOT_DAYS[slot.weekday]}, {slot.hour}:00\N{EN DASH}{slot.hour + 1}:00")
    return f"Calls of {' · '.join(said)}" if said else "Calls"


def _named(sight: Sight, group: Group, selection: Selection) -> str:
    names = labels(sight, group)
    values = selection.filters[group]
    return ", ".join(called(group, value, names.get(value, str(value))) for value in values)
