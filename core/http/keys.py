"""Takes the API key from `Authorization: Bearer` and nowhere else, and says whose it is. Never logs or
echoes it.

A key is looked up before a byte of the body is read. For some seconds a key that was valid is not
looked up again just for that: whoever acts on it resolves it anew in any case.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from core import crypto, errors
from core.chat import engine
from core.errors import NotSignedIn
from core.http.rates import Rates
from core.identity.keys import START
from core.quota import standing
from core.quota.standing import Standing

_LENGTH_MAX = 100
_OTHER_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
_QUERY_NAMES = ("api_key", "api-key", "key", "access_token")
_KNOWN_S = 10.0
_KNOWN_MAX = 10_000
_STRANGERS_PER_MINUTE = 120
_REQUESTS_PER_MINUTE = 240
_REQUESTS_AT_ONCE = 60


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key a request bears. What it may do is resolved where it does it."""

    tenant_id: UUID
    key_id: UUID
    until: float


_known: dict[bytes, Caller] = {}
_asking: dict[bytes, asyncio.Task[Standing]] = {}
_strangers = Rates(_STRANGERS_PER_MINUTE, at_once=_STRANGERS_PER_MINUTE)
_requests = Rates(_REQUESTS_PER_MINUTE, at_once=_REQUESTS_AT_ONCE)


def bearer(request: Request) -> str:
    """The presented key. Raises NotSignedIn for none, a malformed one, or two that differ.

    A key elsewhere (another header, the URL) never counts, but must not contradict this one.
    """
    presented = {_secret(value) for value in request.headers.getlist("authorization")}
    elsewhere = {value for name in _OTHER_HEADERS for value in request.headers.getlist(name)}
    if request.url.query:
        elsewhere |= {v for name in _QUERY_NAMES for v in request.query_params.getlist(name)}
    if len(presented) != 1 or elsewhere - presented:
        raise _refusal()
    secret = presented.pop()
    if not secret.startswith(START) or len(secret) > _LENGTH_MAX or not secret.isascii():
        raise _refusal()
    return secret


async def caller(request: Request) -> Caller:
    """Whose key it is. Raises NotSignedIn, and RateLimited where too many unknown keys came from there.

    One lookup, whatever is wrong with the key.
    """
    secret = bearer(request)
    digest = crypto.token_hash(secret)
    if (known := _known.get(digest)) is not None and known.until > time.monotonic():
        return known
    address = _public_address(request)
    if address is not None and (wait_s := _strangers.wait_s(address)):
        raise _limited("unknown_keys", "address", _STRANGERS_PER_MINUTE, wait_s)
    try:
        found = await _looked_up(digest, secret)
    except NotSignedIn:
        if address is not None:
            _strangers.take(address)
        raise
    if found.key_id is None:
        raise _refusal()
    _forget_some()
    _known[digest] = made = Caller(found.tenant_id, found.key_id, time.monotonic() + _KNOWN_S)
    return made


async def _looked_up(digest: bytes, secret: str) -> Standing:
    """Resolve a key; those who ask for the same one meanwhile share the answer."""
    asking = _asking.get(digest)
    if asking is None:
        admission = engine.current().admit(("key", digest), standing.of_key, secret, None)
        _asking[digest] = asking = asyncio.ensure_future(admission)
        asking.add_done_callback(lambda _: _asking.pop(digest, None))
    return await asyncio.shield(asking)


def require_rate(who: Caller) -> None:
    """Count a request that is no call against its key. Raises errors.RateLimited."""
    if wait_s := _requests.take(who.key_id):
        raise _limited("api_requests_per_minute", "key", _REQUESTS_PER_MINUTE, wait_s)


def _forget_some() -> None:
    if len(_known) >= _KNOWN_MAX:
        now = time.monotonic()
        for digest in [digest for digest, one in _known.items() if one.until <= now]:
            del _known[digest]
    if len(_known) >= _KNOWN_MAX:
        _known.clear()


def _public_address(request: Request) -> str | None:
    """The client's address; None for private ones, behind which anybody may be."""
    host = request.client.host if request.client else ""
    try:
        return host if ipaddress.ip_address(host).is_global else None
    except ValueError:
        return None


def _limited(limit: str, scope: str, maximum: int, wait_s: int) -> errors.RateLimited:
    return errors.RateLimited(
        "Too many requests. Please wait a moment.", limit=limit, scope=scope, used=str(maximum),
        maximum=str(maximum), retry_after_s=wait_s,
    )  # fmt: skip


def _secret(header: str) -> str:
    scheme, _, secret = header.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _refusal() -> NotSignedIn:
    return NotSignedIn("The API key is not valid.")
