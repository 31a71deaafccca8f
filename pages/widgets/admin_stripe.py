"""The inbox of Stripe's events, for operators: what came, what became of it, and applying it again;
and where Stripe's books and ours differ. Shows no event's content."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import clock, db
from core.billing import differences, inbox, reconcile, stripe_api
from core.billing.differences import Noted
from core.billing.inbox import Counts, Received, State
from core.billing.reconcile import Report
from core.identity.access import Operator
from pages.widgets import acts, shown
from pages.widgets.text import plain

_STATES: tuple[State, ...] = ("waiting", "handled", "ignored", "dead")


def draw(operator: Operator) -> None:
    """Counts, the inbox, the differences."""
    if not stripe_api.configured():
        st.info("Nothing is sold here: no key of Stripe is set.", icon=":material/info:")
    elif stripe_api.current().sandbox:
        st.info("This is the sandbox: no money moves.", icon=":material/science:")
    with db.transaction(operator) as session:
        counts = inbox.counts(session, operator)
        found = differences.listed(session, operator)
    _cards(counts, len(found))
    _inbox(operator)
    _differences(found)


def _cards(counts: Counts, differing: int) -> None:
    with st.grid(5, min_column_width=150, gap="small"):
        st.metric("Handled", f"{counts.handled:,}", border=True)
        st.metric("Ignored", f"{counts.ignored:,}", border=True)
        st.metric("Waiting", f"{counts.waiting:,}", border=True,
                  help="Came before what they are about; tried again by themselves.")  # fmt: skip
        st.metric("Dead", f"{counts.dead:,}", border=True, help="Given up: replay after a repair.")
        st.metric("Differences", f"{differing:,}", border=True)


def _inbox(operator: Operator) -> None:
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="bottom")
        head.markdown("**Events**", width="stretch")
        state = head.selectbox(
            "State", [None, *_STATES], key="stripe_state", width=180,
            format_func=lambda of: of.capitalize() if of else "All states",
        )  # fmt: skip
        with db.transaction(operator) as session:
            rows = inbox.recent(session, operator, state=state)
        if not rows:
            st.caption("No events yet. The first one comes with the first purchase.")
            return
        chosen = _table(rows)
        if chosen is not None:
            _one(operator, chosen)


def _table(rows: tuple[Received, ...]) -> Received | None:
    """The events; the one that is selected."""
    picked = st.dataframe(
        pd.DataFrame(
            {
                "received": pd.to_datetime([row.received_at for row in rows], utc=True),
                "type": [row.type for row in rows],
                "state": [row.state for row in rows],
                "reason": [row.reason or "" for row in rows],
                "object": [row.object_id or "" for row in rows],
                "deliveries": [row.deliveries for row in rows],
            }
        ),
        hide_index=True, key="stripe_events", height=420 if len(rows) > 10 else "content",
        on_select="rerun", selection_mode="single-row",
        alt="Time, type, state and outcome of each event, newest first",
        column_config={
            "received": st.column_config.DatetimeColumn(
                "Received", format="MMM D, HH:mm:ss", timezone=shown.zone(), pinned=True
            ),
            "type": st.column_config.TextColumn("Type", width=220),
            "state": st.column_config.TextColumn("State", width=75),
            "reason": "What became of it",
            "object": st.column_config.TextColumn("About", width=130),
            "deliveries": st.column_config.NumberColumn("Copies", width=60),
        },
    )  # fmt: skip
    chosen = picked.selection.rows
    return rows[chosen[0]] if chosen and chosen[0] < len(rows) else None


def _one(operator: Operator, row: Received) -> None:
    st.markdown(
        f"`{row.event_id}` · {plain(row.type)} · {row.state}  \n"
        f":gray[:small[{plain(row.reason or '')} · {row.attempts} attempts · came by {row.came_by}"
        f" · next try {shown.moment(row.due_at)}]]"
    )
    if st.button("Replay", icon=":material/replay:", key=acts.fresh(f"replay_{row.event_id}")):
        said = acts.attempt(operator, lambda session: _replay(session, operator, row))
        if said is not None:
            acts.done(said)


def _replay(session: Session, operator: Operator, row: Received) -> str:
    inbox.replay(session, operator, row.event_id)
    return f"{plain(row.type)} is applied again; its effect is booked once."


def _differences(found: tuple[Noted, ...]) -> None:
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Stripe's books and ours**", width="stretch")
        if stripe_api.configured() and head.button(
            "Compare now", icon=":material/compare_arrows:", key=acts.fresh("stripe_compare")
        ):
            with st.spinner("Comparing …"):
                report = acts.attempt_alone(_compare)
            if report is not None and report.refused:
                st.error(
                    f"Stripe refused to list: {', '.join(report.refused)}. Look at the key's rights;"
                    f" the rest was compared: {len(report.differences)} differences.",
                    icon=":material/block:",
                )
            elif report is not None:
                acts.done(f"Compared: {len(report.differences)} differences.")
        if not found:
            st.caption("No differences. Compared every hour and every night.")
            return
        st.dataframe(
            pd.DataFrame(
                {
                    "found": pd.to_datetime([one.found_at for one in found], utc=True),
                    "kind": [one.difference.kind for one in found],
                    "object": [one.difference.stripe_id for one in found],
                    "ours": [one.difference.ours for one in found],
                    "theirs": [one.difference.theirs for one in found],
                    "cause": [one.difference.cause for one in found],
                }
            ),
            hide_index=True, key="stripe_differences", height="content",
            alt="Each object where Stripe and we differ, with both sides and the cause",
            column_config={
                "found": st.column_config.DatetimeColumn(
                    "Found", format="MMM D, HH:mm", timezone=shown.zone()
                ),
                "kind": "Kind", "object": "Object", "ours": "Ours", "theirs": "Theirs",
                "cause": "Cause",
            },
        )  # fmt: skip


def _compare() -> Report:
    return reconcile.run(clock.now(), scope="all")
