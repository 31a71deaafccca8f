"""The cards and the chart of the Usage page. Draws what a report says and reads nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.analytics import charts, usage
from core.analytics.report import Report
from core.money import NANO_PER_USD, show
from pages.widgets import shown


def cards(report: Report, span: str) -> None:
    """Cost, requests, tokens and the price of a thousand tokens, each against the period before."""
    now, before = report.now, report.before
    days = usage.by_day(report.daily, report.period)
    against = f"vs previous {span}"
    prices = [
        1000 * cost / tokens / NANO_PER_USD
        for cost, tokens in zip(days["cost_nusd"], days["tokens"], strict=True)
        if tokens
    ]
    price, earlier_price = now.nusd_per_1k_tokens, before.nusd_per_1k_tokens
    with st.grid(4, min_column_width=180, gap="small"):
        _card("Cost", show(now.cost_nusd), usage.change(now.cost_nusd, before.cost_nusd),
              _dollars(days["cost_nusd"]), against, costs=True)  # fmt: skip
        _card("Requests", now.requests, usage.change(now.requests, before.requests),
              days["requests"].tolist(), against)  # fmt: skip
        _card("Tokens", now.tokens, usage.change(now.tokens, before.tokens),
              days["tokens"].tolist(), against)  # fmt: skip
        _card("Cost per 1k tokens", shown.NONE if price is None else shown.rate(price),
              usage.change(price, earlier_price), prices, against, costs=True)  # fmt: skip


def by_model(report: Report) -> None:
    """Cost by model over days beside the models' sums, which add up to the card."""
    dark = st.context.theme.type == "dark"
    left, right = st.columns([3, 2], gap="small")
    with left.container(border=True, height="stretch"):
        st.markdown("**Cost by model**")
        wide = usage.cost_by_model(report.daily, report.period)
        if wide.empty or not len(wide.columns):
            st.caption("No calls in this period. Choose a longer one to see earlier use.")
        else:
            st.plotly_chart(
                charts.cost_by_model(wide, dark=dark), key="by_model",
                config={"displayModeBar": False},
                alt="Stacked areas: cost of each model on each day",
            )  # fmt: skip
    with right.container(border=True, height="stretch"):
        st.markdown("**Models**")
        _models(report, [str(model) for model in wide.columns], dark=dark)


def _models(report: Report, drawn: list[str], *, dark: bool) -> None:
    """Every model with its colour in the chart: the sums, and the chart's legend."""
    shares = usage.models(usage.within(report.daily, report.period))
    frame = pd.DataFrame(
        {
            "colour": ["\N{BLACK CIRCLE}"] * len(shares),
            "model": [share.model for share in shares],
            "cost": [show(share.cost_nusd) for share in shares],
            "requests": [share.requests for share in shares],
        }
    )
    colours = [
        charts.color_of(share.model if share.model in drawn else usage.OTHER, dark=dark)
        for share in shares
    ]
    st.dataframe(
        frame.style.apply(lambda _: [f"color: {colour}" for colour in colours], subset=["colour"]),
        hide_index=True, key="models", height="content" if len(shares) <= 8 else 320,
        alt="Cost and requests of each model, with its colour in the chart",
        column_config={
            "colour": st.column_config.TextColumn("", width=30),
            "model": st.column_config.TextColumn("Model", width=165),
            "cost": st.column_config.TextColumn("Cost", alignment="right", width=78),
            "requests": st.column_config.NumberColumn("Calls", format="localized", width=52),
        },
    )  # fmt: skip


def _card(
    label: str,
    value: int | str,
    change: float | None,
    line: Sequence[float],
    against: str,
    *,
    costs: bool = False,
) -> None:
    """One figure; a rise is bad news where it costs money, and neither good nor bad elsewhere."""
    delta = shown.percent(change)
    st.metric(
        label, value, delta, format="compact" if isinstance(value, int) else None, border=True,
        chart_data=list(line) if len(line) > 1 else None, chart_type="area",
        delta_color="inverse" if costs and delta else "off",
        delta_description=against if delta else None,
    )  # fmt: skip


def _dollars(cost_nusd: pd.Series[int]) -> list[float]:
    return [int(amount) / NANO_PER_USD for amount in cost_nusd]
