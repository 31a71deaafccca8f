"""Logs as JSON lines, request ids, and the counters Prometheus reads. Never content, never secrets.

Only fields of an allow-list leave the process; anything else is dropped and its name is kept.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from uuid_utils.compat import uuid7

request_id: ContextVar[str] = ContextVar("request_id", default="")
registry = CollectorRegistry()

turns_total = Counter(
    "purser_calls", "Calls by source and outcome", ["source", "outcome"], registry=registry
)
refusals_total = Counter(
    "purser_refusals", "Calls refused at the gate", ["code"], registry=registry
)
first_token_seconds = Histogram(
    "purser_first_token_seconds", "From admission to the provider's first token", registry=registry,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
)  # fmt: skip
open_streams = Gauge("purser_open_streams", "Calls running in this process", registry=registry)
alarms_total = Counter(
    "purser_alarms", "What an operator should look at", ["name"], registry=registry
)
lease_losses_total = Counter(
    "purser_lease_losses", "Calls taken over by the reaper", registry=registry
)

FIELDS = frozenset(
    [
        "alarm",
        "attempts",
        "call_id",
        "code",
        "conversation_id",
        "count",
        "delay_s",
        "duration_ms",
        "error",
        "error_at",
        "event",
        "exception_at",
        "generation_known",
        "job",
        "kind",
        "level",
        "limit",
        "logger",
        "method",
        "model",
        "name",
        "outcome",
        "path",
        "pid",
        "port",
        "process",
        "provider",
        "reason",
        "request_id",
        "role",
        "route",
        "rows",
        "scope",
        "seconds",
        "signal",
        "source",
        "state",
        "status",
        "stop",
        "tenant_id",
        "timestamp",
        "tokens",
        "turn_id",
        "url_host",
        "values",
        "version",
        "amount_nusd",
        "violations",
    ]
)

_SAFE_LIBRARIES = ("uvicorn",)


def new_request_id() -> str:
    """An id for one request or script run, set for everything logged under it."""
    value = uuid7().hex
    request_id.set(value)
    return value


def configure(level: str = "INFO") -> None:
    """Log JSON lines to standard output at `level`; third parties' records go the same way."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_request_id,
        _name_the_error,
        _allowed_only,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared], processor=structlog.processors.JSONRenderer()
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in (
        "httpx2",
        "httpcore2",
        "openai",
        "uvicorn.access",
        "procrastinate",
        "watchdog",
        "alembic",
    ):
        logging.getLogger(noisy).setLevel("WARNING")


def measure(gauge: Gauge, values: Mapping[str, float]) -> None:
    """Set a gauge by its one label, and say so in the log: that of the process of long jobs is read
    by its parent, which is the one that is asked."""
    for label, value in values.items():
        gauge.labels(label).set(value)
    name = next(iter(gauge.describe())).name
    structlog.get_logger("purser.measured").info("measured", name=name, values=dict(values))


def hear(said: Mapping[str, Any], gauges: Mapping[str, Gauge]) -> None:
    """Take over what another process of ours logged: its alarms, and what it measured."""
    if said.get("event") == "alarm":
        alarms_total.labels(name=str(said.get("alarm"))).inc()
    elif said.get("event") == "measured" and (gauge := gauges.get(str(said.get("name")))):
        for label, value in dict(said.get("values") or {}).items():
            gauge.labels(label).set(value)


def alarm(name: str, **fields: object) -> None:
    """Something an operator should look at: counted, and logged as an error."""
    alarms_total.labels(name=name).inc()
    structlog.get_logger("purser.alarm").error("alarm", alarm=name, **fields)


def _with_request_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if value := request_id.get():
        event.setdefault("request_id", value)
    return event


def _name_the_error(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """An exception is named with the place it came from; its text may hold anything and is dropped."""
    info = event.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else None
    if info is True:
        error = sys.exc_info()[1]
    elif isinstance(info, tuple):
        error = info[1]
    if error is not None:
        event["error"] = type(error).__name__
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            event["error_at"] = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
    return event


def _allowed_only(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    dropped = [key for key in event if key not in FIELDS and not key.startswith("_")]
    for key in dropped:
        del event[key]
    return event


def _foreign(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A library's record: who logged it and where; its sentence may hold anything and is dropped."""
    record = event.get("_record")
    if record is not None:
        spoken = (
            record.name.startswith(_SAFE_LIBRARIES)
            and isinstance(record.msg, str)
            and "\n" not in record.msg
        )
        event["event"] = record.msg[:200] if spoken else f"{record.module}:{record.lineno}"
        event["name"] = record.name
        if record.exc_info:
            event["exc_info"] = record.exc_info
    return event
