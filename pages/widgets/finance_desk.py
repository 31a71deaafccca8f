"""Whose books the Finance page shows, to whom: a team's own, or for operators those of the tenant named in
the address, or of all. Also what several of its parts draw in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TypeAlias
from uuid import UUID

import streamlit as st

from core import clock, db
from core.analytics import parameters
from core.analytics.selection import Group, Selection, Value
from core.finance import months
from core.finance.months import Month, State
from core.identity import members, tenants, zones
from core.identity.access import Operator, Principal, Role, SignedIn
from core.periods import Period, month_of
from pages.widgets import session as tab
from pages.widgets import tenant_pick
from pages.widgets.text import plain

Who: TypeAlias = Principal | Operator
MONTH = "month"
_MONTHS_BACK = 24


@dataclass(frozen=True, slots=True)
class Desk:
    """Who looks at whose books; without a tenant (operators only) at those of all."""

    who: Who
    tenant_id: UUID | None
    tenant_name: str
    time_zone: str
    today: date
    names: Mapping[str, str]

    @property
    def operator(self) -> Operator | None:
        """The platform operator, if it is one who looks."""
        return self.who if isinstance(self.who, Operator) else None

    def of(self, found: SignedIn) -> Desk:
        """The same books for `found`."""
        return replace(self, who=found.who_of_all)

    def called(self, actor: str | None) -> str:
        """Who an actor of the audit log is, safe within Markdown."""
        kind = (actor or "").partition(":")[0]
        known = self.names.get(actor or "")
        if known is not None:
            return plain(known)
        return {"operator": "an operator", "user": "a former member"}.get(kind, "the command line")


def open_desk(found: SignedIn) -> Desk:
    """The head of the page, with the choice of a tenant for operators; others end here."""
    if found.operator is not None:
        return _of_operator(found.operator)
    who = tab.require(Role.ADMIN, Role.FINANCE)
    with db.transaction(who) as session:
        people = members.colleagues(session, who)
        today = zones.calendar_of(session, who.tenant_id).today()
    st.header("Finance", anchor=False)
    st.caption(
        f"The books of **{plain(who.tenant_name)}**, in USD. Days and months are those of"
        f" {plain(who.time_zone)}."
    )
    names = {f"user:{person.user_id}": person.name or person.email for person in people}
    return Desk(who, who.tenant_id, who.tenant_name, who.time_zone, today, names)


def _of_operator(operator: Operator) -> Desk:
    with db.transaction(operator) as session:
        entries = {entry.tenant_id: entry for entry in tenants.every_tenant(session, operator)}
    head = st.container(horizontal=True, vertical_alignment="bottom")
    head.header("Finance", anchor=False, width="stretch")
    chosen = tenant_pick.draw(
        head, "Tenant", {of: entry.name for of, entry in entries.items()},
        placeholder="All tenants", width=260,
    )  # fmt: skip
    names = {f"operator:{operator.user_id}": operator.name or operator.email}
    entry = entries[chosen] if chosen else None
    if entry is None:
        st.caption("The books of **all tenants**, in USD. Days and months are each tenant's own.")
        return Desk(operator, None, "all tenants", "UTC", clock.now().date(), names)
    with db.transaction(operator) as session:
        today = zones.calendar_of(session, entry.tenant_id).today()
    st.caption(
        f"The books of **{plain(entry.name)}**, in USD. Days and months are those of"
        f" {plain(entry.time_zone)}."
    )
    names |= {f"user:{person.user_id}": person.name or person.email for person in entry.members}
    return Desk(operator, entry.tenant_id, entry.name, entry.time_zone, today, names)


def months_of(desk: Desk) -> tuple[Month, ...]:
    """The months of the tenant whose books these are, the newest first; none without a tenant."""
    if desk.tenant_id is None:
        return ()
    with db.transaction(desk.who) as session:
        return months.of_tenant(session, desk.who, desk.tenant_id)


def pick_month(desk: Desk, rows: Sequence[Month], *, label: str = "Month") -> date:
    """The month in the address: by default the newest that has ended and is not closed."""
    options = [row.month for row in rows] or recent(desk.today)
    to_do = [row.month for row in rows if row.ended and row.state is not State.CLOSED]
    first = to_do[0] if to_do else options[min(1, len(options) - 1)]
    chosen = st.selectbox(
        label, options, index=options.index(first), key=MONTH, bind="query-params", width=200,
        format_func=month_name,
    )  # fmt: skip
    return chosen if isinstance(chosen, date) else first


def month_name(month: date) -> str:
    """A month as people say it."""
    return f"{month:%B %Y}"


def recent(today: date) -> list[date]:
    """The current month and those before it, where no tenant's books say when they began."""
    found = [today.replace(day=1)]
    while len(found) < _MONTHS_BACK:
        found.append((found[-1] - timedelta(days=1)).replace(day=1))
    return found


def selection(desk: Desk, month: date, **narrowed: Value) -> Selection:
    """A month's usage as the Usage page is asked for it."""
    period: Period = month_of(month)
    found = Selection(Period(period.first, min(period.last, desk.today)))
    if desk.operator is not None and desk.tenant_id is not None:
        found = found.only(Group.TENANT, desk.tenant_id)
    for name, value in narrowed.items():
        found = found.only(Group(name), value)
    return found


def usage_link(desk: Desk, month: date, label: str) -> None:
    """The way to the calls of a month."""
    st.page_link(
        "usage.py", label=label, icon=":material/monitoring:",
        query_params=parameters.write(selection(desk, month)),
    )  # fmt: skip


def choose_tenant() -> None:
    """What stands where only one tenant's books can be shown."""
    with st.container(border=True):
        st.markdown("**Choose a tenant**")
        st.caption("This part shows the books of one tenant: choose it at the top.")
