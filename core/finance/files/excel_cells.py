"""Cells of a workbook from values as COPY spells them, typed. No text becomes a formula or a link."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from core.finance.datasets.columns import Type

TEXT_LENGTH_MAX = 32_767  # of a cell, in units of UTF-16
_DAY_NULL, _ONE_DAY = datetime(1899, 12, 30), timedelta(days=1)  # noqa: DTZ001 - Excel knows no zone
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

Write: TypeAlias = Callable[[Worksheet, int, int, str, Format], object]


def writer(held: Type) -> Write:
    """What writes a value of that type into a sheet's line and column, with a look."""
    return _WRITERS[held]


def plain(value: str) -> str:
    """A text of COPY without its escapes."""
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda found: _MEANT.get(found[1], found[1]), value)


def cut(said: str) -> str:
    """What fits in a cell; a text that does not ends in an ellipsis."""
    if len(said) <= TEXT_LENGTH_MAX // 2:
        return said
    units = said.encode("utf-16-le")
    if len(units) <= 2 * TEXT_LENGTH_MAX:
        return said
    return f"{units[: 2 * (TEXT_LENGTH_MAX - 1)].decode('utf-16-le', 'ignore')}…"


def _text(sheet: Worksheet, line: int, n: int, value: str, look: Format) -> None:
    said = cut(plain(value))
    if said.startswith("<r>"):  # which xlsxwriter takes for markup of its own, but not in parts
        sheet.write_rich_string(line, n, "<", "r", said[2:], look)
    else:
        sheet.write_string(line, n, said, look)


def _integer(sheet: Worksheet, line: int, n: int, value: str, look: Format) -> None:
    sheet.write_number(line, n, int(value), look)


def _decimal(sheet: Worksheet, line: int, n: int, value: str, look: Format) -> None:
    sheet.write_number(line, n, Decimal(value), look)


def _time(sheet: Worksheet, line: int, n: int, value: str, look: Format) -> None:
    sheet.write_number(line, n, (datetime.fromisoformat(value) - _DAY_NULL) / _ONE_DAY, look)


def _date(sheet: Worksheet, line: int, n: int, value: str, look: Format) -> None:
    days = date.fromisoformat(value).toordinal() - _DAY_NULL.toordinal()
    sheet.write_number(line, n, days, look)


def _boolean(sheet: Worksheet, line: int, n: int, value: str, look: Format) -> None:
    sheet.write_boolean(line, n, value == "t", look)


_WRITERS: Mapping[Type, Write] = {
    Type.TEXT: _text, Type.INTEGER: _integer, Type.DECIMAL: _decimal,
    Type.TIME: _time, Type.DATE: _date, Type.BOOLEAN: _boolean,
}  # fmt: skip
