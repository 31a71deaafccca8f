"""The embedded Postgres: a real server in the data folder, for when no DATABASE_URL is set.

A keeper process holds it, so that it is stopped even when this process is killed. It never
touches a server that the keeper did not start or join.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import platformdirs

_STOP_TIMEOUT_S = 30


class EmbeddedServer:
    """The embedded server as this process holds it; `url` is its address (owner, local only)."""

    def __init__(self, keeper: subprocess.Popen[str], url: str) -> None:
        self._keeper, self.url = keeper, url

    def url_of(self, role: str) -> str:
        """Its address for a login as `role`, once the migrations made that role."""
        return self.url.replace("//postgres:", f"//{role}:", 1)

    def stop(self) -> None:
        """Leave the server; the last process to leave stops it."""
        if self._keeper.stdin and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
        self._keeper.wait(_STOP_TIMEOUT_S)


class EmbeddedServerFailed(Exception):
    """The embedded server did not come up."""


def start(data_dir: Path) -> EmbeddedServer:
    """Start (or join) the server in `data_dir`; safe when several processes do so at once."""
    # Without this directory the package locks one file in /tmp for all users of the machine.
    with warnings.catch_warnings(action="ignore"):  # that XDG_RUNTIME_DIR is not set is no news
        platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
    folder = data_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    keeper = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "core.postgres_keeper", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    url = keeper.stdout.readline().strip() if keeper.stdout else ""
    if not url:
        raise EmbeddedServerFailed(
            f"the embedded Postgres did not start; see {folder / 'pg' / 'log'}"
        )
    return EmbeddedServer(keeper, url)
