"""The workbook: sheets of rows, one of totals, also as text (a number in Excel has 15 digits), and one
that explains the columns. Keeps no row in memory; the same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from core.finance.datasets.columns import Column, Dataset, Type
from core.finance.files import dictionary, excel_cells

_MADE_AT = datetime(2000, 1, 1)  # noqa: DTZ001 - in every file, so that equal rows give equal bytes
_CELL_BYTES = 60  # of XML around a value
_NULL = "\\N"  # as COPY spells no value; a text of these two signs has its backslash doubled
_FORMATS = {
    Type.TEXT: {"quote_prefix": True},
    Type.INTEGER: {"num_format": "0"},
    Type.DECIMAL: {"num_format": "0.00#######"},
    Type.TIME: {"num_format": "yyyy-mm-dd hh:mm:ss.000"},
    Type.DATE: {"num_format": "yyyy-mm-dd"},
    Type.BOOLEAN: {},
}  # fmt: skip
_WIDTHS = {Type.TEXT: 24, Type.TIME: 24, Type.DECIMAL: 18}


class Book:
    """A workbook that is being written into a folder; a sheet ends at so many rows, or so many bytes of
    XML and a row more."""

    def __init__(
        self, path: Path, found: Dataset, sheet_rows_max: int, sheet_bytes_max: int
    ) -> None:
        self._found = found
        self._sheet_rows_max, self._sheet_bytes_max = sheet_rows_max, sheet_bytes_max
        self._book = xlsxwriter.Workbook(
            str(path), {"constant_memory": True, "tmpdir": str(path.parent)}
        )
        self._book.set_properties({"created": _MADE_AT, "title": found.kind})
        self._bold = self._book.add_format({"bold": True})
        self._looks = {held: self._book.add_format(look) for held, look in _FORMATS.items()}
        self._columns = [
            (n, excel_cells.writer(one.type), self._looks[one.type])
            for n, one in enumerate(found.columns)
        ]
        self._totals = {n: Decimal() for n, one in enumerate(found.columns) if one.is_total}
        self._rows = self._sheets = 0
        self._sheet = self._next_sheet()

    def add_all(self, lines: str) -> None:
        """Add whole lines of COPY, each a row."""
        for line in lines.removesuffix("\n").split("\n"):
            self._add(line.split("\t"))

    def _add(self, row: Sequence[str]) -> None:
        """A row of values as COPY spells them, on a new sheet where the last one is full."""
        if self._line == self._sheet_rows_max or self._room_bytes <= 0:
            self._sheet = self._next_sheet()
        self._rows += 1
        self._line += 1
        sheet, line = self._sheet, self._line
        for n, write, look in self._columns:
            if (value := row[n]) != _NULL:
                write(sheet, line, n, value, look)
                self._room_bytes -= len(value.encode()) + _CELL_BYTES
        for n in self._totals:
            if row[n] != _NULL and (amount := Decimal(row[n])):
                self._totals[n] += amount

    def close(self) -> None:
        """Add the totals and the dictionary, and pack the file."""
        columns, text = self._found.columns, self._looks[Type.TEXT]
        totals = [("rows", Decimal(self._rows))]
        totals += [(columns[n].name, total) for n, total in self._totals.items()]
        sheet = self._titled("Totals", ("column", "total", "exactly"))
        for line, (name, total) in enumerate(totals, start=1):
            sheet.write_string(line, 0, name, text)
            sheet.write_number(line, 1, total, self._looks[Type.DECIMAL])
            sheet.write_string(line, 2, f"{total:f}", text)
        sheet = self._titled("Columns", dictionary.HEADINGS)
        for line, column in enumerate(columns, start=1):
            for n, said in enumerate(dictionary.line(column, self._found.zone)):
                sheet.write_string(line, n, said, text)
        self._book.close()

    def _next_sheet(self) -> Worksheet:
        self._sheets += 1
        self._line, self._room_bytes = 0, self._sheet_bytes_max
        number = "" if self._sheets == 1 else f" {self._sheets}"
        titles = [_title(column, self._found.zone) for column in self._found.columns]
        sheet = self._titled(f"{self._found.kind.title()}{number}", titles)
        for n, column in enumerate(self._found.columns):
            sheet.set_column(n, n, _WIDTHS.get(column.type, 12))
        return sheet

    def _titled(self, name: str, titles: Sequence[str]) -> Worksheet:
        sheet = self._book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, len(titles) - 1, 24)
        for n, title in enumerate(titles):
            sheet.write_string(0, n, title, self._bold)
        return sheet


def _title(column: Column, zone: str) -> str:
    return f"{column.name} ({zone})" if column.type is Type.TIME else column.name
