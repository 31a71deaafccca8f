"""How a value is spelled: text that no spreadsheet runs, ISO times, plain numbers. In SQL for what
Postgres writes by itself, in Python for the few lines that we do."""

from __future__ import annotations

import csv
import io
import re
import string
from collections.abc import Iterable

from core.finance.datasets.columns import Column, Type

# What begins a formula: = + - @ and their full-width signs, at the start of a text or after what some
# program or country takes for the end of a cell, also behind blanks and quotes; at the start also a tab
# or a line break. An apostrophe before it keeps it text wherever the line is split.
_BLANK, _SIGN, _END = " \u00a0\u3000\ufeff", "-=+@\uff1d\uff0b\uff0d\uff20", ";,|\t\r\n"
_INNER_RISK = f"(?=[{_BLANK}\"']*[{_SIGN}])"
_FIRST_RISK = f"(?=[{_BLANK}\"']*[{_SIGN}\t\r\n])"
_INNER, _FIRST = f"([{_END}]){_INNER_RISK}", f"^{_FIRST_RISK}"
_MARK, _BEHIND = "'", r"\1'"
_RISKS = re.compile(_INNER), re.compile(_FIRST)
_GUARDS = re.compile(f"(?<=[{_END}])'{_INNER_RISK}"), re.compile(f"^'{_FIRST_RISK}")
_HARMLESS = "{" + ",".join(str(ord(sign)) for sign in string.ascii_letters + string.digits) + "}"


def guard(text: str) -> str:
    """Return a cell of foreign text with an apostrophe before whatever could begin a formula."""
    inner, first = _RISKS
    return first.sub(_MARK, inner.sub(_BEHIND, text))


def unguard(cell: str) -> str:
    """Return the text that `guard` made this cell of."""
    inner, first = _GUARDS
    return inner.sub("", first.sub("", cell))


def lines(rows: Iterable[Iterable[str]], end: str = "\n") -> bytes:
    """Return rows of cells as lines of CSV in UTF-8, every cell quoted; their text must be guarded."""
    held = io.StringIO()
    csv.writer(held, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
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
    """`guard` in SQL. Nearly every text begins harmlessly and has no end of a cell: quick to see."""
    inner = f"regexp_replace({name}, {_literal(_INNER)}, {_literal(_BEHIND)}, 'g')"
    return (
        f"case when ascii({name}) = any('{_HARMLESS}'::int[])"
        f" and translate({name}, '{_END}', '') = {name} then {name}"
        f" else regexp_replace({inner}, {_literal(_FIRST)}, {_literal(_MARK)}) end"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


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
