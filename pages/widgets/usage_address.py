"""The address of the Usage page: what is asked for, how it is broken down, and what was opened. All
of it is in the address, so that a view can be sent; none of it is believed before it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

import streamlit as st

from core import errors
from core.analytics import parameters
from core.analytics.details import Key, Order
from core.analytics.parameters import FROM, HOUR, SLOT, SPAN, TO, Span
from core.analytics.selection import Grain, Group, Selection

_PREFIX, _ON, _REST = "open_", "open", "open_rest"
_SORT, _CHANGES = "sort", "changes"
_PERIOD = (SPAN, FROM, TO)
_NARROWING = frozenset({FROM, TO, HOUR, SLOT, *Group})
_ASKED = (*_PERIOD, HOUR, SLOT, parameters.GROUP_BY, parameters.ROLLUP, *Group)
_OF_REST = re.compile(r"([a-z_]{3,12})-([1-9][0-9]?)", re.ASCII)
_UP = "-up"
NEWEST = Order()
Words = Mapping[str, Sequence[str]]


class Ranking(StrEnum):
    """What stands first among what changed: the largest rise, the largest fall, or the dearest."""

    RISE = "rise"
    FALL = "fall"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Rest:
    """Everything of a breakdown after its first `count` parts."""

    group: Group
    count: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What was clicked: the chart it stands on, and what narrows the view down to the figure."""

    on: str
    narrowed: frozenset[str]
    selection: Selection
    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What an address asks to see. `span` is the preset that the period moves with, if any; `order` is
    that of the rows, `ranking` that of what changed."""

    selection: Selection
    span: Span | None
    group: Group
    grain: Grain
    order: Order = NEWEST
    ranking: Ranking = Ranking.RISE
    opened: Opened | None = None


def read(today: date) -> View:
    """The view of this tab's address. Raises errors.BadInput for what cannot be read."""
    words = {name: st.query_params.get_all(name) for name in st.query_params}
    asked = {name: words[name] for name in _ASKED if name in words}
    group, grain = parameters.read_view(asked)
    selection = parameters.read(asked, today)
    parameters.require_grain(selection.period, grain)
    span = None if FROM in asked else Span(asked.get(SPAN, [Span.DAYS_30])[0])
    ranking = Ranking(parameters.one_of(words, _CHANGES, [*Ranking]) or Ranking.RISE)
    opened = _opened(words, asked, today)
    return View(selection, span, group, grain, _order(words), ranking, opened)


def show(view: View) -> None:
    """Make the address that of a view, with nothing opened."""
    st.query_params.from_dict(_written(view))


def show_all() -> None:
    """Close what was opened."""
    for name in [name for name in st.query_params if name == _ON or name.startswith(_PREFIX)]:
        del st.query_params[name]


def open_rows(view: View, on: str, narrowed: Selection, rest: Rest | None = None) -> None:
    """Make the address that of the rows behind a figure: what narrows the view down to it."""
    whole = parameters.write(view.selection)
    words = {
        f"{_PREFIX}{name}": values
        for name, values in parameters.write(narrowed).items()
        if whole.get(name) != values
    }
    if any(_PREFIX + name in words for name in (FROM, TO)):
        days = narrowed.period
        words |= {_PREFIX + FROM: [str(days.first)], _PREFIX + TO: [str(days.last)]}
    if rest:
        words[_REST] = [f"{rest.group}-{rest.count}"]
    st.query_params.from_dict({**_written(view), **words, _ON: [on]})


def reorder(order: Order) -> None:
    """Put the rows in another order."""
    if order == NEWEST:
        st.query_params.pop(_SORT, None)
    else:
        st.query_params[_SORT] = _order_said(order)


def rank(ranking: Ranking) -> None:
    """Put what changed in another order."""
    if ranking is Ranking.RISE:
        st.query_params.pop(_CHANGES, None)
    else:
        st.query_params[_CHANGES] = ranking.value


def start_over() -> None:
    """Make the address that of the page as it is at first."""
    st.query_params.clear()


def mark() -> str:
    """The address as part of a widget's key: with another view the widget starts anew.

    What stands first among what changed is no other view: nothing else is drawn anew for it.
    """
    names = sorted(name for name in st.query_params if name != _CHANGES)
    return repr([(name, st.query_params.get_all(name)) for name in names])


def _written(view: View) -> dict[str, list[str]]:
    """A view in words; what is the default anyway is left out."""
    by = None if view.group is Group.MODEL else view.group
    step = None if view.grain is Grain.DAY else view.grain
    words = parameters.write(view.selection, span=view.span, group=by, grain=step)
    if view.span is Span.DAYS_30:
        del words[SPAN]
    if view.order != NEWEST:
        words[_SORT] = [_order_said(view.order)]
    if view.ranking is not Ranking.RISE:
        words[_CHANGES] = [view.ranking.value]
    return words


def _order_said(order: Order) -> str:
    return order.key + ("" if order.descending else _UP)


def _order(words: Words) -> Order:
    known = [word for key in Key for word in (key.value, key.value + _UP)]
    word = parameters.one_of(words, _SORT, known) or Key.TIME.value
    return Order(Key(word.removesuffix(_UP)), descending=not word.endswith(_UP))


def _opened(words: Words, asked: Words, today: date) -> Opened | None:
    """What was opened. Only what narrows a view may be said of it, and it stays within the view."""
    if _ON not in words:
        return None
    narrowed = {
        name: words[_PREFIX + name] for name in sorted(_NARROWING) if _PREFIX + name in words
    }
    dropped = _PERIOD if FROM in narrowed or TO in narrowed else ()
    kept = {name: values for name, values in asked.items() if name not in dropped}
    selection = parameters.read({**kept, **narrowed}, today)
    return Opened(words[_ON][0], frozenset(narrowed), selection, _rest(words))


def _rest(words: Words) -> Rest | None:
    word = (words.get(_REST) or [""])[0]
    if not word:
        return None
    found = _OF_REST.fullmatch(word)
    if found is None or found[1] not in [*Group]:
        raise errors.BadInput("This address names no part of a chart.", param=_REST)
    return Rest(Group(found[1]), int(found[2]))


def narrowed_by(view: View, selection: Selection) -> View:
    """The same view of a narrower selection, for good."""
    span = view.span if selection.period == view.selection.period else None
    return replace(view, selection=selection, span=span, opened=None)
