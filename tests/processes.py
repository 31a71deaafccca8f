"""The product as a real process, for browser and fault tests: started, asked, stopped, killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent
_START_TIMEOUT_S = 60


def free_port() -> int:
    """A loopback port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class AppProcess:
    """`streamlit run app.py` on a port of its own; `environment` is added to a clean one."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"app-{self.port}.log"
        self.environment = {
            name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}
        } | {
            "APP_ENV": "development",
            "APP_URL": self.url,
            "PURSER_DATA_DIR": str(folder / "data"),
            "PYTHONDONTWRITEBYTECODE": "1",
        } | environment  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start and wait until the process says it is ready to charge and record."""
        output = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(self.port)],
            cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, seconds: float = _START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"the app ended:\n{self.tail()}"
            if self.status("/readyz") == 200:
                return
            time.sleep(0.1)
        raise AssertionError(f"the app did not become ready:\n{self.tail()}")

    def status(self, path: str) -> int:
        """The HTTP status of a GET, 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (urllib.error.URLError, OSError):
            return 0

    def kill(self) -> None:
        """kill -9: no handler, no finally."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, sign: signal.Signals = signal.SIGTERM, seconds: float = 40) -> float:
        """End it as an operator does; returns the seconds it took."""
        assert self.process is not None
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(sign)
            self.process.wait(seconds)
        return time.monotonic() - began

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`python -m core ...` in the same environment."""
        return subprocess.run(
            [sys.executable, "-m", "core", *arguments], cwd=ROOT, env=self.environment, input=stdin,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4_000:]
