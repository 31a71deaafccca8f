"""`export KIND`: an export of one tenant, or of all, written to a file. The file is there whole or not
at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO
from uuid import UUID

import click

from core import db, errors
from core.commands import finding
from core.commands.connection import WHO, connected
from core.commands.output import Command, answer
from core.finance.datasets import catalogue
from core.finance.files import writing
from core.finance.files.copying import Progress
from core.identity import audit
from core.periods import Period

_DAY = click.DateTime(["%Y-%m-%d"])
_FOCUS = "focus"


@dataclass(frozen=True, slots=True)
class _Written:
    rows: int
    size_bytes: int
    sha256: str


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(catalogue.KINDS))
@click.option("--from", "first", type=_DAY, required=True, help="The first day, YYYY-MM-DD.")
@click.option("--to", "last", type=_DAY, required=True, help="The last day.")
@click.option("--tenant", "tenant_name", help="Only this one: id or exact name.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice([*writing.FORMATS, _FOCUS]),
    default="csv",
    show_default=True,
    help="'focus' is the usage as FOCUS, in CSV.",
)
@click.option("--bom", is_flag=True, help="Begin a CSV with a byte order mark.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
def export(
    kind: str, first: datetime, last: datetime, tenant_name: str | None, format_name: str, *,
    bom: bool, output: Path,
) -> None:  # fmt: skip
    """Write an export of days of each tenant's own calendar to a file; prints its SHA-256."""
    if format_name == _FOCUS:
        if kind != "usage":
            raise click.UsageError("The format 'focus' is of usage only.")
        kind, format_name = _FOCUS, "csv"
    period = Period(first.date(), last.date())
    with connected():
        tenant_id = _tenant(tenant_name)
        written = _write(kind, period, tenant_id, format_name, output, bom=bom)
    answer(
        f"{written.rows} rows, SHA-256 {written.sha256}",
        {
            "id": written.sha256, "kind": kind, "format": format_name, "rows": written.rows,
            "size_bytes": written.size_bytes, "sha256": written.sha256, "file": str(output),
        },
    )  # fmt: skip


def _tenant(name: str | None) -> UUID | None:
    if name is None:
        return None
    with db.transaction(WHO) as session:
        return finding.tenant(session, name).tenant_id


def _write(
    kind: str, period: Period, tenant_id: UUID | None, format_name: str, output: Path, *, bom: bool
) -> _Written:
    progress, digest = Progress(), hashlib.sha256()
    with _beside(output) as file, db.transaction(WHO) as session:
        found = catalogue.dataset(session, WHO, kind, period, tenant_id=tenant_id)
        for block in writing.write(session, found, format_name, progress, bom=bom):
            digest.update(block)
            file.write(block)
        written = _Written(progress.rows, file.tell(), digest.hexdigest())
        audit.record(
            session, WHO, "export.write", f"tenant:{tenant_id}" if tenant_id else "platform:all",
            tenant_id=tenant_id,
            after={
                "kind": kind, "format": format_name, "from": period.first, "to": period.last,
                "rows": written.rows, "sha256": written.sha256,
            },
        )  # fmt: skip
    return written


@contextmanager
def _beside(output: Path) -> Iterator[IO[bytes]]:
    """A file beside the one wanted; only what was written whole takes its name."""
    part = output.with_name(f".{output.name}.{db.new_id().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise errors.BadInput(f"Cannot write {output}: {error.strerror}.", param="output") from None
    finally:
        part.unlink(missing_ok=True)
