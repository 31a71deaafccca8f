"""Who asked, and for which host, where proxies stand in between. What a request's X-Forwarded headers
say is believed from TRUSTED_PROXIES alone; anybody else may write them, a program of this machine too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import uvicorn.config
from starlette.types import Scope

from core.settings import Networks

_FORWARDED = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)
_SCHEMES = {b"http", b"https"}


def leave_to_us() -> None:
    """Switch off the server's own reading of these headers, before it loads the application.

    uvicorn believes every local process (FORWARDED_ALLOW_IPS), and Streamlit passes no setting on.
    """
    setattr(uvicorn.config, "ProxyHeadersMiddleware", _unchanged)  # noqa: B010 - no public name


def believe(scope: Scope, proxies: Networks) -> None:
    """Put into the scope what a trusted proxy says: client, scheme and host.

    A proxy that names no client leaves it unknown (None): its own address is nobody's.
    """
    peer = scope.get("client")
    if not proxies or peer is None or not _is_one(peer[0], proxies):
        return
    clients = [part for line in _values(scope, b"x-forwarded-for") for part in line.split(b",")]
    scope["client"] = _first_stranger(clients, proxies)
    if (scheme := _last(scope, b"x-forwarded-proto")) in _SCHEMES:
        is_socket = scope["type"] == "websocket"
        scope["scheme"] = scheme.replace(b"http", b"ws" if is_socket else b"http").decode()
    if host := _last(scope, b"x-forwarded-host"):
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [*others, (b"host", host)]


def is_forwarded(scope: Scope) -> bool:
    """Whether somebody between says of itself to be a proxy, believed or not."""
    return any(name in _FORWARDED for name, _ in scope["headers"])


def _unchanged(app: Callable[..., object], **_options: object) -> Callable[..., object]:
    return app


def _first_stranger(clients: list[bytes], proxies: Networks) -> tuple[str, int] | None:
    """Each proxy adds whom it heard: the last that is no proxy of ours is the client."""
    for written in reversed(clients):
        address = _address(written.decode("latin1").strip())
        if address is None:
            return None
        if not _is_one(address, proxies):
            return address, 0
    return None


def _address(written: str) -> str | None:
    """An address without the port that some proxies add; None for anything else."""
    if written.startswith("["):
        written = written[1:].partition("]")[0]
    elif written.count(":") == 1:
        written = written.partition(":")[0]
    try:
        return str(ipaddress.ip_address(written))
    except ValueError:
        return None


def _is_one(host: str, proxies: Networks) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in proxies)


def _values(scope: Scope, wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]


def _last(scope: Scope, wanted: bytes) -> bytes:
    """The nearest proxy's word: what stands before it may be the client's own."""
    return b",".join(_values(scope, wanted)).rpartition(b",")[2].strip()
