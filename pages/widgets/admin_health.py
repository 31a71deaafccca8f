"""How the product is doing, for operators: database, jobs, calls, catalogue, alarms; and the prices
that wait for an operator's word."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import streamlit as st
from sqlalchemy.orm import Session

from core import db, telemetry
from core.analytics import overview
from core.analytics.overview import Health
from core.catalog import prices
from core.catalog.prices import HeldPrice
from core.identity.access import Operator
from pages.widgets import acts, shown
from pages.widgets.text import plain

_STALE_JOB_S = 300
_STALE_SYNC_S = 6 * 3600


def draw(operator: Operator) -> None:
    """The cards and the held prices, as of this moment."""
    with db.transaction(operator) as session:
        health = overview.health(session, operator)
        held = prices.list_held(session)
    with st.grid(2, min_column_width=300, gap="small"):
        _database(health)
        _jobs(health)
        _calls(health)
        _catalog(health)
    _alarms()
    _held(operator, held)
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


def _held(operator: Operator, held: list[HeldPrice]) -> None:
    if not held:
        return
    with st.container(border=True):
        st.markdown(f"**Prices that wait for you ({len(held)})**")
        st.caption("Until then each model is charged by its last accepted price, or not offered.")
        for price in held[:20]:
            _held_row(operator, price)
        if len(held) > 20:
            st.caption(f"And {len(held) - 20} more, once these are decided.")


def _held_row(operator: Operator, price: HeldPrice) -> None:
    line = st.container(horizontal=True, vertical_alignment="center")
    line.markdown(
        f"{plain(price.model_name)}  \n:gray[:small[{plain(price.reason)} · listed"
        f" {shown.ago(price.listed_at)}]]",
        width="stretch",
    )
    with line.popover("Decide", key=acts.fresh(f"price_{price.price_id}")):
        st.markdown(f"Now: {_rates(price.accepted_terms)}  \nListed: {_rates(price.terms)}")
        st.markdown(
            "Accepted, it is charged from the next call on. Rejected, it is not asked again."
        )
        said = None
        if st.button("Accept", type="primary", key=f"accept_{price.price_id}"):
            said = acts.attempt(operator, lambda session: _accept(session, operator, price))
        if st.button("Reject", key=f"reject_{price.price_id}"):
            said = acts.attempt(operator, lambda session: _reject(session, operator, price))
        if said is not None:
            acts.done(said)


def _accept(session: Session, operator: Operator, price: HeldPrice) -> str:
    prices.accept_price(session, operator, price.price_id, now=datetime.now(UTC))
    return f"Accepted the price of {plain(price.model_name)}."


def _reject(session: Session, operator: Operator, price: HeldPrice) -> str:
    prices.reject_price(session, operator, price.price_id, reason="by an operator")
    return f"Rejected the price of {plain(price.model_name)}."


def _rates(terms: Mapping[str, Any] | None) -> str:
    """Prompt and answer price per million tokens, as listed."""
    if not terms:
        return "none"
    said = []
    for name, title in (("prompt", "in"), ("completion", "out")):
        rate = terms.get(name)
        if isinstance(rate, str):
            said.append(f"\\${Decimal(rate) * 1_000_000:f} {title}")
    return f"{' · '.join(said)} per million tokens" if said else "not readable"


def _seconds(health: Health, at: datetime | None) -> float | None:
    return None if at is None else (health.read_at - at).total_seconds()
