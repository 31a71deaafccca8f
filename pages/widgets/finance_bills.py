"""The provider's bill beside our books, for operators: the days that were compared, each model of a day
with the cause of its difference, and reading a bill anew, from the provider or from a file."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core import db, settings
from core.finance.bills import comparison, nightly, received, sheets
from core.finance.bills.causes import SENTENCES
from core.finance.bills.comparison import DayCheck
from core.finance.bills.received import Uploaded
from core.identity.access import Operator
from pages.widgets import acts, finance_bill_lines, shown

_DAYS = 31
_MANY = 10


def draw(operator: Operator) -> None:
    """The days, the day that is opened, and the lines that wait to be imported."""
    with db.transaction(operator) as session:
        days = comparison.listed(session, operator, days=_DAYS)
    with st.container(border=True):
        _head(operator)
        if not days:
            st.caption(
                "No day was compared yet. Compare now, or upload the activity file of the provider."
            )
        elif (chosen := _days(days)) is not None:
            _models(chosen)
    finance_bill_lines.draw(operator)


def _head(operator: Operator) -> None:
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown(
        "**The provider's bill**  \n:gray[:small[OpenRouter · days in UTC, each when it is over · USD]]",
        width="stretch",
    )
    if nightly.is_configured(settings.current()):
        if head.button("Compare now", icon=":material/compare_arrows:", key=acts.fresh("bill_now")):
            _compare(operator)
    else:
        st.info(
            "Without OPENROUTER_MANAGEMENT_KEY nothing is read at night: upload the activity file.",
            icon=":material/key_off:",
        )
    with head.popover("Upload", icon=":material/upload_file:", key=acts.fresh("bill_upload")):
        _upload(operator)


def _compare(operator: Operator) -> None:
    with st.spinner("Asking OpenRouter and comparing …"):
        checks = acts.attempt_alone(lambda: nightly.run(settings.current(), operator))
    if checks is not None:
        differing = sum(check.differs for check in checks)
        acts.done(f"Compared {len(checks)} days; {differing} differ by more than 1 %.")


def _upload(operator: Operator) -> None:
    st.caption(
        "The activity file (CSV) of the provider: sums by day and model, or one row for each"
        " generation. Its days take the place of what was known of them; a file with one bad row"
        " changes nothing."
    )
    file = st.file_uploader(
        "Activity file", type=["csv"], key=acts.fresh("bill_file"),
        max_upload_size=sheets.BYTES_MAX >> 20,
    )  # fmt: skip
    if st.button("Read and compare", type="primary", disabled=file is None) and file is not None:
        with st.spinner("Reading …"):
            found = acts.attempt(operator, lambda s: received.upload(s, operator, file))
        if found is not None:
            acts.done(_said(found))


def _said(found: Uploaded) -> str:
    parts = [f"{found.rows:,} rows of {len(found.days)} days"]
    if found.matched or found.different or found.unrecorded:
        parts.append(
            f"{found.matched:,} as in our books, {found.different:,} different,"
            f" {found.unrecorded:,} not recorded"
        )
    if found.left_out:
        parts.append(f"{found.left_out:,} left out, whose day is not over")
    return "; ".join(parts) + "."


def _days(days: Sequence[DayCheck]) -> DayCheck | None:
    """The days, newest first; the one that is selected."""
    picked = st.dataframe(
        pd.DataFrame(
            {
                "day": [day.day for day in days],
                "ours": [shown.usd_decimal(day.ours_usd) for day in days],
                "theirs": [shown.usd_decimal(day.theirs_usd) for day in days],
                "difference": [shown.usd_decimal(day.difference_usd) for day in days],
                "percent": [_percent(day) for day in days],
                "differs": [day.differs for day in days],
                "cause": [SENTENCES[day.worst] for day in days],
            }
        ),
        hide_index=True, key="bill_days", height=420 if len(days) > _MANY else "content",
        on_select="rerun", selection_mode="single-row",
        alt="Each day with our sum, the provider's, their difference and its cause",
        column_config={
            "day": st.column_config.DateColumn("Day (UTC)", format="YYYY-MM-DD", pinned=True),
            "ours": st.column_config.TextColumn("Ours", alignment="right"),
            "theirs": st.column_config.TextColumn("Theirs", alignment="right"),
            "difference": st.column_config.TextColumn("Difference", alignment="right"),
            "percent": st.column_config.TextColumn("Of theirs", alignment="right"),
            "differs": st.column_config.CheckboxColumn("Over 1 %", width=75),
            "cause": "Cause of the largest",
        },
    )  # fmt: skip
    chosen = picked.selection.rows
    return days[chosen[0]] if chosen and chosen[0] < len(days) else None


def _percent(day: DayCheck) -> str:
    return shown.NONE if day.ratio is None else f"{day.ratio:+.2%}"


def _models(day: DayCheck) -> None:
    st.markdown(
        f"**{day.day}**  \n:gray[:small[compared {shown.ago(day.checked_at)} · a positive difference"
        " is what the provider took beyond our books]]"
    )
    st.dataframe(
        pd.DataFrame(
            {
                "model": [model.model for model in day.models],
                "ours": [shown.usd_decimal(model.ours_usd) for model in day.models],
                "theirs": [shown.usd_decimal(model.theirs_usd) for model in day.models],
                "difference": [shown.usd_decimal(model.difference_usd) for model in day.models],
                "our_requests": [model.ours_requests for model in day.models],
                "their_requests": [model.theirs_requests for model in day.models],
                "cause": [SENTENCES[model.cause] for model in day.models],
            }
        ),
        hide_index=True, key=f"bill_models_{day.provider}_{day.day}",
        height=420 if len(day.models) > _MANY else "content",
        alt="Each model of the day with both sums, both counts of requests and the cause",
        column_config={
            "model": st.column_config.TextColumn("Model", pinned=True),
            "ours": st.column_config.TextColumn("Ours", alignment="right"),
            "theirs": st.column_config.TextColumn("Theirs", alignment="right"),
            "difference": st.column_config.TextColumn("Difference", alignment="right"),
            "our_requests": st.column_config.NumberColumn("Our requests"),
            "their_requests": st.column_config.NumberColumn("Theirs"),
            "cause": "Cause",
        },
    )  # fmt: skip
