"""Which Stripe this process sells through: the real one with a key, the stand-in in development, or
none. The stand-in keeps its port and its books in the data folder, so a restart loses no order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import fasteners

from core import db, jobs, telemetry
from core.billing import offers, sandbox, stripe_api
from core.billing.ledger import BILLING
from core.billing.stripe_api import StripeApi
from core.settings import Settings

_SANDBOX_KEY = "sk_test_sandbox"
_LOOPBACK = "http://127.0.0.1"


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[None]:
    """Install the Stripe of a web process for the block, running the stand-in where it is used.

    What is for sale is made known to it by a job.
    """
    async with _stand_in_where_used(settings):
        with connected(settings):
            if stripe_api.configured():
                await asyncio.to_thread(_mirror)
            yield


@asynccontextmanager
async def _stand_in_where_used(settings: Settings) -> AsyncIterator[None]:
    if settings.stripe_secret_key is not None or not settings.development:
        yield
        return
    folder = _folder(settings)
    lock = fasteners.InterProcessLock(folder / "serving.lock")
    if not lock.acquire(blocking=False):  # another web process of this data folder runs it
        yield
        return
    try:
        server = await _serve(settings, folder)
        try:
            yield
        finally:
            await server.close()
    finally:
        lock.release()


async def _serve(settings: Settings, folder: Path) -> sandbox.Server:
    """The stand-in, on the port it had where nobody else has taken that meanwhile."""
    serve = partial(
        sandbox.serve, state_file=folder / "books.json",
        webhook_url=f"{settings.app_url}/stripe/webhook", webhook_secret=settings.sandbox_secret(),
    )  # fmt: skip
    try:
        server = await serve(port=_last_port(folder))
    except OSError:
        server = await serve(port=0)
    (folder / "port").write_text(server.url.rpartition(":")[2])
    return server


@contextmanager
def connected(settings: Settings) -> Iterator[None]:
    """Install the Stripe of any process for the block: for jobs and commands the stand-in is the one
    that the web process runs. Nothing is installed where nothing is sold."""
    api = _real(settings) or (_stand_in(settings) if settings.development else None)
    stripe_api.install(api)
    try:
        yield
    finally:
        stripe_api.install(None)


def _mirror() -> None:
    with db.transaction(BILLING) as session:
        jobs.defer(session, offers.MIRROR)


def _real(settings: Settings) -> StripeApi | None:
    if settings.stripe_secret_key is None:
        return None
    secrets = settings.webhook_secrets()
    if not secrets:  # paid orders would be found by the hourly reconciler only
        telemetry.alarm("stripe_without_webhook_secret")
    key = settings.stripe_secret_key.get_secret_value()
    return StripeApi(key, base=settings.stripe_api_base, webhook_secrets=secrets)


def _stand_in(settings: Settings) -> StripeApi | None:
    port = _last_port(_folder(settings))
    if not port:
        return None
    return StripeApi(
        _SANDBOX_KEY, base=f"{_LOOPBACK}:{port}", webhook_secrets=(settings.sandbox_secret(),),
        sandbox=True,
    )  # fmt: skip


def _folder(settings: Settings) -> Path:
    folder = settings.purser_data_dir / "stripe_sandbox"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _last_port(folder: Path) -> int:
    """The port the stand-in had, so that links to its pages live on; 0 lets the system choose."""
    port = folder / "port"
    return int(port.read_text()) if port.exists() and port.read_text().isdecimal() else 0
