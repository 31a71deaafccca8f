"""GET /livez, /readyz and /metrics: does the process live, could it charge and record, in time; counts.

Metrics hold no content, and are for whoever has METRICS_TOKEN. Without one they are closed, but in
development to programs of this machine that come through no proxy.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from dataclasses import dataclass

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from starlette.requests import Request
from starlette.responses import Response

from core import clock, db, errors, schema, settings, telemetry
from core.billing import stripe_api
from core.chat import engine
from core.http import problems, proxies
from core.settings import SettingsRefused

_ASK_AGAIN_AFTER_S = 1.0
# Commits a record to the write-ahead log: fails on a standby, read-only, or with a full disk.
_WRITE = "select pg_logical_emit_message(true, 'purser', 'ready')"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Last:
    """The last answer, so that a crowd of probes costs the database one write a second."""

    checks: dict[str, bool] | None = None
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
        running = engine.current()
        checks["engine"] = not running.draining
        checks["database"], checks["migrations"] = await running.sql(_database)
        checks["clock"] = not clock.is_apart()
    except errors.Unavailable:
        pass
    except DatabaseError as error:
        log.warning("health.database", exc_info=error)
    return checks


def _database() -> tuple[bool, bool]:
    """Whether a write is committed, and whether the schema is this code's."""
    with db.transaction(db.System("readiness")) as session:
        session.execute(text(_WRITE))
        clock.compare(session)
        is_at_head = schema.at_head(session.connection())
    return True, is_at_head


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
