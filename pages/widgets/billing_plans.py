"""Plans side by side, the current one marked. Each change says before what it will do: an upgrade now
and in proportion, a downgrade or an end with the period that is paid."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core import clock
from core.billing import invoices, subscriptions
from core.billing.overview import PlanCard
from core.billing.sales_tables import Subscription
from pages.widgets import acts, billing_desk, shown
from pages.widgets.billing_desk import Desk
from pages.widgets.text import plain


def draw(desk: Desk) -> None:
    """The cards, with what the plan in force does next above them."""
    running = _running(desk)
    if running is not None:
        _standing(desk, running)
    elif _is_withdrawn(desk):
        _withdrawn(desk)
    elif desk.sales.subscription is None and desk.who.plan != subscriptions.FREE:
        title = plain(_title(desk, desk.who.plan))
        st.caption(f"Your team has {title} without a subscription: its limits, no monthly credit.")
    with st.grid(len(desk.sales.plans) or 1, min_column_width=200, gap="small"):
        for card in desk.sales.plans:
            with st.container(border=True, height="stretch"):
                _card(desk, card, running)
    st.caption(
        "Each month's credit ends with its period and some days of grace; credit from packages stays."
    )


def _running(desk: Desk) -> Subscription | None:
    found = desk.sales.subscription
    return found if found is not None and found.status in subscriptions.LIVE else None


def _is_withdrawn(desk: Desk) -> bool:
    """Whether there is a plan that gives nothing now and keeps the team from buying another one."""
    found = desk.sales.subscription
    return found is not None and found.status in subscriptions.WITHDRAWN


def _withdrawn(desk: Desk) -> None:
    """A plan that was not paid, or is paused: how to be rid of it."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.warning(
        "Your plan is not in force: it was not paid, or it is paused. Pay its invoice, or end it and"
        " subscribe anew.",
        width="stretch",
    )
    with row.popover("End this plan", key=acts.fresh("end_plan")):
        st.markdown("The plan ends at once and cannot be resumed. Credit you bought stays.")
        if st.button("End it now", type="primary", key=acts.fresh("end_plan_now")):
            _do(lambda: subscriptions.cancel(desk.who), "The plan has ended.")


def _current(desk: Desk, running: Subscription | None) -> str:
    return running.plan if running is not None and running.plan else desk.who.plan


def _standing(desk: Desk, running: Subscription) -> None:
    """What happens at the end of the period, and how to undo it."""
    ends = billing_desk.day(running.period_end, desk)
    row = st.container(horizontal=True, vertical_alignment="center")
    if running.cancel_at is not None:
        ends = billing_desk.day(running.cancel_at, desk)
        row.warning(f"Your plan ends on {ends}. Until then everything stays.", width="stretch")
        if row.button("Resume", icon=":material/undo:", type="primary", key=acts.fresh("resume")):
            _do(lambda: subscriptions.resume(desk.who), "Your plan goes on.")
        return
    if running.next_plan:
        title = plain(_title(desk, running.next_plan))
        row.info(f"Your plan changes to {title} on {ends}.", width="stretch")
        keep = acts.fresh("keep_plan")
        if row.button("Keep the present plan", icon=":material/undo:", key=keep):
            held = _current(desk, running)
            _do(lambda: subscriptions.change_plan(desk.who, held), "Your plan stays as it is.")
        return
    row.caption(f"Your plan renews on {ends}.", width="stretch")


def _title(desk: Desk, plan: str) -> str:
    return next((c.offer.title for c in desk.sales.plans if c.offer.plan == plan), plan)


def _card(desk: Desk, card: PlanCard, running: Subscription | None) -> None:
    offer = card.offer
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown(f"**{plain(offer.title)}**", width="stretch")
    if offer.plan == _current(desk, running):
        head.badge("Your plan", icon=":material/check:", color="green")
    elif offer.badge:
        head.badge(plain(offer.badge), icon=":material/star:", color="violet")
    st.subheader(f"{shown.cents(offer.price_minor)} :small[a month]", anchor=False)
    credit = f"{shown.usd(offer.allowance_nusd)} of credit each month"
    st.markdown(credit if offer.allowance_nusd else "No monthly credit")
    lines = [*_allows(card), *(plain(feature) for feature in offer.features)]
    st.markdown("\n".join(f"- {line}" for line in lines))
    st.space("stretch")
    _act(desk, card, running)


def _allows(card: PlanCard) -> list[str]:
    """What the plan lets a team do, in people's words."""
    lines = []
    for name, noun in (("monthly_messages", "messages"), ("monthly_tokens", "tokens")):
        most = card.limit("tenant", name)
        lines.append(f"Unlimited {noun}" if most is None else f"{most:,} {noun} a month")
    hourly = card.limit("user", "requests_per_hour")
    lines.append(
        "No hourly limit" if hourly is None else f"{hourly:,} requests an hour for each person"
    )
    return lines


def _act(desk: Desk, card: PlanCard, running: Subscription | None) -> None:
    """The one thing that can be done with this plan now."""
    plan, is_free = card.offer.plan, card.offer.price_minor == 0
    if running is None:
        if (
            not is_free
            and not _is_withdrawn(desk)
            and st.button(
                "Subscribe", icon=":material/autorenew:", width="stretch", key=f"subscribe_{plan}"
            )
        ):
            billing_desk.subscribe(desk, plan)
    elif running.cancel_at is not None or running.next_plan == plan:
        return  # what comes next is said above the cards, with the way to undo it
    elif plan == running.plan:
        _cancel(desk, running)
    elif not is_free:
        _change(desk, card, running)


def _cancel(desk: Desk, running: Subscription) -> None:
    ends = billing_desk.day(running.period_end, desk)
    with st.popover("Cancel plan", width="stretch", key=acts.fresh("cancel_plan")):
        st.markdown(
            f"Your plan goes on until **{ends}**, which is paid; then your team is on Free. Credit you"
            " bought stays. Nothing is paid back for the rest of this period."
        )
        if st.button("Cancel at the end of the period", key=acts.fresh("cancel_plan_now")):
            _do(lambda: subscriptions.cancel(desk.who), f"Your plan ends on {ends}.")


def _change(desk: Desk, card: PlanCard, running: Subscription) -> None:
    """An upgrade or a downgrade, after saying what it does."""
    offer = card.offer
    held = next((c.offer for c in desk.sales.plans if c.offer.plan == running.plan), None)
    is_upgrade = held is None or offer.rank > held.rank
    ends = billing_desk.day(running.period_end, desk)
    label, icon = ("Upgrade", "arrow_upward") if is_upgrade else ("Downgrade", "arrow_downward")
    price = f"{shown.cents(offer.price_minor)} a month"
    with st.popover(
        label, icon=f":material/{icon}:", width="stretch", key=acts.fresh(f"change_{offer.plan}")
    ):
        if is_upgrade:
            added = invoices.upgrade_ahead_nusd(
                held.allowance_nusd if held else 0, offer.allowance_nusd, clock.now(),
                running.period_end,
            )  # fmt: skip
            st.markdown(
                f"From now on {plain(offer.title)}. The difference for the time until **{ends}** is"
                f" charged to your card now and brings about **{shown.usd(added)}** of credit."
                f" From then on it is {price}."
            )
            said = f"You are on {plain(offer.title)} now."
        else:
            st.markdown(
                f"Your present plan stays until **{ends}**. From then on {plain(offer.title)}:"
                f" {price}, {shown.usd(offer.allowance_nusd)} of credit each month. Nothing is charged"
                " or paid back now."
            )
            said = f"Your plan changes to {plain(offer.title)} on {ends}."
        if st.button(
            f"{label} to {plain(offer.title)}", type="primary",
            key=acts.fresh(f"change_{offer.plan}_now"),
        ):  # fmt: skip
            _do(lambda: subscriptions.change_plan(desk.who, offer.plan), said)


def _do(work: Callable[[], None], said: str) -> None:
    """One change of the plan; `said` when it is done."""

    def whole() -> bool:
        work()
        return True

    if billing_desk.attempt(whole):
        acts.done(said)
