"""POST and DELETE /session: a one-time ticket becomes a cookie no script can read, and ends.

Only pages of this very host may ask; a websocket cannot set cookies, hence a route of its own.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from core import errors, settings
from core.chat import engine
from core.http import bodies, origins, problems
from core.identity import sessions

COOKIE = "purser_session"
_TICKET_LENGTH_MAX = 200


async def sign_in(request: Request) -> Response:
    """Exchange the ticket in the body for a session cookie. Raises NotSignedIn for a spent one."""
    origins.require_own(request)
    raw = await bodies.read(request, length_max=_TICKET_LENGTH_MAX)
    address = request.client.host if request.client else None
    token = await engine.current().sql(
        sessions.redeem, raw.decode("ascii", "replace").strip(), address,
        request.headers.get("user-agent"),
    )  # fmt: skip
    if token is None:
        raise errors.NotSignedIn("This sign-in has expired. Please sign in again.")
    response = _empty()
    response.set_cookie(
        COOKIE, token, max_age=sessions.SESSION_S, path="/", secure=_is_https(request),
        httponly=True, samesite="lax",
    )  # fmt: skip
    return response


async def sign_out(request: Request) -> Response:
    """End the cookie's session, if it still lives, and take the cookie back."""
    origins.require_own(request)
    await engine.current().sql(sessions.end, request.cookies.get(COOKIE))
    response = _empty()
    response.delete_cookie(
        COOKIE, path="/", secure=_is_https(request), httponly=True, samesite="lax"
    )
    return response


def _empty() -> Response:
    return Response(None, 204, {"cache-control": problems.NO_STORE})


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https" or settings.current().app_url.startswith("https://")
