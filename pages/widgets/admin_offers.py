"""What is for sale, for operators: packages, plans and the house's terms. A change is for those who buy
from now on; what was sold keeps its terms."""

from __future__ import annotations

import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.billing import credit, offers
from core.billing.offers import PlanForSale
from core.billing.sales_tables import BillingTerms, Package
from core.identity.access import Operator
from core.money import exact, parse_minor, parse_usd
from pages.widgets import acts, shown
from pages.widgets.text import plain


def draw(operator: Operator) -> None:
    """Packages, plans, terms."""
    with db.transaction(operator) as session:
        packages = offers.packages(session, every=True)
        plans = offers.plans(session, every=True)
        terms = credit.terms(session)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.markdown("**Packages**", width="stretch")
        with head.popover("New package", icon=":material/add:", key=acts.fresh("package_new")):
            _package_form(operator, None)
        for package in packages:
            _package(operator, package)
    with st.container(border=True):
        st.markdown("**Plans**")
        for plan in plans:
            _plan(operator, plan)
    _terms(operator, terms)


def _package(operator: Operator, package: Package) -> None:
    line = st.container(horizontal=True, vertical_alignment="center")
    bonus = f" + {shown.usd(package.bonus_nusd)} bonus" if package.bonus_nusd else ""
    line.markdown(
        f"{plain(package.title)}  \n:gray[:small[{shown.cents(package.price_minor)} for"
        f" {shown.usd(package.credits_nusd)} of credit{bonus}]]",
        width="stretch",
    )
    _badges(line, package.badge, active=package.active)
    code = package.package_code
    with line.popover("Change", key=acts.fresh(f"package_{code}")):
        _package_form(operator, package)


def _plan(operator: Operator, plan: PlanForSale) -> None:
    line = st.container(horizontal=True, vertical_alignment="center")
    line.markdown(
        f"{plain(plan.title)}  \n:gray[:small[{shown.cents(plan.price_minor)} a month for"
        f" {shown.usd(plan.allowance_nusd)} of credit]]",
        width="stretch",
    )
    _badges(line, plan.badge, active=plan.active)
    with line.popover("Change", key=acts.fresh(f"plan_{plan.plan}")):
        _plan_form(operator, plan)


def _badges(place: st.delta_generator.DeltaGenerator, badge: str | None, *, active: bool) -> None:
    if badge:
        place.badge(plain(badge), color="blue")
    if not active:
        place.badge("Not sold", color="gray")


def _package_form(operator: Operator, package: Package | None) -> None:
    name = package.package_code if package else "new"

    def key(field: str) -> str:
        return acts.fresh(f"package_{name}_{field}")

    with st.form(key("form"), border=False):
        code = name
        if package is None:
            code = st.text_input("Code", max_chars=40, key=key("code"), placeholder="team_100")
        title = st.text_input("Title", package.title if package else "", key=key("title"))
        price = st.text_input(
            "Price in USD",
            shown.typed_cents(package.price_minor if package else None),
            key=key("price"),
        )
        credits_ = st.text_input(
            "Credit in USD", exact(package.credits_nusd) if package else "", key=key("credits")
        )
        bonus = st.text_input(
            "Bonus in USD", exact(package.bonus_nusd) if package else "0", key=key("bonus")
        )
        days = st.number_input(
            "Bonus ends after days (0: never)", 0, 3650, key=key("days"),
            value=(package.bonus_expires_after_days or 0) if package else 365,
        )  # fmt: skip
        badge = st.text_input("Badge", (package.badge or "") if package else "", key=key("badge"))
        lines = st.text_area(
            "Features, one a line", "\n".join(package.features) if package else "", key=key("lines")
        )
        active = st.checkbox("For sale", package.active if package else True, key=key("active"))
        if st.form_submit_button("Save", type="primary"):

            def save(session: Session) -> str:
                offers.set_package(
                    session, operator, code, title=title, price_minor=parse_minor(price),
                    credits_nusd=parse_usd(credits_), bonus_nusd=parse_usd(bonus),
                    expires_after_days=package.expires_after_days if package else None,
                    bonus_expires_after_days=int(days) or None, badge=badge or None,
                    features=_features(lines), rank=package.rank if package else 99, active=active,
                )  # fmt: skip
                return f"Saved {plain(title)}."

            _act(operator, save)


def _plan_form(operator: Operator, plan: PlanForSale) -> None:
    def key(field: str) -> str:
        return acts.fresh(f"plan_{plan.plan}_{field}")

    with st.form(key("form"), border=False):
        price = st.text_input(
            "Price a month in USD", shown.typed_cents(plan.price_minor), key=key("price")
        )
        allowance = st.text_input(
            "Credit a month in USD", exact(plan.allowance_nusd), key=key("allowance")
        )
        grace = st.number_input(
            "Days of grace after the month", 0, 60, plan.grace_days, key=key("grace")
        )
        badge = st.text_input("Badge", plan.badge or "", key=key("badge"))
        lines = st.text_area("Features, one a line", "\n".join(plan.features), key=key("lines"))
        active = st.checkbox("For sale", plan.active, key=key("active"))
        if st.form_submit_button("Save", type="primary"):

            def save(session: Session) -> str:
                offers.set_plan_offer(
                    session, operator, plan.plan, price_minor=parse_minor(price),
                    allowance_nusd=parse_usd(allowance), grace_days=int(grace), badge=badge or None,
                    features=_features(lines), active=active,
                )  # fmt: skip
                return f"Saved {plain(plan.title)}."

            _act(operator, save)


def _terms(operator: Operator, terms: BillingTerms) -> None:
    with st.form(acts.fresh("terms")):
        st.markdown("**House terms**")
        low = st.text_input(
            "A balance is low below, in USD", exact(terms.low_balance_nusd),
            key=acts.fresh("terms_low"),
        )  # fmt: skip
        above = st.text_input(
            "Credit by hand needs a second operator above, in USD",
            exact(terms.approval_above_nusd), key=acts.fresh("terms_above"),
        )  # fmt: skip
        if st.form_submit_button("Save", type="primary"):

            def save(session: Session) -> str:
                credit.set_terms(
                    session, operator, low_balance_nusd=parse_usd(low),
                    approval_above_nusd=parse_usd(above),
                )  # fmt: skip
                return "Saved the house's terms."

            _act(operator, save)


def _act(operator: Operator, save: acts.Work[str]) -> None:
    said = acts.attempt(operator, save)
    if said is not None:
        acts.done(said)


def _features(lines: str) -> list[str]:
    return [line.strip() for line in lines.splitlines() if line.strip()]
