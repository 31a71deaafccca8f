"""POST and DELETE /session: a one-time ticket becomes a cookie no script can read, and ends.

Only pages of this very host may ask; a websocket cannot set cookies, hence a route of its own.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from core import errors
from core.http import bodies, origins, problems, work
from core.identity import cookies, sessions
from core.identity.access import SignedIn

_TICKET_LENGTH_MAX = 200


async def sign_in(request: Request) -> Response:
    """Exchange the ticket in the body for a session cookie. Raises NotSignedIn for a spent one."""
    origins.require_own(request)
    address = request.client.host if request.client else None
    with bodies.in_flight("tickets") as share:
        raw = await bodies.read(request, share, length_max=_TICKET_LENGTH_MAX)
    ticket = raw.decode("ascii", "replace").strip()
    token = await work.run(
        ("ticket", ticket), sessions.redeem, ticket, address, request.headers.get("user-agent")
    )
    if token is None:
        raise errors.NotSignedIn("This sign-in has expired. Please sign in again.")
    response = _empty()
    _keep(response, request, cookies.SESSION, token, sessions.SESSION_S)
    if (opened := await work.run(("session", token), sessions.who, token)) is not None:
        mark = cookies.issue_known(opened.who.email)
        _keep(response, request, cookies.KNOWN, mark, cookies.KNOWN_S)
    return response


async def signed_in(request: Request) -> SignedIn | None:
    """Who the request's cookie says asks; None for nobody."""
    cookie = request.cookies.get(cookies.named(cookies.SESSION))
    return await work.run(("session", cookie), sessions.who, cookie)


async def sign_out(request: Request) -> Response:
    """End the cookie's session, if it still lives, and take the cookie back."""
    origins.require_own(request)
    cookie = request.cookies.get(cookies.named(cookies.SESSION))
    await work.run(("session", cookie), sessions.end, cookie)
    response = _empty()
    response.delete_cookie(
        cookies.named(cookies.SESSION),
        path="/",
        secure=_is_https(request),
        httponly=True,
        samesite="lax",
    )
    return response


def _keep(response: Response, request: Request, name: str, value: str, seconds: int) -> None:
    response.set_cookie(
        cookies.named(name), value, max_age=seconds, path="/", secure=_is_https(request),
        httponly=True, samesite="lax",
    )  # fmt: skip


def _empty() -> Response:
    return Response(None, 204, {"cache-control": problems.NO_STORE})


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https" or cookies.is_https()
