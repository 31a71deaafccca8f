"""The passes over the provider's list, for operators: their counts, and for one of them which models it
changed and how. It decides on no price: that is done below, where those that wait are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

import pandas as pd
import streamlit as st

from core import db, settings
from core.catalog import passes, sync_job
from core.catalog.passes import Change, Decision, Kind, Pass
from core.catalog.sync import SyncReport
from core.catalog.terms import RATE_NAMES, Override, Terms
from core.identity.access import Operator
from pages.widgets import acts, offered, shown

_LATEST, _CHANGED_MAX = 10, 50
_ONE_MILLION = 1_000_000
_TITLES: dict[Kind, str] = {
    "would_retire": "Would retire", "retired": "Retired", "held": "Price held",
    "repriced": "Repriced", "priced": "First price", "returned": "Returned", "added": "New",
}  # fmt: skip
_DECIDED: dict[Decision, str] = {
    "held": "Waits for approval", "accepted": "Approved since", "rejected": "Not approved",
}  # fmt: skip
_RATE_TITLES = {"prompt": "in", "completion": "out"}
_FEE_TITLES = {"request": "per call", "web_search": "per search"}


def draw(operator: Operator) -> None:
    """The latest passes, the way to make one now, and the way into each."""
    with db.transaction(operator) as session:
        latest = passes.history(session, operator, limit=_LATEST)
        changed = passes.history(session, operator, limit=_CHANGED_MAX, only_changed=True)
    has_provider = settings.current().openrouter_api_key is not None
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**The provider's list**", width="stretch")
        if head.button(
            "Sync now", icon=":material/sync:", key="sync_now", disabled=not has_provider
        ):
            _sync(operator)
        if not has_provider:
            st.caption("No provider is set up here (OPENROUTER_API_KEY): only demo models answer.")
        elif not latest:
            st.caption("Never read yet. It is read every hour, or now.")
        if latest:
            _table(latest)
            _open(operator, {row.sync_id: row for row in (*latest, *changed)})


def _sync(operator: Operator) -> None:
    with st.spinner("Reading the provider's list …"):
        report = acts.attempt_alone(lambda: sync_job.ask(operator, settings.current()))
    if report is not None:
        offered.clear()
        acts.done(_said(report))


def _said(report: SyncReport) -> str:
    said = (
        f"{report.seen:,} models, {report.added:,} new, {report.repriced:,} repriced,"
        f" {report.held:,} prices held, {report.retired:,} retired."
    )
    if report.outcome == "held":
        return f"{said} The list was held: {report.would_retire:,} models would have gone."
    return said


def _table(latest: tuple[Pass, ...]) -> None:
    column = st.column_config
    counts = ("seen", "added", "repriced", "held", "retired")
    frame = {
        "pass": [row.sync_id for row in latest],
        "at": pd.to_datetime([row.synced_at for row in latest], utc=True),
        "provider": [row.provider for row in latest],
        "source": [row.source for row in latest],
        **{name: [getattr(row, name) for row in latest] for name in counts},
        "outcome": [row.outcome for row in latest],
    }
    st.dataframe(
        pd.DataFrame(frame), hide_index=True, key="passes", height="content",
        alt="Time, provider and counts of each of the latest passes",
        column_config={
            "pass": column.NumberColumn("Pass", format="%d", pinned=True),
            "at": column.DatetimeColumn(
                f"Read ({shown.zone()})", format="MMM D, HH:mm", timezone=shown.zone(), pinned=True
            ),
            "provider": "Provider", "source": "From",
            "seen": column.NumberColumn("Models", format="localized"),
            "added": column.NumberColumn("New"), "repriced": column.NumberColumn("Repriced"),
            "held": column.NumberColumn("Held", help="Prices that wait for an operator."),
            "retired": column.NumberColumn("Retired"),
            "outcome": column.TextColumn(
                "Outcome", help="Held: too many models would have gone, so none was retired."
            ),
        },
    )  # fmt: skip


def _open(operator: Operator, by_id: Mapping[int, Pass]) -> None:
    """The way into one pass: the latest ones, and older ones that changed something."""
    chosen = st.selectbox(
        "Open a pass", sorted(by_id, reverse=True), index=None, key="pass_open",
        format_func=lambda of: _label(by_id[of]), placeholder="Choose one to see which models changed",
    )  # fmt: skip
    if chosen is None:
        return
    with db.transaction(operator) as session:
        found = passes.changes(session, operator, chosen)
    if not found:
        st.caption(_without(by_id[chosen]))
        return
    counts = Counter(change.kind for change in found)
    said = [f"{_TITLES[kind]} {counts[kind]:,}" for kind in passes.KINDS if counts[kind]]
    st.caption(f"{' · '.join(said)}. Prices are per million tokens.")
    _changes(found)


def _label(row: Pass) -> str:
    """A pass in the list of choices; its number tells two of one minute apart."""
    many = f"{row.changes:,} {'change' if row.changes == 1 else 'changes'}"
    what = many if row.changes else "counts only" if _has_counts(row) else "nothing changed"
    return f"Pass {row.sync_id} · {shown.moment(row.synced_at)} · {row.provider} · {what}"


def _without(row: Pass) -> str:
    """Why there is nothing to list of a pass."""
    if _has_counts(row):
        return "This pass was made before changes were kept: only its counts are known."
    if not row.seen:
        return "The list was empty, so it was held. Nothing changed."
    return "Nothing changed."


def _has_counts(row: Pass) -> bool:
    return bool(row.added or row.repriced or row.held or row.retired)


def _changes(found: tuple[Change, ...]) -> None:
    column = st.column_config
    prices = [_prices(change) for change in found]
    st.dataframe(
        pd.DataFrame(
            {
                "name": [change.model_name for change in found],
                "change": [_TITLES[change.kind] for change in found],
                "before": [before for before, _ in prices],
                "after": [after for _, after in prices],
                "note": [_note(change) for change in found],
                "id": [change.model_id for change in found],
            }
        ),
        hide_index=True, key="pass_changes", height="content" if len(found) < 12 else 460,
        alt="Each model that the pass changed: how, the price before and after, what waits",
        column_config={
            "name": column.TextColumn("Model", pinned=True),
            "change": column.TextColumn("Change", width=110),
            "before": column.TextColumn("Price before", help="Per million tokens."),
            "after": column.TextColumn(
                "New price", help="Per million tokens. One that is held applies once approved."
            ),
            "note": column.TextColumn("Note", width="large"),
            "id": "Id",
        },
    )  # fmt: skip


def _note(change: Change) -> str:
    """What else is to be known: whether a price waits, and why; that a model was kept."""
    if change.kind == "would_retire":
        return "Kept: the list was held, because too many models would have gone"
    if change.decision is None:
        return ""
    said = _DECIDED[change.decision]
    return said if change.decision == "accepted" else f"{said}: {change.reason}"


def _prices(change: Change) -> tuple[str, str]:
    """The price before and after, with the rates that differ; nothing where no price is meant."""
    before, after = change.before, change.after
    if change.kind in ("would_retire", "retired", "returned"):
        return "", ""
    names = [name for name in RATE_NAMES if name in _RATE_TITLES or _differs(name, before, after)]
    with_steps = before is not None and after is not None and before.overrides != after.overrides
    unreadable = "Cannot be charged by" if change.kind == "held" else "None"
    return (
        "" if change.kind == "added" else _spelled(before, names, with_steps=with_steps) or "None",
        _spelled(after, names, with_steps=with_steps) or unreadable,
    )


def _differs(name: str, before: Terms | None, after: Terms | None) -> bool:
    if before is None or after is None:
        return False
    return bool(getattr(before.base, name) != getattr(after.base, name))


def _spelled(terms: Terms | None, names: list[str], *, with_steps: bool) -> str:
    """The named rates of a price, and on wish those for long prompts or hours; '' for no price."""
    if terms is None:
        return ""
    said = " · ".join(_rate(name, getattr(terms.base, name)) for name in names)
    steps = [_step(override) for override in terms.overrides] if with_steps else []
    return "; ".join([said, *steps])


def _step(override: Override) -> str:
    when = []
    if override.above_prompt_tokens is not None:
        when.append(f"above {override.above_prompt_tokens:,} tokens")
    if override.window_utc is not None:
        start, end = (f"{at // 60:02d}:{at % 60:02d}" for at in override.window_utc)
        when.append(f"{start} to {end} UTC")
    return f"{', '.join(when)}: " + " · ".join(_rate(name, rate) for name, rate in override.rates)


def _rate(name: str, rate_usd: Decimal) -> str:
    """A rate as '$1.25 in': per million tokens, or per call or search."""
    if name in _FEE_TITLES:
        return f"${rate_usd.normalize():f} {_FEE_TITLES[name]}"
    title = _RATE_TITLES.get(name, name.replace("_", " "))
    return f"${(rate_usd * _ONE_MILLION).normalize():f} {title}"
