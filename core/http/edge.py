"""The outermost layer: request ids, security headers, refusals in one shape, and our own routes.

Pure ASGI, so that it sees websockets too. It answers our routes before the pages' own layers, which
look at every chunk, and refuses a foreign host or page before Streamlit hears of it. Sockets of
sessions that have ended are closed.
"""

from __future__ import annotations

import structlog
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import errors, settings, telemetry
from core.http import bodies, origins, problems, proxies, routes
from core.http.headers import Headers, SecurityHeaders
from core.http.problems import LengthRequired
from core.http.shell import Shell
from core.http.sockets import Sockets

_UPLOAD = "/_stcore/upload_file"
_HIDDEN = ("/_stcore/metrics", "/_stcore/agent", "/_stcore/script-health-check")
_POLICY_VIOLATION = 1008

log = structlog.get_logger(__name__)


class Edge:
    """Wraps the pages' application."""

    def __init__(self, app: ASGIApp, headers: SecurityHeaders, shell: Shell | None = None) -> None:
        self._app, self._headers, self._shell = app, headers, shell
        self._sockets = Sockets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer our own routes; let the pages answer the rest."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        proxies.believe(scope, settings.current().proxies())
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif _is_own_page(HTTPConnection(scope)):
            await self._sockets.serve(self._app, scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, is_ours = scope["path"], routes.is_ours(scope["path"])
        added = self._added(scope, is_ours=is_ours)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            origins.require_own_host(HTTPConnection(scope))
            if is_ours:
                request = Request(scope, receive)
                answer = await routes.find(path, scope["method"])(request)
            elif self._shell and self._shell.answers(path, scope["method"]):
                answer = await self._shell.page(Request(scope))
            else:
                _require_page_request(Request(scope))
                answer = self._app
            await answer(scope, receive, sending)
            return
        except errors.Refusal as known:
            refusal = known
        except Exception:  # the edge: whatever broke is logged without its text, and answered
            log.exception("http.failed", path=_known(path), method=scope["method"])
            refusal = problems.UNEXPECTED
        if not begun:  # else the connection closes in mid-answer, which tells the client enough
            await problems.response(refusal)(scope, receive, sending)

    def _added(self, scope: Scope, *, is_ours: bool) -> Headers:
        """What this answer's headers get besides their own."""
        scheme = scope.get("scheme", "http")
        if is_ours:
            added = self._headers.of_api(scheme)
        else:
            host = next((value for name, value in scope["headers"] if name == b"host"), b"")
            added = self._headers.of_page(host, scheme)
        return [*added, (b"x-request-id", telemetry.new_request_id().encode())]


def _is_own_page(connection: HTTPConnection) -> bool:
    """Whether a socket may be opened. The handshake of one that may not is refused with 403."""
    try:
        origins.require_own_host(connection)
    except errors.Refusal:
        return False
    return not origins.is_foreign(connection)


def _require_page_request(request: Request) -> None:
    """Refuse what Streamlit should not see: its hidden routes, foreign and boundless uploads."""
    path = request.scope["path"]
    if path.startswith(_HIDDEN):
        raise errors.NotFound("There is nothing here.")
    if not path.startswith(_UPLOAD) or request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    if origins.is_foreign(request):
        raise errors.Forbidden("Only this site's own pages may upload.")
    length = request.headers.get("content-length", "")
    if request.method != "DELETE" and not length.isdecimal():
        raise LengthRequired("An upload must say its length.")
    if length.isdecimal() and int(length[:15]) > bodies.LENGTH_MAX:
        raise errors.TooLarge("The file is larger than 20 MB.")


def _known(path: str) -> str:
    """A path as it may be logged: a stranger can write anything into one."""
    return path if routes.is_ours(path) and len(path) < 100 else "other"
