"""All tenants with their month and wallet, for operators; opens one, or makes a new one."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

import pandas as pd
import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.analytics import overview, parameters
from core.analytics.overview import TenantRow
from core.analytics.selection import Group, Selection
from core.billing import accounts
from core.identity import cost_centres, tenants, zones
from core.identity.access import Operator
from core.identity.cost_centres import NAME_LENGTH_MAX
from core.identity.limits import Subject
from core.identity.tenants import MODES
from core.money import NANO_PER_USD, parse_usd, show
from core.periods import month_of
from pages.widgets import (
    acts,
    admin_approvals,
    admin_settings,
    admin_tenant,
    shown,
    tenant_pick,
)
from pages.widgets.text import plain

_NEARLY_PERCENT, _FULL_PERCENT = 80, 100


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was typed of a new tenant."""

    name: str
    plan: str
    mode: str
    markup: str
    zone: str
    credit: str
    cost_center: str
    project: str


def draw(operator: Operator) -> None:
    """Sums, the table, the tenant that is open."""
    with db.transaction(operator) as session:
        rows = overview.tenants(session, operator)
        plans = tenants.plans(session)
    _sums(rows)
    admin_approvals.draw(operator, {row.tenant_id: row.name for row in rows})
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Tenants**", width="stretch")
        _new(operator, plans, head)
        if not rows:
            st.caption("No tenants yet. Create the first one; then add people to it.")
            return
        st.caption("Each tenant's month and days are those of its own time zone.")
        _table(rows)
    _open(operator, rows)


def _sums(rows: tuple[TenantRow, ...]) -> None:
    active = sum(row.status == "active" for row in rows)
    debt = sum(row.debt_nusd for row in rows)
    nearly = sum((row.limit_percent or 0) >= _NEARLY_PERCENT for row in rows)
    with st.grid(5, min_column_width=140, gap="small"):
        st.metric("Tenants", f"{active:,} active of {len(rows):,}", border=True)
        st.metric("Spent this month", show(sum(row.spent_nusd for row in rows)), border=True)
        st.metric("Reserved for calls", show(sum(row.held_nusd for row in rows)), border=True)
        st.metric("Debt", show(debt), border=True, help="Owed by prepaid tenants; refuses calls.")
        st.metric("Near a limit", f"{nearly:,}", border=True,
                  help=f"Used {_NEARLY_PERCENT} % of a monthly limit of the tenant, or more.")  # fmt: skip


def _table(rows: tuple[TenantRow, ...]) -> None:
    column = st.column_config
    st.dataframe(
        _frame(rows), hide_index=True, key="tenants", height="content" if len(rows) < 15 else 520,
        alt="Spend of the month, balance, mode, plan and members of each tenant",
        column_config={
            "name": column.TextColumn("Tenant", pinned=True),
            "state": column.TextColumn("State", width=120),
            "spent": column.NumberColumn("Spent this month", format="dollar"),
            "limit": column.NumberColumn(
                "Of its limit", format="%d %%", width=90,
                help="Of the monthly limit of which most is used; what is reserved counts.",
            ),
            "alerts": column.NumberColumn("Alerts", width=70, help="Not put away by anybody yet."),
            "requests": column.NumberColumn("Requests", format="localized"),
            "balance": column.NumberColumn("Balance", format="dollar"),
            "held": column.NumberColumn("Held", format="dollar"),
            "debt": column.NumberColumn("Debt", format="dollar"),
            "receivable": column.NumberColumn("Receivable", format="dollar"),
            "plan": "Plan", "mode": "Mode", "center": "Cost centre", "zone": "Time zone",
            "markup": "Markup",
            "members": column.NumberColumn("Members", format="localized"),
            "used": column.TextColumn("Last used"),
            "usage": column.LinkColumn("Calls", display_text="Open", width=60),
        },
    )  # fmt: skip


def _frame(rows: tuple[TenantRow, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": [row.name for row in rows],
            "state": [_state(row) for row in rows],
            "spent": [row.spent_nusd / NANO_PER_USD for row in rows],
            "requests": [row.requests for row in rows],
            "usage": [_usage(row) for row in rows],
            "limit": pd.array([row.limit_percent for row in rows], dtype="Int64"),
            "alerts": [row.open_notices for row in rows],
            "balance": [row.posted_nusd / NANO_PER_USD for row in rows],
            "held": [row.held_nusd / NANO_PER_USD for row in rows],
            "debt": [row.debt_nusd / NANO_PER_USD for row in rows],
            "receivable": [row.receivable_nusd / NANO_PER_USD for row in rows],
            "plan": [row.plan for row in rows],
            "mode": [row.mode for row in rows],
            "members": [row.members for row in rows],
            "used": [shown.ago(row.last_used_at) for row in rows],
            "markup": [admin_settings.percent(row.markup) for row in rows],
            "center": [row.cost_center or shown.NONE for row in rows],
            "zone": [row.time_zone for row in rows],
        }
    )


def _usage(row: TenantRow) -> str:
    """The address of what it spent this month, call by call."""
    selection = Selection(month_of(row.month)).only(Group.TENANT, row.tenant_id)
    return "usage?" + urlencode(parameters.write(selection), doseq=True)


def _state(row: TenantRow) -> str:
    """What an operator should know of it first."""
    if row.status != "active":
        return "Suspended"
    used = row.limit_percent or 0
    if used > _FULL_PERCENT:
        return "Over its limit"
    if used == _FULL_PERCENT:
        return "At its limit"
    return "Near its limit" if used >= _NEARLY_PERCENT else "Active"


def _open(operator: Operator, rows: tuple[TenantRow, ...]) -> None:
    by_id = {row.tenant_id: row for row in rows}
    chosen = tenant_pick.draw(
        st.container(), "Open a tenant", {of: row.name for of, row in by_id.items()},
        placeholder="Choose or type a name",
    )  # fmt: skip
    if chosen is not None:
        admin_tenant.draw(operator, by_id[chosen])


def _new(
    operator: Operator, plans: tuple[str, ...], place: st.delta_generator.DeltaGenerator
) -> None:
    with (
        place.popover("New tenant", icon=":material/add:", key=acts.fresh("tenant_new")),
        st.form(acts.fresh("tenant_form"), border=False),
    ):
        wanted = _Wanted(
            name=st.text_input("Name", max_chars=200, key=acts.fresh("new_name")),
            plan=st.selectbox("Plan", plans, key=acts.fresh("new_plan")),
            mode=st.selectbox("Mode", MODES, key=acts.fresh("new_mode")),
            markup=st.text_input(
                "Markup", "0", max_chars=12, key=acts.fresh("new_markup"),
                help="0.1 adds ten percent to the cost of each call.",
            ),
            zone=st.selectbox("Time zone", zones.places(), key=acts.fresh("new_zone")),
            credit=st.text_input(
                "Credit in USD", placeholder="The sign-up promotion", key=acts.fresh("new_credit")
            ),
            cost_center=st.text_input(
                "Cost centre", placeholder="None", max_chars=NAME_LENGTH_MAX,
                key=acts.fresh("new_center"),
            ),
            project=st.text_input(
                "Project", placeholder="None", max_chars=NAME_LENGTH_MAX,
                key=acts.fresh("new_project"),
            ),
        )  # fmt: skip
        st.caption("Creates the tenant and its wallet. People are added next.")
        if st.form_submit_button("Create tenant", type="primary"):
            made = acts.attempt(operator, lambda session: _create(session, operator, wanted))
            if made is not None:
                acts.done(f"Created {plain(wanted.name)}.")


def _create(session: Session, operator: Operator, wanted: _Wanted) -> UUID:
    tenant_id = accounts.open_tenant(
        session, operator, wanted.name, plan=wanted.plan, mode=wanted.mode, time_zone=wanted.zone,
        markup=wanted.markup.strip(),
        credits_nusd=parse_usd(wanted.credit) if wanted.credit.strip() else None,
    )  # fmt: skip
    if wanted.cost_center.strip() or wanted.project.strip():
        cost_centres.assign(
            session, operator, tenant_id, Subject.TENANT, tenant_id, wanted.cost_center,
            wanted.project,
        )  # fmt: skip
    return tenant_id
