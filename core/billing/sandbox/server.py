"""The stand-in for Stripe as a running server: a loopback port of its own, and its sender.

It refuses to listen on any other address, and it never moves money.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from core.billing.sandbox import (
    catalogue,
    clockwork,
    desk_page,
    edge,
    invoice_page,
    pay_page,
    portal_page,
    sender,
)
from core.billing.sandbox.control import Control
from core.billing.sandbox.wires import Wire
from core.billing.sandbox.world import World, open_world

_LOOPBACK = "127.0.0.1"
_PAUSE_S = 0.25
_HEARD_WITHIN_S = 20


class Server:
    """A running stand-in; `url` is its base URL, `control` orders what no API offers."""

    def __init__(self, world: World, listener: socket.socket) -> None:
        self.url = f"http://{_LOOPBACK}:{listener.getsockname()[1]}"
        self.world = world
        self.control = Control(world)
        world.base_url = self.url
        config = uvicorn.Config(
            application(self.control), access_log=False, lifespan="off", log_config=None,
            timeout_graceful_shutdown=1, ws="none", http=Wire,
        )  # fmt: skip
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        self._sending: asyncio.Task[None] | None = None

    async def wait_until_started(self) -> None:
        while not (self._server.started or self._serving.done()):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
        if self._serving.done():
            await self._serving

    def send_to(self, webhook_url: str) -> None:
        """From now on tell this address of every event."""
        self._sending = asyncio.create_task(_send(self.world, webhook_url))

    async def close(self) -> None:
        """Stop telling and listening, within about a second."""
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
        self._server.should_exit = True
        await self._serving


async def serve(
    *, state_file: Path | None, webhook_url: str | None, webhook_secret: str, port: int = 0
) -> Server:
    """Start the stand-in on the running loop; port 0 takes any free one.

    Its state is read from `state_file` and kept there. Without a `webhook_url` nothing is sent:
    a test pumps events itself. Raises OSError where the port is taken.
    """
    listener = socket.create_server((_LOOPBACK, port))
    # what is accepted has it from here; asyncio sets it on its own sockets only, and an answer in two
    # writes waits 40 ms without
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    world = open_world(state_file, (webhook_secret,))
    running = Server(world, listener)
    with world.changing():
        catalogue.seed(world)
        _move_pages(world)
    await running.wait_until_started()
    if webhook_url is not None:
        running.send_to(webhook_url)
    return running


def application(control: Control) -> Starlette:
    """The API, the pages and the desk as one ASGI application."""
    world = control.world
    return Starlette(
        routes=[
            *edge.routes(world), *pay_page.routes(world), *invoice_page.routes(world),
            *portal_page.routes(world), *desk_page.routes(control),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[_LOOPBACK, "localhost"])],
    )  # fmt: skip


class _Server(uvicorn.Server):
    """Leaves the process's signals to the application it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _move_pages(world: World) -> None:
    """Pages opened before a restart are found at the port of today."""
    for session in world.store.where("checkout.session", status="open"):
        session["url"] = f"{world.base_url}/pay/{session['id']}"
    for invoice in world.store.all("invoice"):
        if invoice["hosted_invoice_url"]:
            invoice["hosted_invoice_url"] = f"{world.base_url}/invoice/{invoice['id']}"


async def _send(world: World, webhook_url: str) -> None:
    """Tell of events one after the other, for ever; time passes meanwhile."""
    async with httpx2.AsyncClient(timeout=_HEARD_WITHIN_S, trust_env=False, verify=False) as client:
        while True:
            with world.lock:
                if clockwork.run_due(world):
                    world.store.save()
                letters = sender.due(world)
            for letter in letters:
                is_heard = await _tell(client, webhook_url, letter, world.secrets)
                with world.changing():
                    (sender.heard if is_heard else sender.failed)(world, letter.event_id)
            await asyncio.sleep(_PAUSE_S)


async def _tell(
    client: httpx2.AsyncClient, url: str, letter: sender.Letter, secrets: tuple[str, ...]
) -> bool:
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": sender.sign(letter.raw, secrets),
    }
    try:
        answer = await client.post(url, content=letter.raw, headers=headers)
    except httpx2.HTTPError:
        return False
    return 200 <= answer.status_code < 300
