"""A tenant's settings: what its own admins may change (time zone, cost centres), and for operators also
name, plan and markup. Core decides who may; what is not one's to change is shown without a button."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import streamlit as st
from sqlalchemy.orm import Session

from core import clock, db
from core.billing import subscriptions
from core.identity import tenants, terms, zones
from core.identity.access import Operator, Principal
from core.identity.terms import Terms
from pages.widgets import acts, admin_cost_centres, shown
from pages.widgets.text import plain

Place = st.delta_generator.DeltaGenerator


def draw(who: Principal | Operator, tenant_id: UUID) -> None:
    """The card with the terms, then where use is booked."""
    with db.transaction(who) as session:
        found = terms.of_tenant(session, who, tenant_id)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Settings**", width="stretch")
        _zone(who, found, head)
        if isinstance(who, Operator):
            _plan(who, found, head)
            _markup(who, found, head)
            _name(who, found, head)
        _facts(found)
    admin_cost_centres.draw(who, tenant_id)


def percent(markup: Decimal) -> str:
    """A markup for people: '12.5 %'."""
    return f"{(markup * 100).normalize():f} %"


def _key(name: str, found: Terms) -> str:
    """A field's key: what was typed for one tenant must not show up at another."""
    return acts.fresh(f"{name}_{found.tenant_id}")


def _facts(found: Terms) -> None:
    facts = {
        "Name": plain(found.name), "Time zone": plain(found.calendar.said(clock.now())),
        "Plan": found.plan, "How it pays": found.mode,
        "Cost centre": plain(found.cost_center or shown.NONE),
        "Project": plain(found.project or shown.NONE),
    }  # fmt: skip
    if found.markup is not None:
        facts["Markup"] = percent(found.markup)
    with st.grid(4, min_column_width=160, gap="small"):
        for title, value in facts.items():
            with st.container(gap=None):
                st.caption(title)
                st.markdown(value)


def _zone(who: Principal | Operator, found: Terms, place: Place) -> None:
    now = clock.now()
    zone, coming = found.calendar.span_at(now).time_zone, found.calendar.coming(now)
    starts_on = zones.next_change(found.calendar, zone, now).starts_on
    with (
        place.popover("Time zone", icon=":material/schedule:", key=acts.fresh("zone")),
        st.form(acts.fresh("zone_form"), border=False),
    ):
        names = sorted({*zones.places(), zone})
        chosen = st.selectbox(
            "Time zone", names, index=names.index(coming.time_zone if coming else zone),
            key=_key("zone_to", found),
        )  # fmt: skip
        st.caption(
            f"Counts from {starts_on:%B} {starts_on.day} on. The running month ends in"
            f" {plain(zone)}, and days and months that ended stay as they are."
        )
        if coming is not None:
            st.caption(f"Planned is {plain(coming.time_zone)}; {plain(zone)} takes that back.")
        if st.form_submit_button("Set the time zone", type="primary"):
            said = acts.attempt(who, lambda session: _set_zone(session, who, found, chosen))
            if said is not None:
                acts.done(said)


def _set_zone(session: Session, who: Principal | Operator, found: Terms, zone: str) -> str:
    span = terms.set_time_zone(session, who, found.tenant_id, zone)
    if span is None:
        return f"{plain(found.name)} stays in {plain(zone)}."
    day = f"{span.starts_on:%B} {span.starts_on.day}"
    return f"{plain(found.name)} counts in {plain(zone)} from {day} on."


def _plan(operator: Operator, found: Terms, place: Place) -> None:
    with place.popover("Plan", icon=":material/layers:", key=acts.fresh("plan")):
        with db.transaction(operator) as session:
            plans = tenants.plans(session)
            running = subscriptions.current(session, found.tenant_id)
        if running is not None and running.status in subscriptions.LIVE:
            st.warning(
                "A subscription is charged at Stripe. A plan that is set here holds until that"
                " subscription changes.",
                icon=":material/autorenew:",
            )
        with st.form(acts.fresh("plan_form"), border=False):
            chosen = st.selectbox(
                "Plan", plans, index=plans.index(found.plan), key=_key("plan_to", found)
            )
            st.caption("Its limits apply from the next call on. Credit and chats are kept.")
            if st.form_submit_button("Change the plan", type="primary"):
                said = acts.attempt(
                    operator, lambda session: _set_plan(session, operator, found, chosen)
                )
                if said is not None:
                    acts.done(said)


def _set_plan(session: Session, operator: Operator, found: Terms, plan: str) -> str:
    tenants.set_plan(session, operator, found.tenant_id, plan)
    return f"{plain(found.name)} is on {plan}."


def _markup(operator: Operator, found: Terms, place: Place) -> None:
    with (
        place.popover("Markup", icon=":material/percent:", key=acts.fresh("markup")),
        st.form(acts.fresh("markup_form"), border=False),
    ):
        given = st.text_input(
            "Markup", f"{(found.markup or Decimal(0)).normalize():f}", max_chars=12,
            key=_key("markup_to", found), help="0.1 adds ten percent to the cost of each call.",
        )  # fmt: skip
        st.caption("From the next call on. What was billed stays as it was.")
        if st.form_submit_button("Set the markup", type="primary"):
            said = acts.attempt(
                operator, lambda session: _set_markup(session, operator, found, given)
            )
            if said is not None:
                acts.done(said)


def _set_markup(session: Session, operator: Operator, found: Terms, given: str) -> str:
    tenants.set_markup(session, operator, found.tenant_id, given.strip())
    return f"{plain(found.name)} pays {percent(Decimal(given.strip()))} on top."


def _name(operator: Operator, found: Terms, place: Place) -> None:
    with (
        place.popover("Rename", icon=":material/edit:", key=acts.fresh("rename")),
        st.form(acts.fresh("rename_form"), border=False),
    ):
        name = st.text_input("Name", found.name, max_chars=200, key=_key("rename_to", found))
        st.caption("What was used before keeps the name it had.")
        if st.form_submit_button("Rename", type="primary"):
            said = acts.attempt(operator, lambda session: _rename(session, operator, found, name))
            if said is not None:
                acts.done(said)


def _rename(session: Session, operator: Operator, found: Terms, name: str) -> str:
    tenants.rename(session, operator, found.tenant_id, name)
    return f"{plain(found.name)} is {plain(name)} now."
