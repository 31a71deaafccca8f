"""One element of the browser that trades a sign-in ticket for the session cookie, or gives the
session back: a page's own connection can set no cookie. It keeps nothing."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Literal

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_HTML = "<p role='status'></p>"
_CSS = "p { font-family: var(--st-font); color: var(--st-text-color); opacity: .7; margin: 0; }"
_JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const line = parentElement.querySelector('p')
  if (line.dataset.sent === data.nonce) return
  line.dataset.sent = data.nonce
  line.textContent = data.words
  const fail = () => setTriggerValue('failed', data.nonce)
  const body = data.ticket ?? undefined
  fetch('/session', { method: data.method, body, credentials: 'same-origin' })
    .then(answer => answer.ok ? location.replace(data.to ?? location.href) : fail())
    .catch(fail)
}
"""


def sign_in(ticket: str, *, to: str | None = None) -> None:
    """Have the browser open the session of `ticket` and load the page it asked for anew, or `to`."""
    _exchange("POST", "Signing in …", ticket=ticket, to=to)


def sign_out() -> None:
    """Have the browser end its session and go to the first page."""
    _exchange("DELETE", "Signing out …", to="/")


def _exchange(
    method: Literal["POST", "DELETE"],
    words: str,
    *,
    ticket: str | None = None,
    to: str | None = None,
) -> None:
    result = _element()(
        key=f"exchange_{method.lower()}",
        data={
            "method": method, "ticket": ticket, "words": words, "to": to,
            "nonce": secrets.token_hex(8),
        },
        on_failed_change=lambda: None,
    )  # fmt: skip
    if result.failed:
        st.error("The browser could not reach the server. Please try again.")


@cache
def _element() -> ComponentRenderer:
    return st.components.v2.component("purser_exchange", html=_HTML, css=_CSS, js=_JS)
