"""Lines of an uploaded bill that our books do not say, for operators: which they are, importing them as
adjustments, and putting away what is not ours. Nothing is drawn where nothing waits."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import pandas as pd
import streamlit as st

from core import db
from core.analytics import labels
from core.finance.bills import imports
from core.finance.bills.imports import Imported, Waiting
from core.finance.bills.rows import less, total
from core.identity.access import Operator
from core.money import ceil_nusd
from pages.widgets import acts, shown

_SHOWN = 200
_STATES = {"different": "another amount", "unrecorded": "not recorded"}


def draw(operator: Operator) -> None:
    """The lines that wait, and what can be done with them."""
    with db.transaction(operator) as session:
        lines = imports.waiting(session, operator)
        bearers = imports.bearers(session, operator) if lines else ()
    if not lines:
        return
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown(
            f"**Lines of the bill that our books do not say ({len(lines):,})**", width="stretch"
        )
        with head.popover(
            f"Import {len(lines):,} lines", icon=":material/playlist_add_check:",
            key=acts.fresh("bill_import"),
        ):  # fmt: skip
            _import(operator, lines, labels.told_apart(dict(bearers)))
        with head.popover("Not ours", icon=":material/delete:", key=acts.fresh("bill_not_ours")):
            _put_away(operator, lines)
        _table(lines[:_SHOWN])
        if len(lines) > _SHOWN:
            st.caption(f"The oldest {_SHOWN} are shown.")


def _import(operator: Operator, lines: Sequence[Waiting], bearers: dict[UUID, str]) -> None:
    known = [line for line in lines if line.state == "different"]
    found = [line for line in lines if line.state != "different" and line.call_id is not None]
    alone = len(lines) - len(known) - len(found)
    extra = total(less(line.cost_usd, line.ours_usd or Decimal(0)) for line in lines)
    st.markdown(
        f"Books {shown.usd(ceil_nusd(extra))} as adjustments, each line once. Nothing that is booked"
        " is changed or removed."
    )
    if known:
        st.markdown(
            f"- {len(known):,} correct the amount of a call, for its tenant too, as every late cost."
        )
    bills = False
    if found:
        st.markdown(
            f"- {len(found):,} can only be of one call, which ended before it learnt its generation."
        )
    bearer = None
    if alone:
        st.markdown(f"- {alone:,} belong to no call we know. A tenant takes them into its books:")
        bearer = st.selectbox(
            "Tenant",
            list(bearers),
            format_func=lambda of: bearers[of],
            key=acts.fresh("bill_bearer"),
        )
    if found or alone:
        bills = st.checkbox(
            "Bill them to their tenants (otherwise we bear them)", key=acts.fresh("bill_bills")
        )
    if st.button("Import", type="primary", key=acts.fresh("bill_import_now")):
        with st.spinner("Importing …"):
            done = acts.attempt_alone(
                lambda: imports.run(operator, lines, bearer=bearer, bills=bills)
            )
        if done is not None:
            acts.done(_said(done))


def _said(done: Imported) -> str:
    imported = done.outcomes.get("imported", 0)
    others = sum(done.outcomes.values()) - imported
    rest = f" {others:,} were not: known by now, or their call still runs." if others else ""
    return f"Imported {imported:,} lines.{rest}"


def _put_away(operator: Operator, lines: Sequence[Waiting]) -> None:
    st.markdown(
        f"Forgets these {len(lines):,} lines, such as those of another product on the same account."
        " What was imported stays, and so do the days' sums."
    )
    if st.button("Put away", key=acts.fresh("bill_put_away")):
        ids = [line.generation_id for line in lines]
        gone = acts.attempt(operator, lambda session: imports.put_away(session, operator, ids))
        if gone is not None:
            acts.done(f"Put {gone:,} lines away.")


def _table(lines: Sequence[Waiting]) -> None:
    st.dataframe(
        pd.DataFrame(
            {
                "at": pd.to_datetime([line.occurred_at for line in lines], utc=True),
                "model": [line.model for line in lines],
                "state": [_STATES[line.state] for line in lines],
                "ours": [
                    shown.NONE if line.ours_usd is None else shown.usd_decimal(line.ours_usd)
                    for line in lines
                ],
                "theirs": [shown.usd_decimal(line.cost_usd) for line in lines],
                "call": ["" if line.call_id is None else str(line.call_id) for line in lines],
                "generation": [line.generation_id for line in lines],
            }
        ),
        hide_index=True, key="bill_lines", height=420 if len(lines) > 10 else "content",
        alt="Each line with its time, model, both amounts and the call it belongs to",
        column_config={
            "at": st.column_config.DatetimeColumn(
                "Time", format="MMM D, HH:mm:ss", timezone=shown.zone(), pinned=True
            ),
            "model": "Model",
            "state": "Is",
            "ours": st.column_config.TextColumn("Ours", alignment="right"),
            "theirs": st.column_config.TextColumn("Theirs", alignment="right"),
            "call": "Call",
            "generation": "Generation",
        },
    )  # fmt: skip
