"""Sends this very tab to one of the payment provider's pages, and links to them. It goes nowhere else:
an address is checked against the provider's own origins before a browser hears of it."""

from __future__ import annotations

import secrets
from functools import cache
from urllib.parse import urlsplit

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer
from streamlit.delta_generator import DeltaGenerator

from core.billing import stripe_api

_HTML = "<p role='status'></p>"
_CSS = "p { font-family: var(--st-font); color: var(--st-text-color); opacity: .7; margin: 0; }"
_JS = """
export default function ({ data, parentElement }) {
  const line = parentElement.querySelector('p')
  if (line.dataset.sent === data.nonce) return
  line.dataset.sent = data.nonce
  line.textContent = data.words
  window.location.assign(data.url)
}
"""


def is_allowed(url: str | None) -> bool:
    """Whether an address is a page of the payment provider this process buys through."""
    if not url or not stripe_api.configured() or any(sign <= " " or sign == "\\" for sign in url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return f"{parts.scheme}://{parts.netloc}" in stripe_api.current().page_origins()


def go(slot: DeltaGenerator, url: str | None, words: str) -> None:
    """Have the browser leave for `url`, with a link for when it does not. `words`: where it goes."""
    if url is None or not is_allowed(url):
        slot.error("This page cannot be opened. Please try again.", icon=":material/error:")
        return
    with slot.container(border=True):
        _element()(
            key="redirect",
            data={"url": url, "words": f"{words} …", "nonce": secrets.token_hex(8)},
        )
        st.link_button("Continue", url, icon=":material/open_in_new:", key="redirect_link")


def link(label: str, url: str | None, *, key: str, icon: str = ":material/open_in_new:") -> None:
    """A link to one of the provider's pages; nothing for any other address."""
    if url is not None and is_allowed(url):
        st.link_button(label, url, icon=icon, key=key)


@cache
def _element() -> ComponentRenderer:
    return st.components.v2.component("purser_redirect", html=_HTML, css=_CSS, js=_JS)
