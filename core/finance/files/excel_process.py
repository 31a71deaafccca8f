"""The process that writes one workbook, so that no chat waits for its interpreter. Reads a layout and
rows from standard input, writes them into the file of that name and ends with status 0.

It runs nothing of what it reads, lines of JSON and COPY from its parent, and gives way to everything
else on the machine. Input that ends too soon means that the parent is gone, or no longer interested.
However it ends, it takes the file's folder along: a parent that lives has the file open. Run by
core.finance.files.excel_file only: python -m core.finance.files.excel_process FILE
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from threading import Thread
from typing import TextIO

from core.finance.files import excel_layout
from core.finance.files.excel_book import Book
from core.finance.files.excel_layout import END

_NICENESS = 10
_INPUT = 0


def main(path: Path) -> None:
    """Write the workbook, unless the rows end too soon or somebody asks it to stop."""
    os.nice(_NICENESS)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with open(_INPUT, encoding="utf-8", newline="\n", closefd=False) as given:
            book = _read(given, path)
        if book is None:
            sys.exit(1)
        Thread(target=_watch, daemon=True).start()
        book.close()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        shutil.rmtree(path.parent, ignore_errors=True)


def _read(given: TextIO, path: Path) -> Book | None:
    """The workbook with all of the rows; None where they are not all."""
    book = Book(path, excel_layout.read(given.readline()))
    for line in given:
        if line == END:
            return book
        book.add(line[:-1].split("\t"))
    return None


def _watch() -> None:
    """Nothing follows the rows but the end of input, and that only where the parent is gone."""
    os.read(_INPUT, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(*_: object) -> None:
    """In the main thread, which is the one that makes files: it stops, and then removes them."""
    sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
