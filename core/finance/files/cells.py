"""How a value is spelled: text that no spreadsheet runs, ISO times, plain numbers. In SQL for what
Postgres writes by itself, in Python for the few lines that we do."""

from __future__ import annotations

import csv
import io
import re
import string
from collections.abc import Iterable

from core.finance.datasets.columns import Column, Type

# What begins a formula, also after blanks: = + - @, tab, line breaks, and the full-width signs.
_BLANK, _SIGN = " \u00a0\u3000\ufeff", "-=+@\t\r\n\uff1d\uff0b\uff0d\uff20"
_PATTERN = f"^[{_BLANK}]*[{_SIGN}]"
_FORMULA = re.compile(_PATTERN)
_HARMLESS = "{" + ",".join(str(ord(sign)) for sign in string.ascii_letters + string.digits) + "}"


def guard(text: str) -> str:
    """A cell of foreign text: what a spreadsheet would run gets an apostrophe before it."""
    return f"'{text}" if _FORMULA.match(text) else text


def lines(rows: Iterable[Iterable[str]], end: str = "\n") -> bytes:
    """Rows of cells as lines of CSV in UTF-8; text in them must have been guarded."""
    held = io.StringIO()
    csv.writer(held, lineterminator=end).writerows(rows)
    return held.getvalue().encode()


def named(column: Column) -> str:
    """A column's name in SQL."""
    return '"' + column.name.replace('"', '""') + '"'


def as_csv(column: Column, zone: str, *, whole_hours: bool) -> str:
    """SQL of a column's cell; `whole_hours` says that the zone's offsets are (`copying.begin`)."""
    name = named(column)
    match column.type:
        case Type.TEXT if not column.is_code:
            spelled = _guarded(name)
        case Type.TIME:
            spelled = _time(name, zone, whole_hours=whole_hours)
        case Type.BOOLEAN:
            spelled = f"{name}::text"
        case _:
            return name
    return f"{spelled} as {name}"


def as_json(column: Column, zone: str) -> str:
    """SQL of a column's value in JSON; times are spelled as in CSV, others as Postgres does."""
    name = named(column)
    if column.type is Type.TIME and zone == "UTC":
        return f"{_utc(name)} as {name}"
    return name


def _guarded(name: str) -> str:
    """`guard` in SQL. Nearly every text begins with a letter or digit, which is quick to see."""
    return (
        f"case when ascii({name}) = any('{_HARMLESS}'::int[]) then {name}"
        f" when {name} ~ '{_PATTERN}' then '''' || {name} else {name} end"
    )


def _time(name: str, zone: str, *, whole_hours: bool) -> str:
    """ISO 8601 with the offset of the transaction's zone, to the microsecond where it has any.

    Of several exact spellings the first is the quickest; it lacks the minutes of the offset.
    """
    if zone == "UTC":
        return _utc(name)
    if whole_hours:
        return f"replace({name}::text, ' ', 'T') || ':00'"
    return f"""btrim(to_json({name})::text, '"')"""


def _utc(name: str) -> str:
    """As FOCUS wants it."""
    return f"replace(left({name}::text, -3), ' ', 'T') || 'Z'"
