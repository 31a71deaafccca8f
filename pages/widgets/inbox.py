"""What a person was told and has not put away yet, behind a bell in the sidebar. Shows each notice in
words, with the way to what it is about; putting it away is each reader's own."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from core import db
from core.alerts import notices
from core.alerts.notices import Told
from core.identity.access import Operator, Principal, Role
from core.identity.limits import LimitName
from pages.widgets import acts, shown
from pages.widgets.text import plain

_TTL_S = 15
_SHOWN = 8
_LIMITS = {
    LimitName.MONTHLY_MESSAGES: "messages", LimitName.MONTHLY_TOKENS: "tokens",
    LimitName.MONTHLY_NUSD: "spend",
}  # fmt: skip


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
        if len(waiting) > _SHOWN:
            st.caption(f"{len(waiting) - _SHOWN} older ones come up as these are put away.")


def sentence(told: Told) -> str:
    """A notice in words, safe to draw."""
    facts = told.facts
    match told.kind:
        case "conversation.dear":
            whose = plain(told.subject or "somebody")
            return f"A conversation of {whose} has cost {_usd(facts, 'billed_nusd')}."
        case "quota.near":
            return _quota(told)
        case "export.ready":
            return "Your export is ready under Finance."
        case "provider_bill.differs":
            return "The provider's bill and our books differ by more than 1 %."
    return plain(told.kind)


def _line(who: Principal | Operator, told: Told) -> None:
    row = st.container(horizontal=True, vertical_alignment="top", gap="small")
    place = (
        f"{plain(told.tenant_name)} · " if told.tenant_name and isinstance(who, Operator) else ""
    )
    row.markdown(
        f"{sentence(told)}  \n:gray[:small[{place}{shown.ago(told.created_at)}]]", width="stretch"
    )
    if row.button(
        "", icon=":material/close:", type="tertiary", key=f"read_{told.notice_id}", help="Put away"
    ):
        acts.attempt(who, lambda session: notices.put_away(session, who, told.notice_id))
        _told.clear()
        st.rerun()


def _quota(told: Told) -> str:
    facts = told.facts
    name = LimitName(facts["limit"])
    used, maximum = int(facts["used"]), int(facts["maximum"])
    amounts = (
        f"{shown.usd(used)} of {shown.usd(maximum)}" if name is LimitName.MONTHLY_NUSD
        else f"{used:,} of {maximum:,}"
    )  # fmt: skip
    subject = {
        "user": "Your own", "tenant": "The team's", "key": f"The API key {plain(told.subject or '')}'s"
    }[facts["scope"]]  # fmt: skip
    return f"{subject} monthly {_LIMITS[name]}: {amounts} used, which is over 80 %."


def _usd(facts: dict[str, object], name: str) -> str:
    return shown.usd(int(str(facts[name])))


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
