"""A workbook written the plain way, one typed cell after the other through xlsxwriter: what every byte of
ours is held against."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import xlsxwriter

from core.finance.datasets.columns import Column, Dataset, Type
from core.finance.files import dictionary

_MADE_AT = datetime(2000, 1, 1)  # noqa: DTZ001 - Excel knows no zone
_DAY_NULL = datetime(1899, 12, 30)  # noqa: DTZ001
_LOOKS = {
    Type.TEXT: {"quote_prefix": True},
    Type.INTEGER: {"num_format": "0"},
    Type.DECIMAL: {"num_format": "0.00#######"},
    Type.TIME: {"num_format": "yyyy-mm-dd hh:mm:ss.000"},
    Type.DATE: {"num_format": "yyyy-mm-dd"},
    Type.BOOLEAN: {},
}  # fmt: skip
_WIDTHS = {Type.TEXT: 24, Type.TIME: 24, Type.DECIMAL: 18}


def by_cells(
    found: Dataset, rows: Sequence[Sequence[Any]], path: Path, sheet_rows_max: int = 1_048_575
) -> bytes:
    """The bytes of the workbook with these values, which is left at `path`."""
    book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": str(path.parent)})
    book.set_properties({"created": _MADE_AT, "title": found.kind})
    bold = book.add_format({"bold": True})
    looks = {held: book.add_format(look) for held, look in _LOOKS.items()}
    groups = [rows[n : n + sheet_rows_max] for n in range(0, len(rows), sheet_rows_max)]
    for number, group in enumerate(groups or [[]], start=1):
        name = found.kind.title() + (f" {number}" if number > 1 else "")
        sheet = _titled(book, name, [_title(one, found.zone) for one in found.columns], bold)
        for n, column in enumerate(found.columns):
            sheet.set_column(n, n, _WIDTHS.get(column.type, 12))
        for line, row in enumerate(group, start=1):
            for n, column in enumerate(found.columns):
                if row[n] is not None:
                    _write(sheet, line, n, column.type, row[n], looks[column.type], found.zone)
    totals: list[tuple[str, Decimal]] = [("rows", Decimal(len(rows)))]
    for n, column in enumerate(found.columns):
        if column.is_total:
            totals.append((column.name, sum((row[n] or Decimal() for row in rows), Decimal())))
    sheet = _titled(book, "Totals", ("column", "total", "exactly"), bold)
    for line, (name, total) in enumerate(totals, start=1):
        sheet.write_string(line, 0, name, looks[Type.TEXT])
        sheet.write_number(line, 1, total, looks[Type.DECIMAL])
        sheet.write_string(line, 2, f"{total:f}", looks[Type.TEXT])
    sheet = _titled(book, "Columns", dictionary.HEADINGS, bold)
    for line, column in enumerate(found.columns, start=1):
        for n, said in enumerate(dictionary.line(column, found.zone)):
            sheet.write_string(line, n, said, looks[Type.TEXT])
    book.close()
    return path.read_bytes()


def _titled(book: Any, name: str, titles: Sequence[str], bold: Any) -> Any:
    sheet = book.add_worksheet(name)
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, len(titles) - 1, 24)
    for n, title in enumerate(titles):
        sheet.write_string(0, n, title, bold)
    return sheet


def _title(column: Column, zone: str) -> str:
    return f"{column.name} ({zone})" if column.type is Type.TIME else column.name


def _write(sheet: Any, line: int, n: int, held: Type, value: Any, look: Any, zone: str) -> None:
    if held is Type.TEXT:
        sheet.write_string(line, n, value, look)
    elif held is Type.TIME:
        local = value.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        sheet.write_number(line, n, (local - _DAY_NULL) / timedelta(days=1), look)
    elif held is Type.DATE:
        sheet.write_number(line, n, value.toordinal() - _DAY_NULL.toordinal(), look)
    elif held is Type.BOOLEAN:
        sheet.write_boolean(line, n, value, look)
    else:
        sheet.write_number(line, n, value, look)
