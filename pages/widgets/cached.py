"""Figures kept for a few seconds, so that a click does not read them again. Keyed by the tenant
first, then the person and what they may see: nothing is ever shared across tenants or people."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import streamlit as st

from core import db
from core.analytics import queries, report
from core.analytics.periods import Period
from core.analytics.queries import CallRow, CallSums, Cursor
from core.analytics.report import Report
from core.identity.access import Principal, Role

_TTL_S = 5


@dataclass(frozen=True, slots=True)
class CallsAsked:
    """Which calls a person wants to see."""

    period: Period
    model: str | None = None
    person_id: UUID | None = None
    before: Cursor | None = None
    limit: int = 25


@dataclass(frozen=True, slots=True)
class CallsPage:
    """A page of calls, whether older ones follow, and what all pages come to."""

    rows: tuple[CallRow, ...]
    more: bool
    sums: CallSums


def usage_report(who: Principal, days: int) -> Report:
    """The report of the last `days` days, at most a few seconds old."""
    return _report(who.tenant_id, who.user_id, who.role, who.time_zone, days, who)


def calls_page(who: Principal, asked: CallsAsked) -> CallsPage:
    """One page of calls, at most a few seconds old."""
    return _calls(who.tenant_id, who.user_id, who.role, who.time_zone, repr(asked), asked, who)


@st.cache_data(ttl=_TTL_S, max_entries=500, show_spinner=False)
def _report(
    tenant_id: UUID, user_id: UUID, role: Role, time_zone: str, days: int, _who: Principal
) -> Report:
    del tenant_id, user_id, role, time_zone  # they are the key; the reading is bound to `_who`
    with db.transaction(_who) as session:
        return report.read(session, _who, days)


@st.cache_data(ttl=_TTL_S, max_entries=500, show_spinner=False)
def _calls(
    tenant_id: UUID,
    user_id: UUID,
    role: Role,
    time_zone: str,
    asked_key: str,
    _asked: CallsAsked,
    _who: Principal,
) -> CallsPage:
    del tenant_id, user_id, role, time_zone, asked_key  # as above
    with db.transaction(_who) as session:
        rows = queries.calls(
            session, _who, _asked.period, model=_asked.model, person_id=_asked.person_id,
            before=_asked.before, limit=_asked.limit + 1,
        )  # fmt: skip
        sums = queries.call_sums(
            session, _who, _asked.period, model=_asked.model, person_id=_asked.person_id
        )
    return CallsPage(rows[: _asked.limit], len(rows) > _asked.limit, sums)
