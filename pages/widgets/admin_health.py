"""How the product is doing, for operators: providers, database, jobs, calls, catalogue, invariants and
alarms, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction

import pandas as pd
import streamlit as st
from prometheus_client import Counter, Gauge

from core import clock, db, invariants, telemetry
from core.analytics import overview, providers
from core.analytics.overview import Health
from core.analytics.providers import HOURS, ProviderRow
from core.identity.access import Operator
from pages.widgets import session as tab
from pages.widgets import shown
from pages.widgets.text import plain

_STALE_JOB_S = 300
_STALE_SYNC_S = 6 * 3600
_OLD_HOLD_S = 15 * 60  # the longest call takes ten minutes
_NAMED_MAX = 4
_POOR_RATE = Fraction(95, 100)


def draw(operator: Operator) -> None:
    """The cards, as of this moment."""
    with db.transaction(operator) as session:
        health = overview.health(session, operator)
        rows = providers.providers(session, operator)
    _providers(rows)
    with st.grid(3, min_column_width=240, gap="small"):
        _database(health)
        _clock()
        _jobs(health)
        _calls(health)
        _catalog(health)
        _invariants()
        _alarms()
    st.caption(f"Read {shown.moment(health.read_at)} ({shown.zone()}).")


def _card(
    title: str, trouble: str | None, lines: Mapping[str, str], *, fine: str | None = "Fine",
    way: tuple[str, str] | None = None,
) -> None:  # fmt: skip
    """A part's state in one word, what it rests on, and the part of this page that shows more.

    Without `fine` nothing is known of it.
    """
    with st.container(border=True, height="stretch", gap="xsmall"):
        _state(title, trouble, fine)
        for label, value in lines.items():
            line = st.container(horizontal=True)
            line.markdown(f":gray[{label}]", width="content")
            line.markdown(value, width="stretch", text_alignment="right")
        if way is not None:
            label, part = way
            st.button(
                label, icon=":material/arrow_forward:", type="tertiary", key=f"to_{part}",
                on_click=tab.keep, args=("part", part),
            )  # fmt: skip


def _state(title: str, trouble: str | None, fine: str | None) -> None:
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown(f"**{title}**", width="stretch")
    if trouble or fine:
        head.badge(
            trouble or fine or "", color="orange" if trouble else "green",
            icon=":material/warning:" if trouble else ":material/check:",
        )  # fmt: skip


def _providers(rows: tuple[ProviderRow, ...]) -> None:
    poor = [row for row in rows if row.succeeded is not None and row.succeeded < _POOR_RATE]
    with st.container(border=True, gap="xsmall"):
        _state("Providers", "Calls fail" if poor else None, "Fine" if rows else None)
        if not rows:
            st.caption(f"No call was made in the last {HOURS} hours.")
            return
        st.caption(
            f"The last {HOURS} hours. Half of the calls took p50 at most, 95 of 100 p95, 99 of 100 p99."
        )
        _providers_table(rows)


def _providers_table(rows: tuple[ProviderRow, ...]) -> None:
    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "provider": [row.provider for row in rows],
                "calls": [row.calls for row in rows],
                "success": [shown.share(row.succeeded) for row in rows],
                "first": [_times(row.first_token_ms) for row in rows],
                "whole": [_times(row.duration_ms) for row in rows],
            }
        ),
        hide_index=True, key="providers", height="content",
        alt="Calls, success rate, time to first token and duration of each provider",
        column_config={
            "provider": column.TextColumn("Provider", pinned=True),
            "calls": column.NumberColumn("Calls", format="localized"),
            "success": column.TextColumn("Success", alignment="right"),
            "first": column.TextColumn("First token: p50 · p95 · p99", alignment="right"),
            "whole": column.TextColumn("Duration: p50 · p95 · p99", alignment="right"),
        },
    )  # fmt: skip


def _times(found: tuple[int, int, int] | None) -> str:
    return shown.NONE if found is None else " · ".join(f"{ms / 1000:.2f} s" for ms in found)


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


def _clock() -> None:
    offset_s = clock.offset_s()
    ahead = "behind" if offset_s > 0 else "ahead of"
    said = f"{abs(offset_s):,.0f} s {ahead} the database's" if offset_s else "as the database's"
    trouble = "Wrong" if clock.is_apart() else None
    _card("Clock", trouble, {"This process's": said, "Allowed": f"{clock.APART_S_MAX:.0f} s"})


def _jobs(health: Health) -> None:
    waits = _seconds(health, health.oldest_job_at)
    troubles = ["No worker takes jobs"] if waits is not None and waits > _STALE_JOB_S else []
    troubles += ["Some were given up"] if health.jobs_failed else []
    _card(
        "Jobs",
        " · ".join(troubles) or None,
        {
            "Waiting": f"{health.jobs_waiting:,}",
            "Oldest that is due": shown.ago(health.oldest_job_at, health.read_at),
            "Running": f"{health.jobs_running:,}",
            "Given up": f"{health.jobs_failed:,}",
        },
        way=("See them, and try again", "Jobs") if health.jobs_failed else None,
    )


def _calls(health: Health) -> None:
    held = _seconds(health, health.oldest_hold_at)
    trouble = "A hold is old" if held is not None and held > _OLD_HOLD_S else None
    _card(
        "Calls",
        "Calls without an owner" if health.leases_ended else trouble,
        {
            "Open": f"{health.calls_open:,}",
            "Lease ended": f"{health.leases_ended:,}",
            "Held": shown.usd(health.held_nusd),
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
    _card("Catalogue", trouble, lines, way=("Models and prices", "Models") if trouble else None)


def _invariants() -> None:
    """What the hourly check found, where this process ran it."""
    found = _samples(invariants.violations_gauge)
    broken = [name for name, count in found.items() if count]
    said = f"{len(found) - len(broken):,} hold" if found else shown.NONE
    _card(
        "Invariants",
        "Something does not hold" if broken else None,
        {"Statements": f"{len(invariants.queries()):,}", "Hourly check here": said}
        | {f"`{plain(name)}`": f"{found[name]:,} rows" for name in broken[:_NAMED_MAX]},
        fine="Hold" if found else None,
        way=("Check now", "Invariants"),
    )


def _alarms() -> None:
    """What raised an alarm in this process since it started."""
    counts = {name: count for name, count in _samples(telemetry.alarms_total).items() if count}
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_NAMED_MAX]
    lines = {plain(name): f"{count:,}" for name, count in most}
    _card(
        "Alarms", f"{sum(counts.values()):,} raised" if counts else None,
        lines | {"Since": "this process started"}, fine="None",
    )  # fmt: skip


def _samples(metric: Gauge | Counter) -> dict[str, int]:
    """A metric's values by the name they bear."""
    return {
        sample.labels["name"]: int(sample.value)
        for found in metric.collect()
        for sample in found.samples
        if not sample.name.endswith("_created")
    }


def _seconds(health: Health, at: datetime | None) -> float | None:
    return None if at is None else (health.read_at - at).total_seconds()
