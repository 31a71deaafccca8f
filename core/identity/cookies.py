"""The cookies we set, by name, and the one that a browser keeps to be known again. On https their names
begin with `__Host-`: then no other host of the domain, and no plain page, can have set them."""

from __future__ import annotations

import hmac
import secrets

from core import clock, settings
from core.crypto import keyed_hash

SESSION = "purser_session"
KNOWN = "purser_known"
KNOWN_S = 180 * 24 * 3600  # the cookie's Max-Age; set anew at each sign-in
_LENGTH_MAX = 200


def named(name: str) -> str:
    """The cookie's name as it is sent, by the scheme of APP_URL."""
    return f"__Host-{name}" if is_https() else name


def is_https() -> bool:
    """Whether people open this server over https."""
    return settings.current().app_url.startswith("https://")


def issue_known(email: str) -> str:
    """What a browser keeps in which somebody signed in with this e-mail. It opens nothing: it only keeps
    strangers' wrong passwords from locking the person out here."""
    issued = f"{secrets.token_hex(16)}.{int(clock.time_s())}"
    return f"{issued}.{_signature(issued, email)}"


def known(cookie: str | None, email: str) -> str | None:
    """The browser's own id, when somebody signed in with this e-mail there within half a year."""
    if cookie is None or not len(cookie) <= _LENGTH_MAX or not cookie.isascii():
        return None
    browser, _, rest = cookie.partition(".")
    at, _, signature = rest.partition(".")
    if not hmac.compare_digest(signature, _signature(f"{browser}.{at}", email)):
        return None
    return browser if clock.time_s() - int(at) <= KNOWN_S else None


def _signature(issued: str, email: str) -> str:
    return keyed_hash("known_browser", f"{issued} {email.strip().lower()}").hex()
