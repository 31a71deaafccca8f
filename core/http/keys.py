"""Takes the API key from `Authorization: Bearer` and nowhere else. Never logs or echoes it."""

from __future__ import annotations

from starlette.requests import Request

from core.errors import NotSignedIn
from core.identity.keys import START

_LENGTH_MAX = 100
_OTHER_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
_QUERY_NAMES = ("api_key", "api-key", "key", "access_token")


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


def _secret(header: str) -> str:
    scheme, _, secret = header.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _refusal() -> NotSignedIn:
    return NotSignedIn("The API key is not valid.")
