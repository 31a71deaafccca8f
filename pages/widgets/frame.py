"""What surrounds every page: icon, logo, pages by role, whose session this is and its balance. The
pages it leaves out are only hidden here; each page and the core check for themselves."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from core.identity.access import Principal, Role, SignedIn
from pages.widgets import exchange, inbox, purse
from pages.widgets.text import plain

PRODUCT = "Purser"
_PAGES = Path(__file__).parents[1]
_LOGO, _ICON = _PAGES / "assets" / "logo.svg", _PAGES / "assets" / "favicon.png"


def pages_of(found: SignedIn | None) -> list[StreamlitPage]:
    """The pages in the navigation; for nobody all, so that a deep link leads to the sign-in."""
    pages = [
        st.Page(_PAGES / "chat.py", title="Chat", icon=":material/forum:", default=True),
        st.Page(_PAGES / "usage.py", title="Usage", icon=":material/monitoring:"),
        st.Page(_PAGES / "billing.py", title="Billing", icon=":material/account_balance_wallet:"),
    ]
    if found is None or found.operator is not None or _keeps_books(found):
        pages.append(st.Page(_PAGES / "finance.py", title="Finance", icon=":material/menu_book:"))
    pages.append(st.Page(_PAGES / "account.py", title="Account", icon=":material/person:"))
    if found is None or found.operator is not None or _is_admin(found):
        pages.append(st.Page(_PAGES / "admin.py", title="Admin", icon=":material/shield_person:"))
    return pages


def _keeps_books(found: SignedIn) -> bool:
    return found.principal is not None and found.principal.role in (Role.FINANCE, Role.ADMIN)


def _is_admin(found: SignedIn) -> bool:
    return found.principal is not None and found.principal.role is Role.ADMIN


def set_icon() -> None:
    """Before the navigation, which would make the page's symbol the icon, from another host."""
    st.set_page_config(page_icon=str(_ICON))


def set_page(title: str, *, wide: bool) -> None:
    """Title and layout, once per run: two layouts in one run race in the browser."""
    st.set_page_config(page_title=f"{title} · {PRODUCT}", layout="wide" if wide else "centered")
    st.logo(str(_LOGO), size="large")


def person(found: SignedIn) -> None:
    """Draw whose session this is, with the balance and the way out, at the top of the sidebar."""
    who = found.who
    with st.sidebar:
        row = st.container(horizontal=True, gap="xsmall", vertical_alignment="center")
        with row.popover(
            plain(who.name or who.email), icon=":material/account_circle:", type="tertiary",
            key="person",
        ):  # fmt: skip
            st.caption(plain(who.email))
            if isinstance(who, Principal):
                st.caption(f"{plain(who.tenant_name)} · {who.role} · {who.plan}")
            if st.button("Sign out", icon=":material/logout:", key="sign_out", width="stretch"):
                exchange.sign_out()
        row.space("stretch")
        with row:
            inbox.draw(found.operator or who)
        if isinstance(who, Principal):
            with row:
                purse.balance(who)
