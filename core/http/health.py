"""GET /livez, /readyz and /metrics: does the process live, could it charge and record, in time; counts.

Metrics hold no content, and are for whoever has METRICS_TOKEN. Without one they are closed, but in
development to programs of this machine that come through no proxy.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from core import clock, db, errors, schema, settings, telemetry
from core.billing import stripe_api
from core.chat import engine
from core.http import problems, proxies
from core.settings import SettingsRefused

_ASK_AGAIN_AFTER_S = 1.0
_PATIENCE_S = 0.6  # so that a probe is answered within a second, whatever the database does
_STATEMENT_MS = 500
# Commits a record to the write-ahead log: fails on a standby, read-only, or with a full disk.
_WRITE = "select pg_logical_emit_message(true, 'purser', 'ready')"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Last:
    """The last answer, so that a crowd of probes costs the database one write a second."""

    checks: dict[str, bool] | None = None
    asking: asyncio.Future[tuple[bool, bool]] | None = None
    at: float = 0.0


_last = _Last()


async def livez(_request: Request) -> Response:
    """The process answers; nothing else is asked."""
    return problems.as_json({"status": "ok"})


async def readyz(_request: Request) -> Response:
    """200 when calls can be charged, decrypted and recorded; else 503 naming what cannot."""
    now = time.monotonic()
    if _last.checks is None or now - _last.at > _ASK_AGAIN_AFTER_S:
        _last.checks, _last.at = await _checks(), now
    is_ready = all(_last.checks.values())
    shown = {name: "ok" if passed else "failed" for name, passed in _last.checks.items()}
    return problems.as_json(
        {"status": "ok" if is_ready else "unavailable", "checks": shown},
        status=200 if is_ready else 503,
    )


async def metrics(request: Request) -> Response:
    """The counters in Prometheus' text form. Raises NotFound for whoever may not read them."""
    if not _may_read(request):
        raise errors.NotFound("There is nothing here.")
    return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)


async def _checks() -> dict[str, bool]:
    checks = {"engine": False, "database": False, "migrations": False, "keyring": _has_keys()}
    if stripe_api.configured():
        checks["stripe"] = bool(stripe_api.current().webhook_secrets)
    try:
        checks["engine"] = not engine.current().draining
        checks["database"], checks["migrations"] = await _within_patience()
        checks["clock"] = not clock.is_apart()
    except (errors.Unavailable, TimeoutError):
        pass
    except DBAPIError as error:
        log.warning("health.database", error=type(error).__name__)
    return checks


async def _within_patience() -> tuple[bool, bool]:
    """What the database says. Raises TimeoutError for one that takes longer than a probe waits, and
    while the thread is still stuck with the question before."""
    loop = asyncio.get_running_loop()
    if _last.asking is None or _last.asking.done():
        _last.asking = loop.run_in_executor(_thread(), _database)
        _last.asking.add_done_callback(_forget)
    return await asyncio.wait_for(asyncio.shield(_last.asking), _PATIENCE_S)


def _database() -> tuple[bool, bool]:
    """Whether a write is committed, and whether the schema is this code's."""
    with Session(_engine(db.current().jobs_url)) as session, session.begin():
        session.execute(text(f"set local role {db.JOBS}"))
        session.execute(text(f"set local statement_timeout = {_STATEMENT_MS}"))
        session.execute(text(_WRITE))
        clock.compare(session)
        is_at_head = schema.at_head(session.connection())
    return True, is_at_head


@lru_cache(maxsize=1)
def _engine(url: str) -> Engine:
    """A connection for probes alone: none of the others' work can take it."""
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0,
        pool_pre_ping=True, connect_args={"connect_timeout": 2, "prepare_threshold": None},
    )  # fmt: skip


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="purser-probe")


def _forget(asking: asyncio.Future[tuple[bool, bool]]) -> None:
    if not asking.cancelled():
        asking.exception()


def _has_keys() -> bool:
    try:
        return bool(settings.current().signing_key())
    except SettingsRefused:
        return False


def _may_read(request: Request) -> bool:
    configured = settings.current()
    if configured.metrics_token is not None:
        expected = f"Bearer {configured.metrics_token.get_secret_value()}".encode()
        given = request.headers.get("authorization", "").encode("latin1", "replace")
        return hmac.compare_digest(given, expected)
    is_direct = configured.development and not proxies.is_forwarded(request.scope)
    return is_direct and _is_loopback(request.client.host if request.client else "")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)
