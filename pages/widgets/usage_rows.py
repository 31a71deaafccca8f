"""The rows behind a figure: calls and the corrections of calls, page by page in any order. Their sum
stands above them, and it is the figure that was clicked, to the last digit."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.analytics import details, figures
from core.analytics.charts.parts import exact_usd
from core.analytics.details import Cursor, Key, Order, Page
from core.analytics.figures import Estimates, Totals
from core.analytics.selection import Group, Selection
from pages.widgets import cached, shown, usage_address, usage_calls, usage_changes, usage_opened
from pages.widgets import session as tab
from pages.widgets.text import plain
from pages.widgets.usage_address import Opened
from pages.widgets.usage_view import (
    Sight,
)

_ROWS = 25
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
    selection = usage_opened.selection_of(sight, opened) if opened else sight.selection
    with st.container(border=True, key="usage_rows"):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(f"**{usage_opened.title(sight, opened)}**", width="stretch")
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
            usage_calls.draw(sight, page.rows)
            _turn(page, trail)


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
