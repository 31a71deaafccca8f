"""The limits of a tenant or of one of its people, for operators: what applies, and a change."""

from __future__ import annotations

from dataclasses import asdict
from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import db, errors
from core.analytics.overview import TenantRow
from core.identity import limits
from core.identity.access import Operator
from core.identity.limits import LimitName, Limits, Subject
from core.money import parse_usd, show
from pages.widgets import acts, admin_people

_TITLES = {
    LimitName.MONTHLY_NUSD: "Spend a month (USD)",
    LimitName.MONTHLY_MESSAGES: "Messages a month",
    LimitName.MONTHLY_TOKENS: "Tokens a month",
    LimitName.REQUESTS_PER_MINUTE: "Requests a minute",
    LimitName.REQUESTS_PER_HOUR: "Requests an hour",
}
_ACTS = ("Set to", "Lift (unlimited)", "Back to the plan's")


def draw(operator: Operator, row: TenantRow) -> None:
    """The limits in force beside the form that changes one."""
    head = st.container(horizontal=True, vertical_alignment="bottom")
    head.markdown("**Limits**", width="stretch")
    people = admin_people.members_of(operator, row.tenant_id)
    names = {row.tenant_id: "The whole tenant"} | {p.user_id: p.email for p in people}
    subject_id = head.selectbox(
        "Of whom", list(names), format_func=lambda of: names.get(of, ""), width=280,
        key=f"limit_of_{row.tenant_id}",
    )  # fmt: skip
    subject = Subject.TENANT if subject_id == row.tenant_id else Subject.USER
    with db.transaction(operator) as session:
        found = limits.of(session, row.tenant_id, subject, subject_id)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.caption("What is set here, else what the plan says.")
        _table(found)
    with right:
        _change(operator, row, subject, subject_id)


def _table(found: Limits) -> None:
    values = asdict(found)
    st.dataframe(
        pd.DataFrame(
            {
                "limit": list(_TITLES.values()),
                "maximum": [_said(name, values[name]) for name in _TITLES],
            }
        ),
        hide_index=True, key="limits", height="content", alt="Each limit and its maximum",
        column_config={
            "limit": "Limit",
            "maximum": st.column_config.TextColumn("At most", alignment="right"),
        },
    )  # fmt: skip


def _said(name: LimitName, maximum: int | None) -> str:
    if maximum is None:
        return "Unlimited"
    return show(maximum) if name is LimitName.MONTHLY_NUSD else f"{maximum:,}"


def _change(operator: Operator, row: TenantRow, subject: Subject, subject_id: UUID) -> None:
    with st.form(acts.fresh("limit_form")):
        name = st.selectbox(
            "Limit", list(_TITLES), format_func=_TITLES.__getitem__, key=acts.fresh("limit_name")
        )
        act = st.selectbox("Change", _ACTS, key=acts.fresh("limit_act"))
        value = st.text_input(
            "At most", key=acts.fresh("limit_value"), placeholder="Only for “Set to”"
        )
        st.caption("Applies to the next call. Calls that run are not stopped.")
        if st.form_submit_button("Change the limit", type="primary"):
            changed = acts.attempt(
                operator,
                lambda session: _apply(
                    session, operator, row, subject, subject_id, name, act, value
                ),
            )
            if changed is not None:
                acts.done(changed)


def _apply(
    session: Session, operator: Operator, row: TenantRow, subject: Subject, subject_id: UUID,
    name: LimitName, act: str, value: str,
) -> str:  # fmt: skip
    place = (session, operator, row.tenant_id, subject, subject_id, name)
    if act == _ACTS[2]:
        limits.unset_limit(*place)
    else:
        limits.set_limit(*place, None if act == _ACTS[1] else _maximum(name, value))
    return f"Changed: {_TITLES[name].lower()}."


def _maximum(name: LimitName, value: str) -> int:
    """What was typed as the limit's number. Raises NotMoney or errors.BadInput."""
    if name is LimitName.MONTHLY_NUSD:
        return parse_usd(value)
    cleaned = value.strip().replace(",", "")
    if not (cleaned.isascii() and cleaned.isdigit() and len(cleaned) < 19):
        raise errors.BadInput("The limit is a whole number, such as 1,000.", param=name)
    return int(cleaned)
