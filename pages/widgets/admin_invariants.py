"""Checks, when an operator asks, what must always hold: ledger, holds, usage, turns, isolation."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from core import db, invariants
from core.identity.access import Operator
from pages.widgets import shown


def draw(operator: Operator) -> None:
    """The button and, after it was pressed, what was found."""
    with st.container(border=True):
        st.markdown("**Invariants**")
        st.markdown(
            f"{len(invariants.queries())} statements about money, calls and isolation that must"
            " hold at every moment. The check reads only, and may run beside live traffic."
        )
        if st.button("Run now", icon=":material/fact_check:", type="primary", key="check"):
            _run(operator)


def _run(operator: Operator) -> None:
    began = time.monotonic()
    with st.spinner("Checking …"), db.transaction(operator) as session:
        found = invariants.check(session)
    took = f"{time.monotonic() - began:.1f} s"
    if not found:
        st.success(f"Everything holds. Checked in {took}.", icon=":material/check:")
        return
    st.error(f"{len(found):,} violations, found in {took}.", icon=":material/error:")
    st.dataframe(
        pd.DataFrame({"name": [v.name for v in found], "detail": [v.detail for v in found]}),
        hide_index=True, key="violations", alt="Each violation and the rows it is about",
        column_config={"name": "Invariant", "detail": "What was found"},
    )  # fmt: skip
    st.caption(f"Times are {shown.zone()}.")
