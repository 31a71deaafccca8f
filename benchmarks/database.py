"""A temporary Postgres cluster for one benchmark run, gone afterwards.

The product's own data folder is never touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from benchmarks.processes import ROOT

STOP_TIMEOUT_S = 30.0


class DatabaseError(RuntimeError):
    """The temporary cluster did not come up."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: `uri` of its maintenance database, `programs` with pgbench and psql."""

    uri: str
    programs: Path

    def create(self, name: str) -> str:
        """A fresh empty database, and its URI."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return urlunsplit(urlsplit(self.uri)._replace(path=f"/{name}"))


@contextmanager
def temporary_cluster() -> Iterator[Cluster]:
    """A cluster in a temporary folder, while the block runs; `DatabaseError` when it fails."""
    with tempfile.TemporaryDirectory(prefix="purser-bench-") as folder:
        runtime = Path(folder, "run")
        runtime.mkdir(mode=0o700)
        Path(runtime, "python_PostgresServer").mkdir()
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.embedded", str(Path(folder, "pg"))],
            cwd=ROOT,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent: the child ends by end of input
        )
        try:
            yield _announced(child)
        finally:
            child.communicate(timeout=STOP_TIMEOUT_S)


def _announced(child: subprocess.Popen[str]) -> Cluster:
    line = child.stdout.readline() if child.stdout else ""
    if "\t" not in line:
        raise DatabaseError("the temporary Postgres did not start; its own message is above")
    uri, programs = line.rstrip("\n").split("\t")
    return Cluster(uri, Path(programs))
