"""A small driver for Streamlit's websocket: opens a page like a browser tab and reruns it.

It reads the protocol with Streamlit's own protobuf classes, draws nothing, and leaves the page's
self-repeating fragments alone.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from benchmarks.quantiles import Quantiles, quantiles

RUN_TIMEOUT_S = 30.0
WARM_UP_RERUNS = 3


class PageError(RuntimeError):
    """The page drew an exception."""


@dataclass(frozen=True, slots=True)
class ChatVisit:
    """Where a chat page is and who looks at it: `url` is the app's root, `page` the page's url
    path, `query` what follows the `?`, `cookie` a `name=value` or nothing."""

    url: str
    page: str = ""
    query: str = ""
    cookie: str = ""


def rerun_ms(visit: ChatVisit, reruns: int) -> Quantiles:
    """How long plain reruns of the page take, from request to the end of the script, one tab."""
    return asyncio.run(_rerun_ms(visit, reruns))


async def _rerun_ms(visit: ChatVisit, reruns: int) -> Quantiles:
    address = urlsplit(visit.url)
    async with connect(
        f"ws://{address.netloc}/_stcore/stream",
        origin=Origin(f"http://{address.netloc}"),
        additional_headers={"Cookie": visit.cookie} if visit.cookie else {},
        subprotocols=[Subprotocol("streamlit")],
        max_size=None,
    ) as socket:
        tab = _Tab(socket, visit)
        for _ in range(1 + WARM_UP_RERUNS):
            await tab.rerun()
        return quantiles([await tab.rerun() for _ in range(reruns)], 1000)


class _Tab:
    """What a browser remembers between two runs: the page's hash and the cached messages."""

    def __init__(self, socket: ClientConnection, visit: ChatVisit) -> None:
        self._socket, self._visit = socket, visit
        self._page_hash = ""
        self._cached: set[str] = set()

    async def rerun(self) -> float:
        """Seconds from asking for a full run to the end of that run."""
        started = time.perf_counter()
        await self._socket.send(self._request())
        async with asyncio.timeout(RUN_TIMEOUT_S):
            await self._until_finished()
        return time.perf_counter() - started

    def _request(self) -> bytes:
        message = BackMsg()
        state = message.rerun_script
        state.query_string = self._visit.query
        state.page_name = self._visit.page
        state.page_script_hash = self._page_hash
        state.cached_message_hashes.extend(self._cached)
        state.context_info.timezone = "UTC"
        state.context_info.locale = "en-US"
        state.widget_states.SetInParent()
        return bytes(message.SerializeToString())

    async def _until_finished(self) -> None:
        """Read on to the end of the full run whose beginning was seen here: what is left of an
        earlier run, or of a fragment's, does not count."""
        run_id = ""
        while True:
            message = ForwardMsg.FromString(await self._socket.recv(decode=False))
            run = message.metadata.run
            kind = message.WhichOneof("type")
            if message.metadata.cacheable and message.hash:
                self._cached.add(message.hash)
            if kind == "new_session" and not run.fragment_ids:
                run_id = run.script_run_id
                self._page_hash = message.new_session.page_script_hash
            elif kind == "navigation":
                self._page_hash = message.navigation.page_script_hash or self._page_hash
            elif kind == "delta":
                _refuse_exception(message)
            elif kind == "script_finished" and run_id and run.script_run_id == run_id:
                if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                    raise PageError("the page does not compile")
                if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    return


def _refuse_exception(message: ForwardMsg) -> None:
    element = message.delta.new_element
    if element.WhichOneof("type") == "exception":
        raise PageError(f"the page drew a {element.exception.type}")
