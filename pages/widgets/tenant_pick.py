"""Which tenant an operator looks at: chosen by name, kept in the address by id, because several may bear a
name. Believes no address: it is one of the tenants that are offered, or none."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.analytics import labels
from pages.widgets import address
from pages.widgets import session as tab

KEY = "tenant"


def draw(
    place: DeltaGenerator, label: str, names: Mapping[UUID, str], *, placeholder: str,
    width: int | None = None,
) -> UUID | None:  # fmt: skip
    """The list, in `place`; below what is drawn already, what is wrong with the address, if anything."""
    called = labels.told_apart(names)
    found = _asked(called)
    if found is not None:
        address.open_tenant(found)  # an old address names it by its name
    tab.keep(KEY, found)
    place.selectbox(
        label, list(called), index=None, key=KEY, width=width or "stretch",
        format_func=lambda of: called.get(of, str(of)), placeholder=placeholder, on_change=_choose,
    )  # fmt: skip
    if found is None and address.tenant():
        st.warning(
            "**There is no such tenant**, or several bear this name. Choose one from the list.",
            icon=":material/link_off:",
        )
    return found


def _asked(called: Mapping[UUID, str]) -> UUID | None:
    """The tenant of the address: by its id, or by what only one is called."""
    if (tenant_id := address.tenant_id()) is not None:
        return tenant_id if tenant_id in called else None
    named = [of for of, title in called.items() if title == address.tenant()]
    return named[0] if len(named) == 1 else None


def _choose() -> None:
    chosen = tab.holds(KEY)
    address.open_tenant(chosen if isinstance(chosen, UUID) else None)
