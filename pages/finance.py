"""Finance: months and their closing, exports, chargeback, and how usage ties to the ledger; for operators
also revenue and the provider's bill. For those who keep a team's books. Each part is read only when it is
looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import streamlit as st

from core import db
from pages.widgets import (
    finance_bills,
    finance_chargeback,
    finance_desk,
    finance_exports,
    finance_ledger,
    finance_months,
    finance_revenue,
)
from pages.widgets import session as tab
from pages.widgets.finance_desk import Desk

_PART = "part"
_PARTS: Mapping[str, Callable[[Desk], None]] = {
    "Months": finance_months.draw,
    "Exports": finance_exports.draw,
    "Chargeback": finance_chargeback.draw,
    "Ledger": finance_ledger.draw,
}


def draw() -> None:
    """Whose books, and the part that is chosen."""
    desk = finance_desk.open_desk(tab.require_signed_in())
    parts = dict(_PARTS)
    if (operator := desk.operator) is not None:
        parts["Revenue"] = partial(finance_revenue.draw, operator=operator)
        parts["Provider bill"] = lambda _: finance_bills.draw(operator)
    if tab.holds(_PART) not in (None, *parts):
        tab.drop(_PART)  # what was chosen on another page
    part = st.segmented_control(  # on a line of its own it wraps on a phone
        "Part", list(parts), default="Months", required=True, key=_PART, bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    parts.get(str(part), finance_months.draw)(desk)


with db.use_lane(db.Lane.ANALYTICS):
    draw()
