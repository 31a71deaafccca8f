"""CSV as RFC 4180 has it, in UTF-8, written by Postgres itself; lines end with LF. Nothing and an empty
text differ: the latter is quoted."""

from __future__ import annotations

from collections.abc import Generator

from sqlalchemy.orm import Session

from core.finance.datasets.columns import Dataset
from core.finance.files import cells, copying
from core.finance.files.copying import Progress


def blocks(session: Session, found: Dataset, progress: Progress) -> Generator[bytes]:
    """The file, with a line of column names first."""
    whole_hours = copying.begin(session, found.zone)
    shown = ", ".join(
        cells.as_csv(column, found.zone, whole_hours=whole_hours) for column in found.columns
    )
    return copying.blocks(
        session,
        f"copy (select {shown} from ({found.query.sql}) as d) to stdout (format csv, header)",  # noqa: S608
        found.query.parameters, progress, header_lines=1,
    )  # fmt: skip
