"""Excel: typed cells, real dates, no text that could act as a formula or a link. Many rows are written by
a job, in the process for long jobs; few also where they are asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager

import structlog
from sqlalchemy.orm import Session
from xlsxwriter.exceptions import XlsxWriterException

from core import errors
from core.finance.datasets.columns import Column, Dataset, Type
from core.finance.files import cells, copying, folders
from core.finance.files.copying import Progress
from core.finance.files.excel_book import Book

ROWS_MAX = 1_048_575  # of a sheet, besides its header
SHEET_BYTES_MAX = 1_900_000_000  # past 2 GB ZIP needs extensions, for which Excel offers a repair
log = structlog.get_logger(__name__)


def blocks(session: Session, found: Dataset, progress: Progress) -> Generator[bytes]:
    """The file, made on disk first: its directory comes last.

    Raises errors.Unavailable where the disk takes no more, and of a value that Excel has no cell for what
    xlsxwriter says. Nothing is left behind, whatever ends this.
    """
    copying.begin(
        session, found.zone
    )  # which also lets the transaction idle while the file is packed
    shown = ", ".join(_value(column) for column in found.columns)
    lines = copying.blocks(
        session, f"copy (select {shown} from ({found.query.sql}) as d) to stdout",  # noqa: S608
        found.query.parameters, progress,
    )  # fmt: skip
    with _disk(), folders.folder() as folder:
        path = folder / "export.xlsx"
        book = Book(path, found, ROWS_MAX, SHEET_BYTES_MAX)
        with closing(lines):
            for block in lines:
                book.add_all(block.decode())
                yield b""
        book.close()
        with path.open("rb") as file:
            while block := file.read(copying.BLOCK_BYTES):
                yield block


def _value(column: Column) -> str:
    """A column as its value is written: of a time, what a clock of the zone shows."""
    name = cells.named(column)
    return f"{name}::timestamp" if column.type is Type.TIME else name


@contextmanager
def _disk() -> Iterator[None]:
    """A job tries again when there may be more room."""
    try:
        yield
    except (OSError, XlsxWriterException) as error:
        log.warning("excel_file_failed", error=type(error).__name__)
        raise errors.Unavailable("The Excel file could not be written to its end.") from error
