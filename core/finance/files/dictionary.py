"""The dictionary of an export: what each of its columns holds and means."""

from __future__ import annotations

from core.finance.datasets.columns import Column, Dataset, Type
from core.finance.files import cells

HEADINGS = ("column", "type", "meaning")


def dictionary(found: Dataset) -> bytes:
    """One line per column, as CSV in UTF-8."""
    return cells.lines(
        [HEADINGS, *(map(cells.guard, line(one, found.zone)) for one in found.columns)]
    )


def line(column: Column, zone: str) -> tuple[str, str, str]:
    """What the dictionary says of a column; a time says its zone."""
    held = f"{column.type.value} ({zone})" if column.type is Type.TIME else column.type.value
    return column.name, held, column.meaning
