"""Folders for files that are being made. One whose process was killed is removed by the next that makes
a file: each is locked for as long as somebody works in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "purser-file-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, removed at the end with what is in it."""
    sweep()
    path, held = _locked()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def sweep() -> None:
    """Remove the folders of processes that are no more."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # of somebody else, in use, or gone
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    held = os.open(path, _DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(held).st_uid == os.geteuid():
            shutil.rmtree(path)
    finally:
        os.close(held)


def _locked() -> tuple[Path, int]:
    """A new folder and what holds its lock; another, where one was swept before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(FileNotFoundError):
            held = os.open(path, _DIRECTORY)
            fcntl.flock(held, fcntl.LOCK_EX)
            if path.exists():
                return path, held
            os.close(held)
