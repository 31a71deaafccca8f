"""CSV as RFC 4180 has it, in UTF-8, written by Postgres itself; lines end with LF. Every text is
quoted, which also tells an empty one from nothing."""

from __future__ import annotations

from collections.abc import Generator

from sqlalchemy.orm import Session

from core.finance.datasets.columns import Dataset, Type
from core.finance.files import cells, copying
from core.finance.files.copying import Progress


def blocks(
    session: Session, found: Dataset, progress: Progress, *, header: bool = True
) -> Generator[bytes]:
    """The file, with a line of column names first; without, a later part of it."""
    whole_hours = copying.begin(session, found.zone)
    shown = ", ".join(
        cells.as_csv(column, found.zone, whole_hours=whole_hours) for column in found.columns
    )
    texts = ", ".join(cells.named(one) for one in found.columns if one.type is Type.TEXT)
    options = f"format csv, header {str(header).lower()}"
    if texts:
        options += f", force_quote ({texts})"
    return copying.blocks(
        session,
        f"copy (select {shown} from ({found.query.sql}) as d) to stdout ({options})",  # noqa: S608
        found.query.parameters, progress, header_lines=int(header),
    )  # fmt: skip
