"""Revenue, for operators: unspent credit rolled forward month by month, the margin on what was used, and
what was sold. Says whether it ties to the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pandas as pd
import streamlit as st

from core.finance import mix, revenue
from core.finance.mix import Running, Sold
from core.finance.revenue import RevenueRow
from core.identity.access import Operator
from core.money import show, show_minor
from pages.widgets import cached, finance_desk, shown
from pages.widgets.finance_desk import Desk
from pages.widgets.text import plain

_SPANS = {"3 months": 3, "6 months": 6, "12 months": 12, "24 months": 24}
_DEFAULT = "6 months"
_MANY = 15
_KINDS = {"package": "Package", "topup": "Top-up", "plan": "Plan"}
_ROLL = {
    "opening": "Unspent before", "purchased": "Bought", "plans": "Of plans",
    "promotions": "Promotions", "by_hand": "By hand", "reinstated": "Given back",
    "consumed": "Used", "debts": "Paid debts", "expired": "Expired", "revoked": "Taken back",
    "closing": "Unspent after",
}  # fmt: skip
_ROLL_KEPT = {"opening", "purchased", "consumed", "expired", "closing"}
_USE = {
    "billed": "Usage billed", "list": "List cost", "margin": "Margin",
    "on_credit": "Used on invoice", "became_debt": "Became debt", "paid": "Invoices paid",
    "written_off": "Written off",
}  # fmt: skip
_USE_KEPT = {"billed", "list", "margin"}


def draw(desk: Desk, *, operator: Operator) -> None:
    """The range, its sums, its months, and one of them by tenant."""
    span = st.segmented_control(
        "Months", list(_SPANS), default=_DEFAULT, required=True, key="span", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    recent = finance_desk.recent(desk.today)[: _SPANS.get(str(span), _SPANS[_DEFAULT])]
    with st.skeleton(height=300):
        every = cached.read(revenue.revenue, operator, recent[-1], recent[0])
    rows = [row for row in every if desk.tenant_id in (None, row.tenant_id)]
    if not rows:
        st.info("No tenant had begun by then. Choose more months.", icon=":material/info:")
        return
    _sums(rows)
    _roll(rows)
    if desk.tenant_id is None:
        _tenants(rows, recent)
    sold = cached.read(mix.sold, operator, recent[-1], recent[0])
    _mix(
        [one for one in sold if desk.tenant_id in (None, one.tenant_id)],
        cached.read(mix.running, operator) if desk.tenant_id is None else (),
    )


def _sums(rows: Sequence[RevenueRow]) -> None:
    whole = revenue.total(rows)
    last = max(row.month for row in rows)
    unspent = sum(row.closing_nusd for row in rows if row.month == last)
    billed, margin = sum(row.billed_nusd for row in rows), sum(row.margin_nusd for row in rows)
    with st.grid(5, min_column_width=150, gap="small"):
        st.metric("Credit bought", show(whole.purchased_nusd), border=True)
        st.metric("Credit used", show(whole.consumed_nusd), border=True)
        st.metric("Expired", show(whole.expired_nusd), border=True)
        st.metric("Unspent now", show(unspent), border=True, help="What is still owed in calls.")
        percent = f"{margin / billed:.1%} of what was billed" if billed else None
        st.metric("Gross margin", show(margin), border=True, help=percent)


def _roll(rows: Sequence[RevenueRow]) -> None:
    """One line for each month, summed over tenants."""
    with st.container(border=True):
        st.markdown("**Unspent credit and margin by month**")
        st.caption(
            "Unspent before, plus what came in, less what went out, is unspent after. The ledger's"
            " movements count where they were booked, usage where the call was made; months are"
            " each tenant's own."
        )
        by_month: dict[date, list[RevenueRow]] = {}
        for row in rows:
            by_month.setdefault(row.month, []).append(row)
        newest = sorted(by_month.items(), reverse=True)
        names = [finance_desk.month_name(month) for month, _ in newest]
        _tables("month", names, [of_month for _, of_month in newest])
        _ties(rows)


def _ties(rows: Sequence[RevenueRow]) -> None:
    broken = {row.name: row.difference_nusd for row in rows if row.difference_nusd}
    if not broken:
        st.markdown(
            ":green[:material/check_circle:] It ties: carried on to now it is what every wallet holds,"
            " to the last digit."
        )
        return
    lines = [
        f"- **{plain(name)}**: {plain(shown.usd_exact(amount))}" for name, amount in broken.items()
    ]
    st.error(
        "The ledger and what wallets hold differ:\n" + "\n".join(lines), icon=":material/error:"
    )


def _tenants(rows: Sequence[RevenueRow], months: Sequence[date]) -> None:
    """One month by tenant; those with nothing in it are left out."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**By tenant**", width="stretch")
        month = head.selectbox(
            "Month", list(months), key="revenue_month", bind="query-params", width=200,
            format_func=finance_desk.month_name, label_visibility="collapsed",
        )  # fmt: skip
        found = [row for row in rows if row.month == month and _has_any(row)]
        if not found:
            st.caption("Nothing moved in this month. Choose another one.")
            return
        _tables("tenant", [row.name for row in found], [[row] for row in found])


def _has_any(row: RevenueRow) -> bool:
    return any(_amounts([row]).values())


def _tables(first: str, names: Sequence[str], lines: Sequence[Sequence[RevenueRow]]) -> None:
    """The roll-forward, and under it use and margin; what is nothing in all lines is left out."""
    amounts = [_amounts(rows) for rows in lines]
    for key, kept, titles in (("roll", _ROLL_KEPT, _ROLL), ("use", _USE_KEPT, _USE)):
        columns = {
            name: [shown.usd_exact(line[name]) for line in amounts]
            for name in titles
            if name in kept or any(line[name] for line in amounts)
        }
        _table(pd.DataFrame({first: names} | columns), f"revenue_{key}_{first}", first, titles)


def _amounts(rows: Sequence[RevenueRow]) -> dict[str, int]:
    """A line's amounts by their columns."""
    moves = revenue.total(rows)
    return {
        "opening": sum(row.opening_nusd for row in rows), "purchased": moves.purchased_nusd,
        "plans": moves.plan_allowance_nusd, "promotions": moves.promotion_nusd,
        "by_hand": moves.by_hand_nusd, "reinstated": moves.reinstated_nusd,
        "consumed": moves.consumed_nusd, "debts": moves.debts_paid_nusd,
        "expired": moves.expired_nusd, "revoked": moves.revoked_nusd,
        "closing": sum(row.closing_nusd for row in rows),
        "billed": sum(row.billed_nusd for row in rows), "list": sum(row.list_nusd for row in rows),
        "margin": sum(row.margin_nusd for row in rows), "on_credit": moves.on_credit_nusd,
        "became_debt": moves.became_debt_nusd, "paid": moves.paid_nusd,
        "written_off": moves.written_off_nusd,
    }  # fmt: skip


def _table(frame: pd.DataFrame, key: str, first: str, titles: Mapping[str, str]) -> None:
    config = {
        name: st.column_config.TextColumn(title, alignment="right", width=112)
        for name, title in titles.items()
    }
    named = st.column_config.TextColumn(first.capitalize(), pinned=True, width=140)
    st.dataframe(
        frame, hide_index=True, key=key, height="content" if len(frame) <= _MANY else 520,
        alt=f"{', '.join(titles[name] for name in frame.columns[1:])} by {first}",
        column_config={first: named} | config,
    )  # fmt: skip


def _mix(sold: Sequence[Sold], running: Sequence[Running]) -> None:
    """What was sold over the range, and the plans that run."""
    with st.container(border=True):
        st.markdown("**What was sold**")
        if running:
            said = ", ".join(f"{plain(one.plan)}: {one.tenants:,}" for one in running)
            st.caption(f"Plans that run now, by tenants: {said}.")
        if not sold:
            st.caption("Nothing was sold in these months.")
            return
        sums: dict[tuple[str, str], list[int]] = {}
        for one in sold:
            line = sums.setdefault((one.kind, one.title), [0, 0, 0])
            for place, amount in enumerate((one.count, one.paid_minor, one.credit_nusd)):
                line[place] += amount
        ordered = sorted(sums.items(), key=lambda line: -line[1][1])
        st.dataframe(
            pd.DataFrame(
                {
                    "title": [title for (_, title), _ in ordered],
                    "kind": [_KINDS.get(kind, kind) for (kind, _), _ in ordered],
                    "count": [count for _, (count, _, _) in ordered],
                    "paid": [show_minor(paid) for _, (_, paid, _) in ordered],
                    "credit": [shown.usd_exact(credit) for _, (_, _, credit) in ordered],
                }
            ),
            hide_index=True, key="sold", height="content",
            alt="How often each package, top-up and plan was sold, for how much money and credit",
            column_config={
                "title": st.column_config.TextColumn("Sold", pinned=True),
                "kind": st.column_config.TextColumn("Kind", width=90),
                "count": st.column_config.NumberColumn("Times", format="localized", width=70),
                "paid": st.column_config.TextColumn("Money", alignment="right", width=120),
                "credit": st.column_config.TextColumn("Credit", alignment="right", width=120),
            },
        )  # fmt: skip
