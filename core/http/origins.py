"""Tells whether a browser's request comes from a page of this very host. Refuses what does not."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from core import errors, settings

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_foreign(connection: HTTPConnection) -> bool:
    """Whether a page of another host asks. Without an Origin nobody's page does: not foreign."""
    origins = connection.headers.getlist("origin")
    return any(not _is_own(origin, connection) for origin in origins)


def require_own(connection: HTTPConnection) -> None:
    """Raise Forbidden unless the request says that a page of this host made it."""
    if not connection.headers.get("origin") or is_foreign(connection):
        raise errors.Forbidden("Only this site's own pages may do this.")


def _is_own(origin: str, connection: HTTPConnection) -> bool:
    """The Host header's name, or APP_URL's: a proxy may pass another Host on."""
    asked = _place(origin)
    hosts = connection.headers.getlist("host")
    if asked is None or len(hosts) != 1:
        return False
    scheme, place = asked
    own = hosts[0].lower().removesuffix(_DEFAULT_PORTS[scheme])
    return place == own or asked == _place(settings.current().app_url)


def _place(url: str) -> tuple[str, str] | None:
    """Scheme and host with its port, where the URL has both; the scheme's own port left out."""
    try:
        parts = urlsplit(url.lower())
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc or "@" in parts.netloc:
        return None
    return parts.scheme, parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])
