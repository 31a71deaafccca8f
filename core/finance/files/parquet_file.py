"""Parquet with zstd: exact decimals, times with their zone, each column's meaning beside it. Rows come
by COPY and are packed in groups of a fixed number, so the same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy.orm import Session

from core.finance.datasets.columns import Column, Dataset, Type
from core.finance.files import cells, copying
from core.finance.files.copying import Progress

_GROUP_ROWS = 10_000
_DECIMAL = pa.decimal128(38, 24)  # what a provider reports may have 17 digits after many noughts
_TYPES = {
    Type.TEXT: pa.string(), Type.INTEGER: pa.int64(), Type.DECIMAL: _DECIMAL,
    Type.TIME: pa.timestamp("us", "UTC"), Type.DATE: pa.date32(), Type.BOOLEAN: pa.bool_(),
}  # fmt: skip


class _Sink:
    """Takes what Arrow writes and hands it on."""

    closed = False

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        """Keep it until it is taken."""
        self._held += data
        return len(data)

    def flush(self) -> None:
        """There is nothing further down."""

    def take(self) -> bytes:
        """What was written since it was last asked."""
        taken = bytes(self._held)
        self._held.clear()
        return taken


def blocks(session: Session, found: Dataset, progress: Progress) -> Generator[bytes]:
    """The file, a group of rows after the other."""
    copying.begin(session, "UTC")
    shown = ", ".join(_value(column) for column in found.columns)
    rows = copying.rows(
        session,
        f"copy (select {shown} from ({found.query.sql}) as d) to stdout (format csv)",  # noqa: S608
        found.query.parameters, progress,
    )  # fmt: skip
    sink, schema = _Sink(), _schema(found)
    with pa.parquet.ParquetWriter(pa.PythonFile(sink, "w"), schema, compression="zstd") as writer:
        while lines := b"".join(taken := list(islice(rows, _GROUP_ROWS))):
            writer.write_table(_table(lines, schema), row_group_size=_GROUP_ROWS)
            progress.rows += len(taken)
            yield sink.take()
    yield sink.take()


def _value(column: Column) -> str:
    return f"{cells.named(column)}{'::text' if column.type is Type.BOOLEAN else ''}"


def _schema(found: Dataset) -> pa.Schema:
    fields = [_field(column, found.zone) for column in found.columns]
    return pa.schema(fields, {"kind": found.kind, "zone": found.zone})


def _field(column: Column, zone: str) -> pa.Field:
    held = pa.timestamp("us", zone) if column.type is Type.TIME else _TYPES[column.type]
    return pa.field(column.name, held, metadata={"meaning": column.meaning})


def _table(lines: bytes, schema: pa.Schema) -> pa.Table:
    """Lines of COPY as Arrow's columns; what is not quoted and empty is no value."""
    read = {
        field.name: pa.timestamp("us", "UTC") if pa.types.is_timestamp(field.type) else field.type
        for field in schema
    }
    table = pa.csv.read_csv(
        pa.BufferReader(lines),
        pa.csv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=list(read)),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(
            column_types=read, null_values=[""], true_values=["true"], false_values=["false"],
            strings_can_be_null=True, quoted_strings_can_be_null=False,
            timestamp_parsers=[pa.csv.ISO8601],
        ),
    )  # fmt: skip
    return table.cast(schema)
