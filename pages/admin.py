"""The Admin page: the platform for operators, their own tenant for its admins. Each part is read only when
it is looked at; every act asks once and is audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import streamlit as st

from core import db
from core.identity.access import Operator, Principal, Role
from pages.widgets import (
    admin_audit,
    admin_consumers,
    admin_conversations,
    admin_health,
    admin_invariants,
    admin_jobs,
    admin_keys,
    admin_limits,
    admin_members,
    admin_models,
    admin_offers,
    admin_people,
    admin_settings,
    admin_stripe,
    admin_tenants,
)
from pages.widgets import session as tab
from pages.widgets.text import plain

Who = TypeVar("Who", Operator, Principal)
_PART = "part"

_FIGURES = {"Consumers", "Models", "Conversations"}  # what sums up usage; the rest is looked up
_OF_OPERATOR: Mapping[str, Callable[[Operator], None]] = {
    "Tenants": admin_tenants.draw,
    "People": admin_people.draw,
    "Consumers": admin_consumers.draw,
    "Models": partial(admin_models.draw, tenant_id=None),
    "Conversations": admin_conversations.draw,
    "Offers": admin_offers.draw,
    "Stripe": admin_stripe.draw,
    "Jobs": admin_jobs.draw,
    "Health": admin_health.draw,
    "Invariants": admin_invariants.draw,
    "Audit": admin_audit.draw,
}
_OF_TENANT: Mapping[str, Callable[[Principal], None]] = {
    "Members": lambda who: admin_members.draw(who, who.tenant_id, who.tenant_name),
    "Limits": lambda who: admin_limits.draw(who, who.tenant_id),
    "API keys": lambda who: admin_keys.draw(who, who.tenant_id),
    "Models": lambda who: admin_models.draw(who, who.tenant_id),
    "Conversations": lambda who: admin_conversations.draw(who, who.tenant_id),
    "Settings": lambda who: admin_settings.draw(who, who.tenant_id),
    "Audit": admin_audit.draw,
}


def draw() -> None:
    """The parts of whoever looks: an operator's come first."""
    found = tab.require_signed_in()
    if found.operator is not None:
        _part(found.operator, _OF_OPERATOR, "Admin")
    else:
        who = tab.require(Role.ADMIN)
        _part(who, _OF_TENANT, f"Admin · {plain(who.tenant_name)}")


def _part(who: Who, parts: Mapping[str, Callable[[Who], None]], title: str) -> None:
    """The part that is chosen, and only it."""
    st.header(title, anchor=False)
    first = next(iter(parts))
    if tab.holds(_PART) not in (None, *parts):
        tab.drop(_PART)  # another page's part, still in the address
    part = st.segmented_control(  # on a line of its own it wraps on a phone
        "Part", list(parts), default=first, required=True, key=_PART, bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    lane = db.Lane.ANALYTICS if part in _FIGURES else db.Lane.WEB
    with db.use_lane(lane):
        parts.get(str(part), parts[first])(who)


draw()
