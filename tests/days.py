"""`python -m tests.days [NAME ...] [-- PATH ...]`: the fast layer on days that are unlike the others.

The wall clock is moved by an offset, which processes share whenever they start: the tests, their
Postgres and what they spawn agree, and time goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
DAYS = {
    "first-of-month": "2027-05-01T00:10",
    "last-of-month": "2027-04-30T13:00",
    "leap-day": "2028-02-29T12:00",
    "spring-forward": "2027-03-28T00:50",  # Europe's clocks change at 01:00 UTC
    "fall-back": "2027-10-31T00:50",
    "new-year": "2027-01-01T00:05",
    "before-midnight": "2026-12-30T23:56",  # the run goes over it
    "before-new-year": "2026-12-31T23:56",
}
_FAST = "not browser and not faults and not deep"


def main() -> int:
    """The exit status: 0 when the layer passed on every day asked for."""
    names, paths = _split(sys.argv[1:])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        library = _build(Path(folder) / "clock_offset.so")
        failed = [name for name in names or DAYS if run(name, paths, library) != 0]
    print(f"days that failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def run(name: str, paths: list[str], library: Path) -> int:
    """Pytest's exit status on that day."""
    moment = datetime.fromisoformat(DAYS[name]).replace(tzinfo=UTC)
    offset_s = int((moment - datetime.now(UTC)).total_seconds())
    print(f"--- {name}: {moment:%a %d %b %Y %H:%M} UTC", flush=True)
    clock = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_S": str(offset_s)}
    # A folder of its own: pytest takes the folders of today's other runs for old ones, and deletes them.
    options = ["-n", "2", "--dist", "loadfile", "--basetemp", str(library.with_name(name))]
    command = [sys.executable, "-m", "pytest", *options, "-m", _FAST, *paths]
    return subprocess.run(command, cwd=ROOT, env=os.environ | clock, check=False).returncode


def _build(library: Path) -> Path:
    source = Path(__file__).with_name("clock_offset.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


if __name__ == "__main__":
    sys.exit(main())
