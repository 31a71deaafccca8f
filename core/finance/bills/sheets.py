"""Reads an uploaded bill (CSV) row by row, in either of its shapes: sums by day and model, or one row for
each generation. Keeps nothing; the first row that cannot be read refuses the whole file, by its place."""

from __future__ import annotations

import csv
import os
from _csv import Reader
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import BinaryIO, TypeAlias, TypeVar

from core import errors
from core.catalog.activity import EXACT
from core.finance.bills import cells, columns
from core.finance.bills.cells import BadCell
from core.finance.bills.columns import Field
from core.finance.bills.rows import DayRow, Line

BYTES_MAX = 50 * 1024 * 1024
ROWS_MAX = 500_000
_LINE_BYTES_MAX = 64 * 1024
_USUAL_VARIANT = "standard"
_DELIMITERS = (",", ";", "\t")

Row: TypeAlias = DayRow | Line
T = TypeVar("T")


@dataclass(slots=True)
class Sheet:
    """An opened file. `rows` may be read once; meanwhile `left_out` counts rows of a day that is not over."""

    has_generations: bool
    rows: Iterator[Row]
    row_number: int = 1
    left_out: int = 0


def open_sheet(file: BinaryIO, now: datetime) -> Sheet:
    """Read the head of a file. Raises errors.TooLarge, errors.BadInput; `rows` raises them too."""
    file.seek(0, os.SEEK_END)
    if file.tell() > BYTES_MAX:
        raise errors.TooLarge(f"The file is larger than {BYTES_MAX >> 20} MB.", param="file")
    file.seek(0)
    texts = _texts(file)
    head = next(texts, "")
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(_first(head, texts), delimiter=delimiter, strict=True)
    header = _next(reader, 1) or []
    places = columns.find(header)
    sheet = Sheet("generation" in places, iter(()))
    sheet.rows = _rows(sheet, reader, header, places, now)
    return sheet


def _texts(file: BinaryIO) -> Iterator[str]:
    """The file's lines as text, without a byte order mark."""
    for number, line in enumerate(iter(lambda: file.readline(_LINE_BYTES_MAX + 1), b""), 1):
        if len(line) > _LINE_BYTES_MAX:
            raise errors.BadInput(f"Row {number}: the line is too long for a bill.", param="file")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise errors.BadInput(
                f"Row {number}: the file is not UTF-8 text. Save it as CSV in UTF-8.", param="file"
            ) from None


def _first(head: str, texts: Iterator[str]) -> Iterator[str]:
    yield head
    yield from texts


def _next(reader: Reader, number: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error:
        raise errors.BadInput(f"Row {number}: this is not CSV.", param="file") from None


def _rows(
    sheet: Sheet, reader: Reader, header: list[str], places: dict[Field, int], now: datetime
) -> Iterator[Row]:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    read = 0
    while (row := _next(reader, reader.line_num + 1)) is not None:
        sheet.row_number = reader.line_num
        if not any(cell.strip() for cell in row):
            continue
        read += 1
        if read > ROWS_MAX:
            raise errors.TooLarge(f"The file has more than {ROWS_MAX:,} rows.", param="file")
        if len(row) != len(header):
            raise errors.BadInput(
                f"Row {reader.line_num}: it has {len(row)} columns, the first row {len(header)}.",
                param="file",
            )
        record = _Record(row, header, places, reader.line_num)
        at = record.read("time", cells.moment)
        if at >= now + timedelta(days=1):
            raise record.refusal("time", "lies in the future")
        if at >= midnight:
            sheet.left_out += 1
            continue
        yield _line(record, at) if sheet.has_generations else _day_row(record, at)
    if not read:
        raise errors.BadInput("The file has no rows.", param="file")


@dataclass(frozen=True, slots=True)
class _Record:
    """One row's cells by what they mean."""

    row: list[str]
    header: list[str]
    places: dict[Field, int]
    number: int

    def read(self, field: Field, parse: Callable[[str], T]) -> T:
        """A cell as `parse` reads it. Raises errors.BadInput, naming row and column."""
        try:
            return parse(self.text(field))
        except BadCell as error:
            raise self.refusal(field, str(error)) from None

    def text(self, field: Field) -> str:
        """The words in a cell; nothing where there is no such column."""
        place = self.places.get(field)
        return "" if place is None else self.row[place].strip()

    def refusal(self, field: Field, why: str) -> errors.BadInput:
        """What is wrong with a cell, with its place and its first letters."""
        column = self.header[self.places[field]].strip()[:40]
        return errors.BadInput(
            f"Row {self.number}, column {column!r}: {self.text(field)[:40]!r} {why}.", param="file"
        )


def _line(record: _Record, at: datetime) -> Line:
    return Line(
        generation_id=record.read("generation", cells.name),
        occurred_at=at,
        model=_model(record),
        prompt_tokens=record.read("prompt", cells.count),
        completion_tokens=record.read("completion", cells.count),
        cost_usd=EXACT.add(
            record.read("cost", cells.amount), record.read("upstream", _amount_or_none)
        ),
    )


def _model(record: _Record) -> str:
    """The model with the variant that a column of its own names, as in 'x/y:free'."""
    name, variant = record.read("model", cells.name), record.text("variant").lower()
    if variant in ("", _USUAL_VARIANT) or ":" in name:
        return name
    return f"{name}:{record.read('variant', cells.name)}"


def _amount_or_none(text: str) -> Decimal:
    return cells.amount(text) if text else Decimal(0)


def _day_row(record: _Record, at: datetime) -> DayRow:
    parts = record.read("prompt", cells.count) + record.read("completion", cells.count)
    return DayRow(
        day=at.date(),
        model=_model(record),
        requests=record.read("requests", cells.count),
        tokens=record.read("tokens", cells.count) or parts,
        cost_usd=EXACT.add(
            record.read("cost", cells.amount), record.read("upstream", _amount_or_none)
        ),
    )
