"""What was used, by whom and on which model, what it cost, and what is left of the month. Members
see their own calls, admins and finance the team's. Changes nothing."""

from __future__ import annotations

import streamlit as st

from core.analytics import queries
from core.identity.access import Principal
from pages.widgets import cached, usage_calls, usage_figures, usage_limits, usage_people
from pages.widgets import session as tab
from pages.widgets.text import plain

_SPANS = {"7 days": 7, "30 days": 30, "90 days": 90}


def draw(who: Principal) -> None:
    """The whole page, for one person."""
    span = _head(who)
    report = cached.usage_report(who, _SPANS[span])
    if report.is_empty:
        _nothing_yet()
        usage_limits.draw(who, report)
        return
    usage_figures.cards(report, span)
    usage_figures.by_model(report)
    usage_limits.draw(who, report)
    if report.whole_tenant:
        usage_people.draw(report)
    usage_calls.draw(who, report)


def _head(who: Principal) -> str:
    """The title, whose usage this is, and the period chosen."""
    top = st.container(horizontal=True, vertical_alignment="center")
    top.header("Usage", anchor=False, width="stretch")
    span = top.segmented_control(
        "Period", list(_SPANS), default="30 days", required=True, key="span",
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    whose = f"Everyone in {plain(who.tenant_name)}" if queries.sees_tenant(who) else "Your own use"
    st.caption(f"{whose}. Days and months are those of {plain(who.time_zone)}.")
    return span if span in _SPANS else "30 days"


def _nothing_yet() -> None:
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown("**Nothing was used yet**")
        st.markdown(
            "Ask a first question in Chat, or create an API key and call a model with it."
            " Every call shows up here with its exact cost."
        )
        with st.container(horizontal=True, horizontal_alignment="left"):
            st.page_link("chat.py", label="Open Chat", icon=":material/forum:")
            st.page_link("account.py", label="Create an API key", icon=":material/key:")


draw(tab.require())
