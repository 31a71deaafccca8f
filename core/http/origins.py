"""Tells whether a request is for this very host, and whether a browser's comes from a page of it.
Refuses what is not: a stranger's name that was led to our address (DNS rebinding) ends here."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from core import errors, settings
from core.http.problems import Misdirected

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def require_own_host(connection: HTTPConnection) -> None:
    """Raise unless the one Host header names this server: APP_URL's name or one of ALLOWED_HOSTS.

    Loopback names are its own in development, and where APP_URL is one of them.
    """
    hosts = connection.headers.getlist("host")
    if len(hosts) != 1:
        raise errors.BadInput("A request must name its host once.")
    configured = settings.current()
    own = configured.hosts() | {_name(urlsplit(configured.app_url).netloc)}
    if configured.development or own & _LOOPBACK:
        own |= _LOOPBACK
    if _name(hosts[0]) not in own:
        raise Misdirected("This server does not serve the host that was asked for.")


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


def _name(host: str) -> str:
    """A host without its port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()
