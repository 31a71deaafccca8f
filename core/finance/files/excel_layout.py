"""What the process that writes a workbook is told before its rows: the columns and how large a sheet
may be. Knows neither the rows nor their query."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from core.finance.datasets.columns import Column, Type

NULL = "\\N"  # as COPY spells no value; a text of these two signs has its backslash doubled
END = "\\.\n"  # as COPY ends its text; nothing but the whole of the rows is followed by it


@dataclass(frozen=True, slots=True)
class Layout:
    """The workbook to be; a sheet ends at so many rows, or so many bytes of XML and a batch more."""

    kind: str
    zone: str
    columns: tuple[Column, ...]
    sheet_rows_max: int
    sheet_bytes_max: int

    def line(self) -> bytes:
        """It as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"


def read(line: str) -> Layout:
    """What `Layout.line` wrote."""
    told = json.loads(line)
    columns = (Column(**one | {"type": Type(one["type"])}) for one in told.pop("columns"))
    return Layout(columns=tuple(columns), **told)
