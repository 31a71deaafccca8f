"""What every part of the Usage page is told: who looks, at what, compared with what, in which theme;
and the words for groups, days and zones. Reads nothing but labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import wraps
from typing import Concatenate, ParamSpec, TypeAlias

import streamlit as st
from sqlalchemy.orm import Session

from core import clock
from core.analytics import figures
from core.analytics.parameters import Span
from core.analytics.scope import sees_tenant
from core.analytics.selection import Group, Selection, Value
from core.identity import zones
from core.identity.access import Operator, Principal, SignedIn
from core.periods import Period, month_of
from pages.widgets import cached, fragments
from pages.widgets.text import plain
from pages.widgets.usage_address import Rest, View

Who: TypeAlias = Principal | Operator
P = ParamSpec("P")

GROUPS = {
    Group.TENANT: "tenant", Group.USER: "person", Group.MODEL: "model", Group.PROVIDER: "provider",
    Group.SOURCE: "source", Group.PURPOSE: "purpose", Group.COST_CENTER: "cost center",
    Group.PROJECT: "project", Group.OUTCOME: "outcome", Group.KEY: "API key",
}  # fmt: skip
OUTCOMES = {
    "ok": "Complete", "stopped": "Stopped", "cut": "Cut off", "error": "Failed",
    "timeout": "Timed out",
}  # fmt: skip
SOURCES = {"chat": "Chat", "api": "API", "background": "Background"}
SLOT_DAYS = (
    "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays",
)  # fmt: skip
_OF_ONE_PERSON = frozenset({Group.TENANT, Group.USER, Group.COST_CENTER})


@dataclass(frozen=True, slots=True)
class Sight:
    """Who looks at which view on which day; `principal` is the person in a team, where they have one."""

    who: Who
    principal: Principal | None
    view: View
    today: date
    dark: bool

    def of(self, found: SignedIn) -> Sight:
        """The same view with the eyes of `found`."""
        return replace(self, who=found.who_of_all, principal=found.principal)

    @property
    def selection(self) -> Selection:
        """What is looked at."""
        return self.view.selection

    @property
    def before(self) -> Selection:
        """What it is compared with."""
        return self.selection.within(_compared(self.view))

    @property
    def beside(self) -> str:
        """In few words what it is compared with."""
        period = self.before.period
        if period.is_whole_months and period.months == 1:
            return f"vs {period.first:%B}"
        return "vs before"

    @property
    def sees_many(self) -> bool:
        """Whether more than the person's own use is shown."""
        return isinstance(self.who, Operator) or sees_tenant(self.who)

    @property
    def groups(self) -> list[Group]:
        """What this person's use can be told apart by."""
        if isinstance(self.who, Operator):
            return [*Group]
        left_out = {Group.TENANT} if self.sees_many else _OF_ONE_PERSON
        return [group for group in Group if group not in left_out]

    @property
    def zone(self) -> str:
        """Whose days and hours they are, safe within Markdown."""
        if isinstance(self.who, Operator):
            return "each tenant's own days"
        return f"days of {plain(self.who.time_zone)}"


Part: TypeAlias = Callable[Concatenate[Sight, P], None]


def part(*, parallel: bool = True) -> Callable[[Part[P]], Part[P]]:
    """Make a function a part of the page that runs by itself, with the eyes of whoever looks then."""

    def make(draw: Part[P]) -> Part[P]:
        @fragments.fragment(parallel=parallel)
        @wraps(draw)
        def drawn(found: SignedIn, sight: Sight, /, *args: P.args, **kwargs: P.kwargs) -> None:
            draw(sight.of(found), *args, **kwargs)

        return drawn

    return make


def today_of(session: Session, who: Who) -> date:
    """The day it is: of a team its own, for operators that of UTC."""
    if isinstance(who, Operator):
        return clock.now().date()
    return zones.calendar_of(session, who.tenant_id).today()


def looking(who: Who, principal: Principal | None, view: View, today: date) -> Sight:
    """The sight of this run."""
    return Sight(who, principal, view, today, dark=st.context.theme.type == "dark")


def whose(who: Who) -> str:
    """Whose usage the page shows, and in which days; safe within Markdown."""
    if isinstance(who, Operator):
        return "Everyone in **all tenants**. Days and months are each tenant's own."
    shown = f"Everyone in **{plain(who.tenant_name)}**" if sees_tenant(who) else "**Your own use**"
    return f"{shown}. Days and months are those of {plain(who.time_zone)}."


def days(period: Period) -> str:
    """A period as people say it."""
    first, last = period.first, period.last
    if first == last:
        return f"{first:%b} {first.day}, {first.year}"
    if period.is_whole_months and period.months == 1:
        return f"{first:%B %Y}"
    year = f", {first.year}" if first.year != last.year else ""
    return f"{first:%b} {first.day}{year} \N{EN DASH} {last:%b} {last.day}, {last.year}"


def labels(sight: Sight, group: Group) -> dict[Value, str]:
    """What the values of a group are called in this period."""
    return dict(cached.read(figures.choices, sight.who, sight.selection, group))


def called(group: Group, value: Value, label: str) -> str:
    """A value's name: sources and outcomes have words of their own."""
    if group is Group.OUTCOME:
        return OUTCOMES.get(str(value), label)
    return SOURCES.get(str(value), label) if group is Group.SOURCE else label


def without_first(sight: Sight, rest: Rest, selection: Selection) -> Selection:
    """A selection narrowed to what a chart of the whole view sums up as other."""
    rows = cached.read(figures.groups, sight.who, sight.selection, rest.group)
    return selection.only(rest.group, *(row.value for row in rows[rest.count :]))


def _compared(view: View) -> Period:
    """The days before; of a running month as many days of the month before it."""
    period = view.selection.period
    if view.span is not Span.THIS_MONTH:
        return period.before
    month = month_of(period.first).before
    return Period(month.first, min(month.last, month.first + timedelta(days=period.days - 1)))
