"""Blocks of a query, kept in a file of no name until a client takes them: however slow it is, the query
ends as soon as the database has given its rows. The file goes with its reader.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from contextvars import copy_context
from tempfile import TemporaryFile
from threading import BoundedSemaphore, Condition, Thread

from core import errors

QUERIES_MAX = 2  # at once; the connections that are left are for those who wait for an answer
SIZE_MAX = 8 * 1024**3
_BLOCK = 128 * 1024
_PATIENCE_S = 5.0
_PAUSE_S = 0.002  # after each block, so that the interpreter is free for running answers
_queries = BoundedSemaphore(QUERIES_MAX)


class _Spool:
    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._written, self._taken = descriptor, 0, 0
        self._error: BaseException | None = None
        self._is_full = False
        self._changed = Condition()

    def fill(self, blocks: Generator[bytes]) -> None:
        """Write all blocks; what they raise is raised where they are read."""
        error: BaseException | None = None
        try:
            with closing(blocks):
                for block in blocks:
                    self._append(block)
                    time.sleep(_PAUSE_S)
        except BaseException as raised:  # noqa: BLE001 - the edge of a thread: its reader hears of it
            error = raised
        with self._changed:
            self._error, self._is_full = error, True
            self._changed.notify()
        _queries.release()

    def take(self) -> bytes:
        """The next block; empty at the end. Raises what the query raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._written > self._taken or self._is_full)
        block = os.pread(self._descriptor, _BLOCK, self._taken)
        self._taken += len(block)
        if not block and self._error is not None:
            raise self._error
        return block

    def _append(self, block: bytes) -> None:
        if self._written + len(block) > SIZE_MAX:
            raise errors.TooLarge("This export is too large. Please choose a shorter period.")
        done = 0
        while done < len(block):
            done += os.pwrite(self._descriptor, block[done:], self._written + done)
        with self._changed:
            self._written += done
            self._changed.notify()


def spooled(blocks: Generator[bytes]) -> Generator[bytes]:
    """The same bytes, read ahead of whoever takes them. Raises errors.Busy where too many are read."""
    if not _queries.acquire(timeout=_PATIENCE_S):
        raise errors.Busy("Too many exports are being read. Please wait.", retry_after_s=10)
    with TemporaryFile() as file, _filling(_Spool(file.fileno()), blocks) as spool:
        while block := spool.take():
            yield block


@contextmanager
def _filling(spool: _Spool, blocks: Generator[bytes]) -> Generator[_Spool]:
    """A thread that fills the spool, on the lane of whoever takes; waited for at the end."""
    thread = Thread(target=copy_context().run, args=(spool.fill, blocks), daemon=True)
    thread.start()
    try:
        yield spool
    finally:
        thread.join()
