"""Excel: typed cells, real dates, no text that could act as a formula or a link. The rows are read here
and written by a process of its own (`excel_process`), with less priority than those who chat."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

import structlog
from sqlalchemy.orm import Session

from core import errors
from core.finance.datasets.columns import Column, Dataset, Type
from core.finance.files import cells, copying
from core.finance.files.copying import Progress
from core.finance.files.excel_layout import END, Layout

ROWS_MAX = 1_048_575  # of a sheet, besides its header
SHEET_BYTES_MAX = 1_900_000_000  # past 2 GB ZIP needs extensions, for which Excel offers a repair
_ROOT = Path(__file__).parents[3]
_PATIENCE_S = 60.0  # for a block of rows, which is some milliseconds of work
_PACKING_PATIENCE_S = 1800.0  # for the rest: a million rows are two gigabytes of XML to compress
_TICK_S = 0.25
_INHERITED = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "SYSTEMROOT")
log = structlog.get_logger(__name__)


def blocks(session: Session, found: Dataset, progress: Progress) -> Generator[bytes]:
    """The file, made on disk first: its directory comes last.

    Raises errors.Unavailable where its process cannot be started, dies, or stops working. Nothing is
    left behind, whatever ends this.
    """
    copying.begin(session, found.zone)
    layout = Layout(found.kind, found.zone, found.columns, ROWS_MAX, SHEET_BYTES_MAX)
    shown = ", ".join(_value(column) for column in found.columns)
    lines = copying.blocks(
        session, f"copy (select {shown} from ({found.query.sql}) as d) to stdout",  # noqa: S608
        found.query.parameters, progress,
    )  # fmt: skip
    with ExitStack() as held:
        folder = held.enter_context(
            tempfile.TemporaryDirectory(prefix="purser-", ignore_cleanup_errors=True)
        )
        path = Path(folder, "export.xlsx")
        file = held.enter_context(path.open("w+b"))
        writer = held.enter_context(_Writer(path))
        writer.send(layout.line())
        with closing(lines):
            for block in lines:
                writer.send(block)
                yield b""
        writer.send(END.encode())
        for _ in writer.packing():
            yield b""
        while block := file.read(copying.BLOCK_BYTES):
            yield block


def _value(column: Column) -> str:
    """A column as its value is written: of a time, what a clock of the zone shows."""
    name = cells.named(column)
    return f"{name}::timestamp" if column.type is Type.TIME else name


class _Writer:
    """The process that writes a workbook, as its parent holds it; it ends no later than this does.

    Rows are sent no faster than it writes them. It is told no secret: it has no environment to speak of.
    """

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "core.finance.files.excel_process", str(path)]
        known = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        rows, pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                command, stdin=rows, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what it says of a failure may quote a cell
                cwd=_ROOT, env=known, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(pipe)
            raise errors.Unavailable("The Excel file could not be begun.") from error
        finally:
            os.close(rows)
        os.set_blocking(pipe, False)
        self._pipe, self._room = pipe, selectors.DefaultSelector()
        self._room.register(pipe, selectors.EVENT_WRITE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.close()
        os.close(self._pipe)
        self._process.kill()
        self._process.wait()

    def send(self, said: bytes) -> None:
        """Write to its input, when it has room. Raises errors.Unavailable where it died or stopped."""
        left = memoryview(said)
        while left:
            if not self._room.select(_PATIENCE_S):
                raise self._failed("stuck")
            try:
                left = left[os.write(self._pipe, left) :]
            except BrokenPipeError as error:
                raise self._failed("dead") from error

    def packing(self) -> Iterator[None]:
        """A moment at a time until it ended well. Raises errors.Unavailable where it did not."""
        patience_ends = time.monotonic() + _PACKING_PATIENCE_S
        while True:
            try:
                status = self._process.wait(_TICK_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > patience_ends:
                    raise self._failed("stuck") from None
                yield
            else:
                break
        if status != 0:
            raise self._failed("dead")

    def _failed(self, how: str) -> errors.Unavailable:
        log.warning("excel_process_failed", state=how, status=self._process.poll())
        return errors.Unavailable("The Excel file could not be written to its end.")
