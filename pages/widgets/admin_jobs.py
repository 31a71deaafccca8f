"""The job queue for operators: what waits, what runs, and what was given up and may be tried again."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from core import db, jobs, worker
from core.identity.access import Operator
from core.jobs import Entry
from pages.widgets import acts, paging, shown
from pages.widgets.text import plain

_GIVEN_UP = "failed"
_STATES = {"Given up": _GIVEN_UP, "Waiting": "todo", "Running": "doing"}
_LINES = 50
_LIST = "jobs"


def draw(operator: Operator) -> None:
    """One state of the queue, newest first."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Jobs**", width="stretch")
        state = head.segmented_control(
            "State", list(_STATES), default="Given up", required=True, key="jobs_state",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
        chosen = str(state)
        status = _STATES.get(chosen, _GIVEN_UP)
        passed: tuple[int, ...] = paging.trail(_LIST, status)
        with db.transaction(operator) as session:
            found = jobs.entries(
                session, status=status, before_id=passed[-1] if passed else None, limit=_LINES + 1
            )
        if not found:
            st.caption(f"No job is in this state ({plain(chosen).lower()}).")
            return
        if status == _GIVEN_UP:
            _dead(operator, found[:_LINES])
        else:
            _table(found[:_LINES])
        last = found[_LINES - 1].job_id if len(found) > _LINES else None
        paging.turn(_LIST, status, passed, last)


def _dead(operator: Operator, found: tuple[Entry, ...]) -> None:
    st.caption("Tried as often as it may be. What stopped it is in the log, by the job's name.")
    for entry in found:
        line = st.container(horizontal=True, vertical_alignment="center")
        line.markdown(
            f"`{entry.name}` {_arguments(entry)}  \n:gray[:small[No. {entry.job_id} ·"
            f" {entry.attempts} attempts · {shown.ago(entry.since)}]]",
            width="stretch",
        )
        if line.button("Try again", icon=":material/replay:", key=f"retry_{entry.job_id}"):
            again = partial(worker.retry_job, who=operator, job_id=entry.job_id)
            name = acts.attempt(operator, again)
            if name is not None:
                acts.done(f"`{name}` runs again.")


def _table(found: tuple[Entry, ...]) -> None:
    st.dataframe(
        pd.DataFrame(
            {
                "job": [entry.name for entry in found],
                "number": [entry.job_id for entry in found],
                "attempts": [entry.attempts for entry in found],
                "due": [shown.moment(entry.scheduled_at) for entry in found],
                "since": [shown.ago(entry.since) for entry in found],
            }
        ),
        hide_index=True, key="jobs", alt="Name, attempts and due time of each job",
        column_config={
            "job": "Job", "number": st.column_config.NumberColumn("No.", width=80),
            "attempts": st.column_config.NumberColumn("Attempts", width=80),
            "due": "Due", "since": "Since",
        },
    )  # fmt: skip


def _arguments(entry: Entry) -> str:
    return plain(", ".join(f"{name} {value}" for name, value in entry.arguments.items()))
