"""The rows behind a figure: calls and the corrections of calls, page by page in any order. Their sum
stands above them, and it is the figure that was clicked, to the last digit."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.analytics import details, figures
from core.analytics.charts.parts import exact_usd
from core.analytics.details import Cursor, EventRow, Key, Order, Page
from core.analytics.figures import Estimates, Totals
from core.analytics.selection import Group, Selection
from core.identity.access import Operator
from pages.widgets import cached, shown, usage_address, usage_changes
from pages.widgets import session as tab
from pages.widgets.text import plain
from pages.widgets.usage_address import Opened
from pages.widgets.usage_view import (
    GROUPS,
    OUTCOMES,
    SLOT_DAYS,
    SOURCES,
    Sight,
    called,
    days,
    labels,
    without_first,
)

_ROWS = 25
_NO_LINK = "@\N{WORD JOINER}"  # an address of a person stays text
_TRAIL = "usage_trail"
_ORDERS = {
    Order(Key.TIME): "Newest first",
    Order(Key.TIME, descending=False): "Oldest first",
    Order(Key.COST): "Dearest first",
    Order(Key.COST, descending=False): "Cheapest first",
    Order(Key.TOKENS): "Most tokens first",
    Order(Key.DURATION): "Longest first",
}
_DRILLS = (Group.TENANT, Group.USER, Group.MODEL, Group.PURPOSE)


def draw(sight: Sight) -> None:
    """The rows of what was opened; of the whole view where nothing is."""
    opened = sight.view.opened
    selection = _opened_selection(sight, opened) if opened else sight.selection
    with st.container(border=True, key="usage_rows"):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(f"**{_title(sight, opened)}**", width="stretch")
        _order(sight, head)
        if opened is not None:
            _ways(sight, opened, head)
        with st.skeleton(height=200):
            trail = _trail()
            page = cached.read(
                details.rows, sight.who, selection, order=sight.view.order, limit=_ROWS,
                after=trail[-1] if trail else None,
            )  # fmt: skip
            sums = cached.read(details.sums, sight.who, selection)
            unsure = cached.read(figures.estimates, sight.who, selection)
        _sums(page, sums, unsure)
        if opened is not None:
            _made_of(sight, opened, selection)
        if page.rows:
            _table(sight, page)
            _turn(page, trail)


def _opened_selection(sight: Sight, opened: Opened) -> Selection:
    if opened.rest is None:
        return opened.selection
    return without_first(sight, opened.rest, opened.selection)


def _title(sight: Sight, opened: Opened | None) -> str:
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


def _order(sight: Sight, head: DeltaGenerator) -> None:
    tab.keep("usage_sort", sight.view.order)

    def reorder() -> None:
        order = tab.recall("usage_sort", usage_address.NEWEST)
        usage_address.reorder(order)

    orders = list(_ORDERS) if sight.view.order in _ORDERS else [*_ORDERS, sight.view.order]
    head.selectbox(
        "Order", orders, key="usage_sort", width=170, label_visibility="collapsed",
        format_func=lambda order: _ORDERS.get(order, "Other order"), on_change=reorder,
    )  # fmt: skip


def _ways(sight: Sight, opened: Opened, head: DeltaGenerator) -> None:
    """Out of what was opened: back to all, or on with it alone."""

    def keep_only() -> None:
        usage_address.show(usage_address.narrowed_by(sight.view, opened.selection))

    if opened.rest is None:
        head.button(
            "Filter by this", icon=":material/filter_alt:", key="usage_keep", on_click=keep_only
        )
    head.button(
        "Show all", icon=":material/close:", key="usage_show_all", on_click=usage_address.show_all
    )


def _sums(page: Page, sums: Totals, unsure: Estimates) -> None:
    """What all rows come to, on every page."""
    noun = "call" if sums.requests == 1 else "calls"
    parts = [
        f"{sums.requests:,} {noun}",
        f"{sums.prompt_tokens:,} tokens in ({sums.cached_tokens:,} from and"
        f" {sums.cache_write_tokens:,} into the cache)",
        f"{sums.completion_tokens:,} out ({sums.reasoning_tokens:,} reasoning)",
        f"**{_safe(exact_usd(sums.billed_nusd))}** in all",
    ]
    if sums.list_nusd is not None:
        parts.append(f"{_safe(exact_usd(sums.list_nusd))} at the providers' prices")
    if unsure.calls:
        verb = "is an estimate" if unsure.calls == 1 else "are estimates"
        parts.append(f"\N{ALMOST EQUAL TO} {unsure.calls:,} of them {verb}")
    st.markdown(" · ".join(parts))
    st.caption(
        f"Times are {plain(shown.zone())}. A correction shows what it changed."
        if page.rows
        else "Nothing was used here. Show all, or choose another period."
    )


def _made_of(sight: Sight, opened: Opened, selection: Selection) -> None:
    """The opened figure by what it is not narrowed to yet."""
    if opened.rest is not None:
        return  # its parts are too many for an address
    narrowed = {group for group in Group if group in opened.narrowed} | sight.selection.filtered
    left = [group for group in _DRILLS if group in sight.groups and group not in narrowed]
    for group in left[:1]:
        usage_changes.within(sight, opened.on, selection, group)


def _table(sight: Sight, page: Page) -> None:
    hidden = set() if sight.sees_many else {"person"}
    if not isinstance(sight.who, Operator):
        hidden |= {"tenant", "list"}
    column = st.column_config
    columns = {
        "time": column.DatetimeColumn("Time", format="MMM D, HH:mm", timezone=shown.zone(), width=105),
        "tenant": column.TextColumn("Tenant", width=120),
        "person": column.TextColumn("Person"),
        "model": column.TextColumn("Model served"),
        "prompt": column.NumberColumn("Tokens in", format="localized", width=80),
        "answer": column.NumberColumn("Tokens out", format="localized", width=80),
        "cost": column.TextColumn(
            "Cost", alignment="right",
            help="Exact. \N{ALMOST EQUAL TO} marks an estimate until the provider's figure is known.",
        ),
        "list": column.TextColumn("List cost", alignment="right"),
        "outcome": column.TextColumn("Outcome", width=85),
        "seconds": column.NumberColumn("Seconds", format="%.1f", width=70),
        "source": column.TextColumn("From", width=90),
        "cost_center": column.TextColumn("Cost center", width=110),
        "project": column.TextColumn("Project", width=110),
    }  # fmt: skip
    st.dataframe(
        _frame(sight, page.rows), hide_index=True, key="usage_calls", height="content",
        column_order=[name for name in columns if name not in hidden], column_config=columns,
        alt="Time, model, tokens, cost and outcome of each call",
    )  # fmt: skip


def _frame(sight: Sight, rows: tuple[EventRow, ...]) -> pd.DataFrame:
    tenants = labels(sight, Group.TENANT) if isinstance(sight.who, Operator) else {}
    return pd.DataFrame(
        {
            "time": pd.to_datetime([row.occurred_at for row in rows], utc=True),
            "tenant": [tenants.get(row.tenant_id, "") for row in rows],
            "person": [row.person for row in rows],
            "model": [row.model for row in rows],
            "prompt": [row.prompt_tokens for row in rows],
            "answer": [row.completion_tokens for row in rows],
            "cost": [_cost(row) for row in rows],
            "list": ["" if row.list_nusd is None else exact_usd(row.list_nusd) for row in rows],
            "outcome": [_outcome(row) for row in rows],
            "seconds": [row.latency_ms / 1000 for row in rows],
            "source": [SOURCES.get(row.source, row.source) for row in rows],
            "cost_center": [row.cost_center for row in rows],
            "project": [row.project for row in rows],
        }
    )


def _cost(row: EventRow) -> str:
    return ("\N{ALMOST EQUAL TO} " if row.estimated else "") + exact_usd(row.billed_nusd)


def _outcome(row: EventRow) -> str:
    return "Correction" if row.kind == "adjustment" else OUTCOMES.get(row.outcome, row.outcome)


def _trail() -> tuple[Cursor, ...]:
    """The places where the pages before this one ended; none in another view."""
    name, trail = tab.recall(_TRAIL, ("", ()))
    return trail if name == usage_address.mark() else ()


def _turn(page: Page, trail: tuple[Cursor, ...]) -> None:
    """The buttons to the pages around this one."""
    if not trail and page.next is None:
        return
    foot = st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center")
    foot.caption(f"Page {len(trail) + 1}", width="content")
    foot.button(
        "Back", icon=":material/chevron_left:", key="usage_back", disabled=not trail,
        on_click=_go, args=(trail[:-1],),
    )  # fmt: skip
    foot.button(
        "Next", icon=":material/chevron_right:", key="usage_next", disabled=page.next is None,
        icon_position="right", on_click=_go,
        args=((*trail, page.next) if page.next else trail,),
    )  # fmt: skip


def _go(trail: tuple[Cursor, ...]) -> None:
    tab.keep(_TRAIL, (usage_address.mark(), trail))


def _safe(amount: str) -> str:
    return amount.replace("$", "\\$")
