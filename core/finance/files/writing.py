"""The one seam of files: a dataset in a format, in blocks, from one query. Decides no right and stores
nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core import errors
from core.finance.datasets.columns import Dataset
from core.finance.files import csv_file, json_file
from core.finance.files.copying import Progress

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file; its name is also the end of its file's name."""

    name: str
    title: str
    media_type: str
    blocks: Callable[[Session, Dataset, Progress], Generator[bytes]]


def _late(name: str) -> Callable[[Session, Dataset, Progress], Generator[bytes]]:
    """The files of a module that is imported by whoever writes the first one: its library takes megabytes
    in every process that holds it, and most never write such a file."""

    def blocks(session: Session, found: Dataset, progress: Progress) -> Generator[bytes]:
        by_name = importlib.import_module(f"core.finance.files.{name}")
        written: Generator[bytes] = by_name.blocks(session, found, progress)
        return written

    return blocks


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format("csv", "CSV", "text/csv; charset=utf-8", csv_file.blocks),
        Format(
            "xlsx", "Excel", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            _late("excel_file"),
        ),
        Format("parquet", "Parquet", "application/vnd.apache.parquet", _late("parquet_file")),
        Format("jsonl", "JSON Lines", "application/x-ndjson", json_file.blocks),
    )
}  # fmt: skip


def find_format(name: str) -> Format:
    """The format of that name. Raises errors.BadInput."""
    found = FORMATS.get(name)
    if found is None:
        raise errors.BadInput(f"A format is one of: {', '.join(FORMATS)}.", param="format")
    return found


def write(
    session: Session, found: Dataset, format_name: str, progress: Progress, *, bom: bool = False
) -> Generator[bytes]:
    """The file in blocks, some of them empty while it is being made; `bom` is for CSV only.

    Raises errors.BadInput for an unknown format, errors.Unavailable where the rows end too soon: what
    was given out by then is no file.
    """
    wanted = find_format(format_name)
    if bom and wanted.name == "csv":
        yield BOM
    yield from wanted.blocks(session, found, progress)
