"""The platform operators' page: tenants and their money, offers, Stripe, health, invariants, audit. Each
part is read only when it is looked at; every act asks once and is audited."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core.identity.access import Operator
from pages.widgets import (
    admin_audit,
    admin_health,
    admin_invariants,
    admin_offers,
    admin_stripe,
    admin_tenants,
)
from pages.widgets import session as tab

_PARTS: dict[str, Callable[[Operator], None]] = {
    "Tenants": admin_tenants.draw,
    "Offers": admin_offers.draw,
    "Stripe": admin_stripe.draw,
    "Health": admin_health.draw,
    "Invariants": admin_invariants.draw,
    "Audit": admin_audit.draw,
}


def draw(operator: Operator) -> None:
    """The part that is chosen, and only it."""
    st.header("Admin", anchor=False)
    part = st.segmented_control(  # on a line of its own it wraps on a phone
        "Part", list(_PARTS), default="Tenants", required=True, key="part", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    _PARTS.get(part, admin_tenants.draw)(operator)


draw(tab.require_operator())
