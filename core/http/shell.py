"""The one HTML page that carries all pages: Streamlit's own, told where its server is.

Without that, its script looks for the server below each deep link first, and the browser's console
complains of every miss. Answers pages only; files and sockets are Streamlit's.
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

_PAGE_PATH = re.compile(r"/[A-Za-z0-9_-]*")
_TELL = "<script>window.__streamlit = {BACKEND_BASE_URL: window.location.origin}</script>"


class Shell:
    """The page as it is served; `html` is also what the content policy is made from."""

    def __init__(self, streamlit_html: str) -> None:
        self.html = streamlit_html.replace("<head>", f"<head>{_TELL}", 1)

    def answers(self, path: str, method: str) -> bool:
        """Whether this is a page: one plain word, asked for by a browser."""
        return method in {"GET", "HEAD"} and _PAGE_PATH.fullmatch(path) is not None

    async def page(self, _request: Request) -> Response:
        """The page itself; it holds nothing of anybody, and is asked for anew each time."""
        return Response(self.html, media_type="text/html", headers={"cache-control": "no-cache"})
