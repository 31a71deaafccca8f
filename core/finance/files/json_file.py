"""JSON Lines, written by Postgres itself: an object per row, exact decimals as numbers, ISO times."""

from __future__ import annotations

from collections.abc import Generator

from sqlalchemy.orm import Session

from core.finance.datasets.columns import Dataset
from core.finance.files import cells, copying
from core.finance.files.copying import Progress

# No control character stands in JSON as such: with these nothing is ever quoted or doubled.
_AS_IT_IS = r"format csv, delimiter E'\x02', quote E'\x01'"


def blocks(session: Session, found: Dataset, progress: Progress) -> Generator[bytes]:
    """The file; its keys are the columns, in their order."""
    copying.begin(session, found.zone)
    shown = ", ".join(cells.as_json(column, found.zone) for column in found.columns)
    return copying.blocks(
        session,
        f"copy (select row_to_json(r) from (select {shown} from ({found.query.sql}) as d) as r)"  # noqa: S608
        f" to stdout ({_AS_IT_IS})",
        found.query.parameters, progress,
    )  # fmt: skip
