"""Made-up datasets, and files read back by programs that are not ours."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet

from core import db
from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.files import writing
from core.finance.files.copying import Progress
from tests.factories import TESTS

Cells = dict[str, Any]
_SQL = {
    Type.TEXT: "text", Type.INTEGER: "bigint", Type.DECIMAL: "numeric", Type.TIME: "timestamptz",
    Type.DATE: "date", Type.BOOLEAN: "boolean",
}  # fmt: skip


def made_up(
    rows: Sequence[Sequence[object]], *types: Type, zone: str = "UTC", totals: Iterable[int] = ()
) -> Dataset:
    """A dataset with these rows; its columns are called a, b, c and so on."""
    columns = tuple(
        Column("abcdefghij"[n], held, f"Column {n}.", is_total=n in set(totals))
        for n, held in enumerate(types)
    )
    arrays = ", ".join(f"%({c.name})s::{_SQL[c.type]}[]" for c in columns)
    names = ", ".join(c.name for c in columns)
    values = {c.name: [row[n] for row in rows] for n, c in enumerate(columns)}
    select = f"select {names} from unnest({arrays}) with ordinality as r({names}, n)"
    return Dataset("usage", columns, Query.ordered(select, "n", values), zone)


def file_of(found: Dataset, format_name: str, *, bom: bool = False) -> bytes:
    progress = Progress()
    with db.transaction(TESTS) as session:
        return b"".join(writing.write(session, found, format_name, progress, bom=bom))


def read_csv(content: bytes) -> list[Cells]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def read_jsonl(content: bytes) -> list[Cells]:
    lines = content.decode("utf-8").split("\n")
    assert lines.pop() == ""
    return [json.loads(line, parse_float=Decimal) for line in lines]


def read_parquet(content: bytes) -> list[Cells]:
    return pa.parquet.read_table(pa.BufferReader(content)).to_pylist()  # type: ignore[no-any-return]


def sheets_of(content: bytes) -> dict[str, list[tuple[Any, ...]]]:
    """Every sheet of a workbook with the values of its cells; no cell may be a formula or a link."""
    book = openpyxl.load_workbook(io.BytesIO(content))
    for sheet in book:
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type != "f" and cell.hyperlink is None, cell.value
    return {sheet.title: [tuple(map(_plain, row)) for row in sheet.values] for sheet in book}


def _plain(value: Any) -> Any:
    """A text as Excel shows it: control characters stand as _x000D_ in its files."""
    if not isinstance(value, str):
        return value
    return re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), value)


def read_xlsx(content: bytes) -> list[Cells]:
    """The rows of all sheets but the last two, by the names of their columns."""
    found = []
    for name, (titles, *rows) in sheets_of(content).items():
        if name not in {"Totals", "Columns"}:
            names = [str(title).partition(" ")[0] for title in titles]
            found += [dict(zip(names, row, strict=True)) for row in rows]
    return found


def number(value: object) -> Decimal | None:
    """A number of Excel, which has 15 digits, as it is shown."""
    return None if value is None else Decimal(f"{value:.15g}")


def moment(value: Any) -> datetime | date | None:
    """A time of Excel to the millisecond, which is what it shows."""
    if not isinstance(value, datetime):
        return value  # type: ignore[no-any-return]
    return value - timedelta(microseconds=value.microsecond % 1000)
