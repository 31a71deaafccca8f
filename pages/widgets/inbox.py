"""What a person was told and has not put away yet, behind a bell in the sidebar. Shows each notice in
words, with the way to what it is about; putting it away is each reader's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from urllib.parse import urlencode
from uuid import UUID

import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.alerts import notices
from core.alerts.notices import Told
from core.identity.access import Operator, Principal, Role
from core.identity.limits import LimitName
from core.periods import Period, month_of
from pages.widgets import acts, finance_desk, shown
from pages.widgets.text import plain

_TTL_S = 15
_SHOWN = 8
_NO_LINK = "@\N{WORD JOINER}"  # an address of a person stays text
_LIMITS = {
    LimitName.MONTHLY_MESSAGES: "messages", LimitName.MONTHLY_TOKENS: "tokens",
    LimitName.MONTHLY_NUSD: "budget",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Way:
    """A page, and what its address says."""

    page: str
    label: str
    query: Mapping[str, str] = field(default_factory=dict)


def draw(who: Principal | Operator) -> None:
    """The bell, and what waits behind it; nothing where nothing waits."""
    waiting = _unread(who)
    if not waiting:
        return
    bell = st.popover(
        f"{len(waiting)}", icon=":material/notifications:", type="tertiary", key="inbox",
        help="Notices", on_change="rerun",
    )  # fmt: skip
    if not bell.open:
        return
    with bell:
        for told in waiting[:_SHOWN]:
            _line(who, told)
        if len(waiting) > 1:
            foot = st.container(horizontal=True, vertical_alignment="center")
            more = len(waiting) - _SHOWN
            foot.caption(f"{more:,} older ones follow." if more > 0 else "", width="stretch")
            if foot.button("Put these away", type="tertiary", key="read_all"):
                _put_away(who, waiting[:_SHOWN])


def forget() -> None:
    """Read anew at the next run what waits for everybody."""
    _told.clear()


def sentence(who: Principal | Operator, told: Told) -> str:
    """A notice in words for its reader, safe to draw. Operators are told whose it is."""
    facts = told.facts
    match told.kind:
        case "conversation.dear":
            whose = plain(told.subject or "somebody").replace("@", _NO_LINK)
            spent = shown.usd(int(facts["billed_nusd"]))
            return f"A conversation of {whose}{_at(who, told)} has cost {spent}."
        case "quota.near":
            return _quota(who, told)
        case "export.ready":
            return _export(who, told)
        case "provider_bill.differs":
            return _bill(told)
    return plain(told.kind)


def _line(who: Principal | Operator, told: Told) -> None:
    row = st.container(horizontal=True, vertical_alignment="top", gap="small", wrap=False)
    with row.container(gap=None):
        st.markdown(sentence(who, told))
        foot = st.container(horizontal=True, vertical_alignment="center", gap="small")
        foot.caption(shown.ago(told.created_at), width="content")
        if (way := _way(who, told)) is not None:
            foot.link_button(  # a link between pages keeps a part that both have
                way.label, f"/{way.page}?{urlencode(way.query)}", type="tertiary",
                icon=":material/open_in_new:", key=f"way_{told.notice_id}",
            )  # fmt: skip
    if row.button(
        "", icon=":material/close:", type="tertiary", key=f"read_{told.notice_id}", help="Put away"
    ):
        _put_away(who, [told])


def _put_away(who: Principal | Operator, these: Sequence[Told]) -> None:
    def each(session: Session) -> None:
        for told in these:
            notices.put_away(session, who, told.notice_id)

    acts.attempt(who, each)
    forget()
    st.rerun()


def _quota(who: Principal | Operator, told: Told) -> str:
    facts = told.facts
    name = LimitName(facts["limit"])
    used, maximum = int(facts["used"]), int(facts["maximum"])
    amounts = (
        f"{shown.usd(used)} of {shown.usd(maximum)}" if name is LimitName.MONTHLY_NUSD
        else f"{used:,} of {maximum:,}"
    )  # fmt: skip
    team = plain(told.tenant_name or "") if isinstance(who, Operator) else "Your team"
    subject = {
        "user": "You have", "tenant": f"{team} has",
        "key": f"Your API key {plain(told.subject or '')} has",
    }[facts["scope"]]  # fmt: skip
    month = date.fromisoformat(facts["month"])
    return (
        f"{subject} used {used * 100 // maximum} % of the {_LIMITS[name]} of {month:%B}: {amounts}."
    )


def _export(who: Principal | Operator, told: Told) -> str:
    facts = told.facts
    first, last = date.fromisoformat(facts["first_day"]), date.fromisoformat(facts["last_day"])
    days = f"{first} to {last}"
    if Period(first, last) == month_of(first):
        days = finance_desk.month_name(first)
    named = shown.export_name(facts["kind"])
    return f"Your export is ready: {plain(named)}{_at(who, told)}, {plain(days)}."


def _bill(told: Told) -> str:
    facts = told.facts
    day = date.fromisoformat(facts["day"])
    return (
        f"The bill of {plain(facts['provider'])} for {day:%B} {day.day} says"
        f" {_usd(facts['theirs_usd'])}, our books say {_usd(facts['ours_usd'])}."
    )


def _usd(amount: str) -> str:
    return shown.usd_decimal(Decimal(amount)).replace("$", "\\$")


def _at(who: Principal | Operator, told: Told) -> str:
    """Whose it is, where the reader has more than one tenant."""
    named = isinstance(who, Operator) and told.tenant_name
    return f" at {plain(named)}" if named else ""


def _way(who: Principal | Operator, told: Told) -> _Way | None:
    """The page where a notice can be followed up; None where its reader has no such page."""
    role = who.role if isinstance(who, Principal) else None
    tenant = {"tenant": str(told.tenant_id)} if role is None and told.tenant_id else {}
    match told.kind:
        case "conversation.dear" if role in (Role.ADMIN, None):
            return _Way("admin", "Conversations", {
                "part": "Conversations", "conversations_span": "90 days",
                "conversations_dear": "true",
            })  # fmt: skip
        case "quota.near":
            return _limit_way(role, told.facts["scope"], tenant)
        case "export.ready" if role is not Role.MEMBER:
            return _Way("finance", "Exports", {"part": "Exports", **tenant})
        case "provider_bill.differs" if role is None:
            return _Way("finance", "Compare", {"part": "Provider bill"})
    return None


def _limit_way(role: Role | None, scope: str, tenant: Mapping[str, str]) -> _Way:
    """One's own limits stand on Usage, a key's on Account, a team's among its limits."""
    if scope == "key":
        return _Way("account", "API keys")
    if scope == "tenant" and role is None:
        return _Way("admin", "The tenant", {"part": "Tenants", **tenant})
    if scope == "tenant":
        return _Way("admin", "Limits", {"part": "Limits"})
    return _Way("usage", "Usage")


def _unread(who: Principal | Operator) -> tuple[Told, ...]:
    if isinstance(who, Principal):
        return _told(who.tenant_id, who.user_id, who.role, who)
    return _told(None, who.user_id, None, who)


@st.cache_data(ttl=_TTL_S, max_entries=500, show_spinner=False)
def _told(
    tenant_id: UUID | None, user_id: UUID, role: Role | None, _who: Principal | Operator
) -> tuple[Told, ...]:
    del tenant_id, user_id, role  # they are the key; the reading is bound to `_who`
    with db.transaction(_who) as session:
        return notices.inbox(session, _who, unread_only=True)
