"""Excel: typed cells, real dates, no text that could act as a formula or a link. A sheet of totals, also
as text (a number in Excel has 15 digits), and one that explains the columns. The same rows give the
same bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import xlsxwriter
from sqlalchemy.orm import Session
from xlsxwriter.worksheet import Worksheet

from core.finance.datasets.columns import Column, Dataset, Type
from core.finance.files import copying, dictionary
from core.finance.files.copying import Progress

ROWS_MAX = 1_048_575  # of a sheet, besides its header
TEXT_LENGTH_MAX = 32_767
_AT_ONCE_ROWS = 2_000
_MADE_AT = datetime(2000, 1, 1)  # noqa: DTZ001 - in every file, so that equal rows give equal bytes
_DAY_NULL, _ONE_DAY = datetime(1899, 12, 30), timedelta(days=1)  # noqa: DTZ001 - Excel knows no zone
_FORMATS = {
    Type.TEXT: {"quote_prefix": True},
    Type.INTEGER: {"num_format": "0"},
    Type.DECIMAL: {"num_format": "0.00#######"},
    Type.TIME: {"num_format": "yyyy-mm-dd hh:mm:ss.000"},
    Type.DATE: {"num_format": "yyyy-mm-dd"},
    Type.BOOLEAN: {},
}  # fmt: skip
_WIDTHS = {Type.TEXT: 24, Type.TIME: 24, Type.DECIMAL: 18}


def blocks(session: Session, found: Dataset, progress: Progress) -> Generator[bytes]:
    """The file, made on disk first: its directory comes last."""
    copying.begin(session, found.zone)
    connection = copying.driver(session)
    with tempfile.TemporaryDirectory(prefix="purser-") as folder:
        book = _Book(Path(folder), found)
        with (
            progress.reading(connection),
            connection.cursor(name="export") as cursor,
        ):
            cursor.itersize = _AT_ONCE_ROWS
            cursor.execute(found.query.sql, found.query.parameters)
            for row in cursor:
                book.add(row)
                progress.rows += 1
                if progress.rows % _AT_ONCE_ROWS == 0:
                    yield b""
        with book.close().open("rb") as file:
            while block := file.read(copying.BLOCK_BYTES):
                yield block


class _Book:
    """A workbook that keeps no row in memory."""

    def __init__(self, folder: Path, found: Dataset) -> None:
        self._path, self._found = folder / "export.xlsx", found
        self._book = xlsxwriter.Workbook(
            str(self._path), {"constant_memory": True, "tmpdir": str(folder)}
        )
        self._book.set_properties({"created": _MADE_AT, "title": found.kind})
        self._bold = self._book.add_format({"bold": True})
        self._looks = {held: self._book.add_format(look) for held, look in _FORMATS.items()}
        self._columns = [
            (n, one.type, self._looks[one.type]) for n, one in enumerate(found.columns)
        ]
        self._totals = {n: Decimal() for n, one in enumerate(found.columns) if one.is_total}
        self._rows = self._sheets = 0
        self._sheet = self._next_sheet()

    def add(self, row: tuple[Any, ...]) -> None:
        """One row of the query, on a new sheet where the last one is full."""
        if self._rows and self._rows % ROWS_MAX == 0:
            self._sheet = self._next_sheet()
        self._rows += 1
        line = (self._rows - 1) % ROWS_MAX + 1
        sheet = self._sheet
        for n, held, look in self._columns:
            if (value := row[n]) is not None:
                _write(sheet, line, n, held, value, look)
        for n in self._totals:
            self._totals[n] += row[n] or 0

    def close(self) -> Path:
        """Add the totals and the dictionary; returns where the file is."""
        columns = self._found.columns
        totals = [("rows", Decimal(self._rows))]
        totals += [(columns[n].name, total) for n, total in self._totals.items()]
        sheet = self._titled("Totals", ("column", "total", "exactly"))
        for line, (name, total) in enumerate(totals, start=1):
            sheet.write_string(line, 0, name, self._looks[Type.TEXT])
            sheet.write_number(line, 1, total, self._looks[Type.DECIMAL])
            sheet.write_string(line, 2, f"{total:f}", self._looks[Type.TEXT])
        sheet = self._titled("Columns", dictionary.HEADINGS)
        for line, column in enumerate(columns, start=1):
            for n, said in enumerate(dictionary.line(column, self._found.zone)):
                sheet.write_string(line, n, said, self._looks[Type.TEXT])
        self._book.close()
        return self._path

    def _next_sheet(self) -> Worksheet:
        self._sheets += 1
        number = "" if self._sheets == 1 else f" {self._sheets}"
        zone = self._found.zone
        titles = [_title(column, zone) for column in self._found.columns]
        sheet = self._titled(f"{self._found.kind.title()}{number}", titles)
        for n, column in enumerate(self._found.columns):
            sheet.set_column(n, n, _WIDTHS.get(column.type, 12))
        return sheet

    def _titled(self, name: str, titles: list[str] | tuple[str, ...]) -> Worksheet:
        sheet = self._book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, len(titles) - 1, 24)
        for n, title in enumerate(titles):
            sheet.write_string(0, n, title, self._bold)
        return sheet


def _title(column: Column, zone: str) -> str:
    return f"{column.name} ({zone})" if column.type is Type.TIME else column.name


def _write(sheet: Worksheet, line: int, n: int, held: Type, value: Any, look: Any) -> None:
    match held:
        case Type.TEXT:
            sheet.write_string(line, n, _cut(value), look)
        case Type.TIME:
            sheet.write_number(line, n, (value.replace(tzinfo=None) - _DAY_NULL) / _ONE_DAY, look)
        case Type.DATE:
            sheet.write_number(line, n, value.toordinal() - _DAY_NULL.toordinal(), look)
        case Type.BOOLEAN:
            sheet.write_boolean(line, n, value, look)
        case _:
            sheet.write_number(line, n, value, look)


def _cut(said: str) -> str:
    """What fits in a cell; a text that does not ends in an ellipsis."""
    return said if len(said) <= TEXT_LENGTH_MAX else f"{said[: TEXT_LENGTH_MAX - 1]}…"
