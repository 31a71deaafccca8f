"""Joins the process: settings, our routes around the pages, the lifespan, and script errors.

Streamlit finds `app` here; the pages' own script is pages/main.py. It decides nothing by itself.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
import structlog
from starlette.middleware import Middleware

from core import settings, telemetry
from core.db import DatabaseRefused
from core.demonstration import script
from core.http import process, proxies
from core.http.edge import Edge
from core.http.headers import SecurityHeaders
from core.http.shell import Shell
from core.postgres import EmbeddedServerFailed
from core.settings import SettingsRefused
from pages.widgets import refusals

# What the first page needs, imported after the first request was served. What tables need comes with
# the first of them.
WARM = ("streamlit_authenticator", "pages.widgets.signin", "pages.widgets.sidebar")
_SHELL = Shell((Path(st.__file__).parent / "static" / "index.html").read_text("utf-8"))

log = structlog.get_logger(__name__)


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any] | None]:
    """Start what the process needs, say where it is, and end it in order."""
    if st.get_option("runner.postScriptGC") is not False:
        sys.exit("runner.postScriptGC must be false: it stops every stream after each click")
    if st.get_option("client.disableDataExport") is not True:
        sys.exit(
            "client.disableDataExport must be true: tables would hand out formulas as they are"
        )
    try:
        async with process.running(settings.current(), warm=WARM):
            sys.stdout.write(_greeting())
            sys.stdout.flush()
            yield None
    except (SettingsRefused, DatabaseRefused, EmbeddedServerFailed) as refusal:
        sys.stderr.write(f"Purser cannot start: {refusal}\n")
        raise


def on_script_error(error: Exception) -> bool:
    """A page broke: say so with an id that is in the log, and show nothing of the error itself."""
    if refusals.on_script_error(error):
        return True
    request_id = telemetry.new_request_id()
    log.error("page.failed", exc_info=error)
    refusals.show_failure(request_id)
    return True


def _greeting() -> str:
    address = st.get_option("server.address") or "localhost"
    host = "localhost" if address in {"0.0.0.0", "127.0.0.1", "::"} else address  # noqa: S104
    ready = f"\nPurser is ready: http://{host}:{st.get_option('server.port')}\n"
    if not settings.current().development:
        return ready
    return (
        f"{ready}Sign in as {script.DEMO_EMAIL} (a team) or {script.OPERATOR_EMAIL} (the operator),"
        f" password {script.PASSWORD}\n\n"
    )


def _settings() -> settings.Settings:
    try:
        return settings.current()
    except SettingsRefused as refusal:
        sys.exit(f"Purser cannot start: {refusal}")


proxies.leave_to_us()
app = st.App(
    "pages/main.py",
    lifespan=lifespan,
    middleware=[Middleware(Edge, headers=SecurityHeaders(_SHELL.html, _settings()), shell=_SHELL)],
    on_script_error=on_script_error,
)
