"""How the product is doing, for operators: database, jobs, calls, catalogue, alarms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import streamlit as st

from core import db, telemetry
from core.analytics import overview
from core.analytics.overview import Health
from core.identity.access import Operator
from pages.widgets import shown
from pages.widgets.text import plain

_STALE_JOB_S = 300
_STALE_SYNC_S = 6 * 3600


def draw(operator: Operator) -> None:
    """The cards, as of this moment."""
    with db.transaction(operator) as session:
        health = overview.health(session, operator)
    with st.grid(2, min_column_width=300, gap="small"):
        _database(health)
        _jobs(health)
        _calls(health)
        _catalog(health)
    _alarms()
    st.caption(f"Read {shown.moment(health.read_at)} ({shown.zone()}).")


def _card(title: str, trouble: str | None, lines: Mapping[str, str]) -> None:
    """A part's state in one word, and what it rests on."""
    with st.container(border=True, height="stretch"):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(f"**{title}**", width="stretch")
        head.badge(
            trouble or "Fine", color="orange" if trouble else "green",
            icon=":material/warning:" if trouble else ":material/check:",
        )  # fmt: skip
        for label, value in lines.items():
            line = st.container(horizontal=True)
            line.markdown(f":gray[{label}]", width="content")
            line.markdown(value, width="stretch", text_alignment="right")


def _database(health: Health) -> None:
    _card(
        "Database",
        None if health.at_head else "Behind the code",
        {
            "Server": f"Postgres {plain(health.server.split()[0])}",
            "Size": f"{health.database_bytes / 2**20:,.0f} MB",
            "Migrations": f"{health.migration}, {'at head' if health.at_head else 'not at head'}",
        },
    )


def _jobs(health: Health) -> None:
    waits = _seconds(health, health.oldest_job_at)
    trouble = "Jobs failed" if health.jobs_failed else None
    if waits is not None and waits > _STALE_JOB_S:
        trouble = "No worker takes jobs"
    _card(
        "Jobs",
        trouble,
        {
            "Waiting": f"{health.jobs_waiting:,}",
            "Oldest that is due": shown.ago(health.oldest_job_at, health.read_at),
            "Running": f"{health.jobs_running:,}",
            "Failed": f"{health.jobs_failed:,}",
        },
    )


def _calls(health: Health) -> None:
    _card(
        "Calls",
        "Calls without an owner" if health.leases_ended else None,
        {
            "Open": f"{health.calls_open:,}",
            "Lease ended": f"{health.leases_ended:,}",
            "Held": f"{shown.usd(health.held_nusd)} in {health.holds_open:,} holds",
            "Oldest hold": shown.ago(health.oldest_hold_at, health.read_at),
            "Cost not final": f"{health.lookups:,}",
            "Oldest of those": shown.ago(health.oldest_lookup_at, health.read_at),
        },
    )


def _catalog(health: Health) -> None:
    trouble = None
    if any(sync.outcome == "held" for sync in health.syncs):
        trouble = "A list was held back"
    elif not health.syncs:
        trouble = "Never synchronised"
    elif min(_seconds(health, sync.synced_at) or 0 for sync in health.syncs) > _STALE_SYNC_S:
        trouble = "Not synchronised lately"
    lines = {}
    for sync in health.syncs:
        age = shown.ago(sync.synced_at, health.read_at)
        lines[plain(sync.provider)] = f"{sync.seen:,} models · {age}"
    _card("Catalogue", trouble, lines)


def _alarms() -> None:
    """What raised an alarm in this process since it started."""
    counts = {
        sample.labels["name"]: int(sample.value)
        for metric in telemetry.alarms_total.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.value
    }
    if not counts:
        st.success("No alarms since this process started.", icon=":material/notifications:")
        return
    said = ", ".join(f"{plain(name)}: {count:,}" for name, count in sorted(counts.items()))
    st.warning(f"Alarms since this process started: {said}.", icon=":material/notifications:")


def _seconds(health: Health, at: datetime | None) -> float | None:
    return None if at is None else (health.read_at - at).total_seconds()
