"""Why it rose: what each person, model or cost center cost, what it cost before, and the difference. A
row opens into the calls behind it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from core.analytics import figures
from core.analytics.charts.parts import exact_usd
from core.analytics.selection import Group, Selection, Value
from pages.widgets import cached, shown, usage_address, usage_chart
from pages.widgets import session as tab
from pages.widgets.text import plain
from pages.widgets.usage_address import Ranking
from pages.widgets.usage_metrics import change
from pages.widgets.usage_view import GROUPS, Sight, called, days, part

CHANGES = "changes"
_SORT = "usage_changes_sort"
_SORTS = {
    Ranking.COST: "Dearest first", Ranking.RISE: "Largest rise first",
    Ranking.FALL: "Largest fall first",
}  # fmt: skip
_ROWS_MAX, _SHOWN_MAX, _SHORT_MAX = 200, 10, 8


@dataclass(frozen=True, slots=True)
class Change:
    """One part of a breakdown now and before; `label` is what it is called."""

    value: Value
    label: str
    cost_nusd: int
    before_nusd: int
    requests: int

    @property
    def difference_nusd(self) -> int:
        """By how much it rose; below zero where it fell."""
        return self.cost_nusd - self.before_nusd


def draw(sight: Sight) -> None:
    """The whole table, of the view's group."""
    tab.keep(_SORT, sight.view.ranking)
    _card(sight)


@part()
def _card(sight: Sight) -> None:
    group, ranking = sight.view.group, sight.view.ranking
    with usage_chart.card(f"What changed, by {GROUPS[group]}", _words(sight)):
        st.segmented_control(
            "Order", list(_SORTS), required=True, key=_SORT, label_visibility="collapsed",
            format_func=lambda ranking: _SORTS[ranking], on_change=_rank, args=(ranking,),
        )  # fmt: skip
        with usage_chart.waiting(200):
            found = of(sight, sight.selection, sight.before, group)
        ordered = _ordered(found, ranking)[:_ROWS_MAX]
        _table(sight, ordered, group, sight.selection, CHANGES, f"{CHANGES}_{ranking}")
        if len(found) > len(ordered):
            st.caption(f"{len(found) - len(ordered):,} more are left out here.")


def _rank(ranking: Ranking) -> None:
    """Make the address that of the chosen order; `ranking` is the one so far."""
    usage_address.rank(tab.recall(_SORT, ranking))
    st.rerun()


def within(sight: Sight, on: str, opened: Selection, group: Group) -> None:
    """What an opened figure is made of, in short; each part opens in its turn."""
    is_whole = opened.period == sight.selection.period
    before = opened.within(sight.before.period if is_whole else opened.period.before)
    found = _ordered(of(sight, opened, before, group), Ranking.COST)[:_SHORT_MAX]
    if len(found) > 1:
        st.caption(f"By {GROUPS[group]}, beside {plain(days(before.period))}")
        _table(sight, found, group, opened, on, "within")


def of(sight: Sight, now: Selection, before: Selection, group: Group) -> list[Change]:
    """Every part that cost anything now or before."""
    rows = {row.value: row for row in cached.read(figures.groups, sight.who, now, group)}
    then = {row.value: row for row in cached.read(figures.groups, sight.who, before, group)}
    found = []
    for value in rows | then:
        row, earlier = rows.get(value), then.get(value)
        label = (row or then[value]).label
        found.append(
            Change(
                value, called(group, value, label), row.totals.billed_nusd if row else 0,
                earlier.totals.billed_nusd if earlier else 0, row.totals.requests if row else 0,
            )
        )  # fmt: skip
    return found


def _table(
    sight: Sight, found: list[Change], group: Group, whole: Selection, on: str, name: str
) -> None:
    """The parts of `whole`; one that is selected opens under the chart `on`."""
    key, noun = usage_chart.key_of(name), GROUPS[group]

    def open_row() -> None:
        if (chosen := _chosen(key, found)) is not None:
            usage_address.open_rows(sight.view, on, whole.only(group, chosen.value))
            st.rerun()

    st.dataframe(
        _frame(found, noun), hide_index=True, key=key, on_select=open_row,
        selection_mode="single-row", height="content" if len(found) <= _SHOWN_MAX else 390,
        alt=f"Cost now and before of each {noun}", column_config=_columns(noun),
    )  # fmt: skip


def _ordered(found: list[Change], ranking: Ranking) -> list[Change]:
    by = {
        Ranking.COST: lambda change: -change.cost_nusd,
        Ranking.RISE: lambda change: -change.difference_nusd,
        Ranking.FALL: lambda change: change.difference_nusd,
    }
    return sorted(found, key=by[ranking])


def _chosen(key: str, ordered: list[Change]) -> Change | None:
    state = tab.holds(key)
    rows = state.get("selection", {}).get("rows", []) if isinstance(state, dict) else []
    if rows and isinstance(rows[0], int) and 0 <= rows[0] < len(ordered):
        return ordered[rows[0]]
    return None


def _frame(found: list[Change], group: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            group: [change.label for change in found],
            "cost": [exact_usd(change.cost_nusd) for change in found],
            "before": [exact_usd(change.before_nusd) for change in found],
            "difference": [_signed(change.difference_nusd) for change in found],
            "percent": [_percent(change) for change in found],
            "requests": [change.requests for change in found],
        }
    )


def _columns(group: str) -> dict[str, ColumnConfig]:
    column = st.column_config
    return {
        group: column.TextColumn(group.capitalize(), pinned=True),
        "cost": column.TextColumn("Cost", alignment="right"),
        "before": column.TextColumn("Before", alignment="right"),
        "difference": column.TextColumn("Difference", alignment="right"),
        "percent": column.TextColumn("Change", alignment="right", width=80),
        "requests": column.NumberColumn("Requests", format="localized", width=80),
    }


def _signed(amount_nusd: int) -> str:
    return f"{'+' if amount_nusd > 0 else ''}{exact_usd(amount_nusd)}"


def _percent(found: Change) -> str:
    return shown.percent(change(found.cost_nusd, found.before_nusd)) or (
        "new" if found.cost_nusd else shown.NONE
    )


def _words(sight: Sight) -> str:
    return (
        f"{plain(days(sight.selection.period))} beside {plain(days(sight.before.period))} ·"
        f" {sight.zone} · select a row to see its calls"
    )
