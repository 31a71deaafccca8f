"""Starts the servers of a benchmark as processes of their own, and stops exactly those."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import orjson

from benchmarks import fakes

ROOT = Path(__file__).resolve().parent.parent
BARE_CHAT = ROOT / "benchmarks" / "bare_chat.py"
STREAMLIT_OPTIONS = {
    "server.headless": "true",
    "server.address": "127.0.0.1",
    "server.fileWatcherType": "none",
    "runner.postScriptGC": "false",
    "browser.gatherUsageStats": "false",
}
POLL_S = 0.02
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


class StartError(RuntimeError):
    """A server ended, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Server:
    """A started server: `url` ends in `/v1`, `key` is what its clients send."""

    name: str
    url: str
    key: str
    pid: int


@contextmanager
def spawned(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the project's folder, terminated when the block ends, killed if it lingers.

    Its output is kept out of the table, and shown when the block fails with `StartError`.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
        )
        try:
            yield process
        except StartError as error:
            raise StartError(f"{error}\n{_tail(log)}") from error
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, then make it."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running_upstream() -> Iterator[Server]:
    """The fake OpenRouter."""
    port = free_port()
    with spawned([sys.executable, "-m", "benchmarks.upstream", "--port", str(port)]) as process:
        server = Server("direct", f"http://127.0.0.1:{port}/v1", "none", process.pid)
        wait_until_ok(process, f"http://127.0.0.1:{port}/v1/models")
        yield server


@contextmanager
def running_minimal_gateway(dsn: str, upstream_url: str) -> Iterator[Server]:
    """The baseline gateway with its two tables made afresh, once it has served a completion."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.minimal_gateway", "--port", str(port)]
    with spawned([*command, "--dsn", dsn, "--upstream", upstream_url]) as process:
        server = Server("minimal", f"http://127.0.0.1:{port}/v1", "none", process.pid)
        wait_until_served(process, server, fakes.SHORT_MODEL)
        yield server


@contextmanager
def running_bare_chat(upstream_url: str) -> Iterator[str]:
    """The baseline chat page's address; the options are those the product runs with."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(BARE_CHAT)]
    options = {**STREAMLIT_OPTIONS, "server.port": str(port)}
    flags = [f"--{name}={value}" for name, value in options.items()]
    environment = {"BENCH_UPSTREAM_URL": upstream_url, "PYTHONPATH": str(ROOT)}
    with spawned([*command, *flags], environment) as process:
        wait_until_ok(process, f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ok(process: subprocess.Popen[bytes], url: str) -> None:
    """Return once `url` answers 200; `StartError` when the process ends or time runs out."""
    _wait(process, lambda: _status("GET", url), url)


def wait_until_served(process: subprocess.Popen[bytes], server: Server, model: str) -> None:
    """Return once the server has answered one short completion; `StartError` as above."""
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]})
    headers = {"authorization": f"Bearer {server.key}", "content-type": "application/json"}
    url = f"{server.url}/chat/completions"
    _wait(process, lambda: _status("POST", url, body, headers), url)


def _wait(process: subprocess.Popen[bytes], status: Callable[[], int], url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while (last := status()) != http.client.OK:
        if process.poll() is not None:
            raise StartError(f"ended with status {process.returncode} before {url} answered")
        if time.monotonic() > deadline:
            raise StartError(f"{url} never answered 200, at last {last or 'nothing'}")
        time.sleep(POLL_S)


def _status(
    method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> int:
    """The status of one request, 0 when there was no response."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    try:
        connection.request(method, address.path, body, dict(headers or {}))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _tail(log: IO[bytes], size: int = 2000) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - size))
    return log.read().decode("utf-8", "replace")
