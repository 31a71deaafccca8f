"""What was used, by whom and on which model, what it cost, why it rose, and where the month is heading.
Members see their own use, admins and finance the team's, operators everyone's. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import streamlit as st

from core import db, errors
from core.analytics import figures, parameters
from core.analytics.parameters import Span
from core.analytics.selection import Grain, Group, Selection
from core.identity.access import Principal
from pages.widgets import (
    cached,
    usage_address,
    usage_cards,
    usage_changes,
    usage_figures,
    usage_filters,
    usage_limits,
    usage_month,
    usage_people,
    usage_rows,
    usage_speeds,
    usage_talks,
    usage_view,
)
from pages.widgets import session as tab
from pages.widgets.text import plain
from pages.widgets.usage_view import Sight, Who

# Rows of charts, each with the charts whose rows open below it.
_ROWS: tuple[tuple[Callable[[Sight], None], frozenset[str]], ...] = (
    (usage_figures.cost, frozenset({usage_figures.OVER_TIME, usage_figures.BY_GROUP})),
    (usage_changes.draw, frozenset({usage_changes.CHANGES})),
    (usage_month.draw, frozenset({usage_month.BURN, usage_month.AGAINST})),
    (usage_figures.others, frozenset(map(usage_figures.name_of, Group))),
    (usage_figures.tokens, frozenset({usage_figures.TOKENS_BY_KIND, usage_figures.HOURS})),
    (usage_speeds.draw, frozenset(usage_speeds.charts())),
)


def draw(who: Who, principal: Principal | None) -> None:
    """The whole page, for one person."""
    st.header("Usage", anchor=False)
    st.caption(usage_view.whose(who))
    try:
        today = cached.read(usage_view.today_of, who)
        sight = usage_view.looking(who, principal, usage_address.read(today), today)
    except errors.BadInput as refusal:
        _refused(refusal)
        return
    usage_filters.draw(sight)
    if _is_empty(sight):
        _nothing(sight)
    else:
        _figures(sight)
    if principal is not None:
        usage_talks.draw()


def _figures(sight: Sight) -> None:
    usage_cards.draw(sight)
    if sight.principal is not None:
        usage_limits.draw()
    on = sight.view.opened.on if sight.view.opened else ""
    is_shown = False
    for row, charts in _ROWS:
        row(sight)
        place = st.container()  # always there, so that what is below keeps its place
        if on in charts:
            with place:
                usage_rows.draw(sight)
            is_shown = True
    if sight.who is sight.principal and sight.sees_many:
        usage_people.draw(sight.selection.period)
    if not is_shown:
        usage_rows.draw(sight)


def _is_empty(sight: Sight) -> bool:
    """Whether nothing was used or corrected; a look at the rows is never refused for that."""
    found = cached.read(figures.totals, sight.who, sight.selection)
    return not (found.requests or found.tokens or found.billed_nusd)


def _nothing(sight: Sight) -> None:
    """An empty period says so, and what to do."""
    view = sight.view
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown("**Nothing was used here**")
        with_filters = " with these filters" if view.selection.filters else ""
        st.markdown(
            f"There is no use in {plain(usage_view.days(view.selection.period))}{with_filters}."
            " Every call shows up here with its exact cost."
        )
        with st.container(horizontal=True, horizontal_alignment="left"):
            year = parameters.period_of(Span.YEAR, sight.today)
            wide = replace(view, selection=Selection(year), span=Span.YEAR, grain=Grain.DAY)
            st.button(
                "Show 12 months of everything", key="usage_year", icon=":material/date_range:",
                on_click=usage_address.show, args=(wide,),
            )  # fmt: skip
            if sight.principal is not None:
                st.page_link("chat.py", label="Open Chat", icon=":material/forum:")
                st.page_link("account.py", label="Create an API key", icon=":material/key:")
    if sight.principal is not None:
        usage_limits.draw()


def _refused(refusal: errors.BadInput) -> None:
    """An address that cannot be read: what is wrong with it, and the way back."""
    said = f" (`{refusal.param}`)" if refusal.param else ""
    st.warning(
        f"**This address cannot be shown.**  \n{plain(refusal.message)}{said}",
        icon=":material/link_off:",
    )
    st.button(
        "Show the last 30 days", icon=":material/restart_alt:", key="usage_start_over",
        on_click=usage_address.start_over,
    )  # fmt: skip


def _who() -> tuple[Who, Principal | None]:
    """Whose eyes: an operator's where the person is one, and the person in their team, if any."""
    found = tab.require_signed_in()
    return found.operator or tab.require(), found.principal


with db.use_lane(db.Lane.ANALYTICS):
    draw(*_who())
