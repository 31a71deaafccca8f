"""Files that are built once and kept: of closed months for good, others for some days.

A build may be repeated at any time: it starts the file anew, and only a whole one is ever ready. A
tenant's file is read as the tenant sees its books, under row security.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Update, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock, db, errors, jobs
from core.alerts import notices
from core.db import System, new_id
from core.finance.datasets import catalogue
from core.finance.files import folders, writing
from core.finance.files.copying import Progress
from core.finance.tables import Closing, Export, ExportFile, ExportPart
from core.identity.access import Principal, Role
from core.identity.tables import Tenant
from core.jobs import Queue
from core.periods import Period, month_of

PART_BYTES = 1024 * 1024
KEPT = timedelta(days=7)
_TOLD_EVERY_ROWS = 20_000
_SYSTEM = System("export")


def order(
    session: Session, tenant_id: UUID, kind: str, format_name: str, period: Period,
    detail: dict[str, object], closing_id: UUID | None, rows: int,
) -> UUID:  # fmt: skip
    """The file of this, as it is or as it is being built; else a job to build it, and its id. `rows`
    is how many it is likely to have."""
    made = insert(ExportFile).values(
        tenant_id=tenant_id, file_id=new_id(), closing_id=closing_id, kind=kind, format=format_name,
        first_day=period.first, last_day=period.last, detail=detail, rows_total=rows,
        expires_at=None if closing_id else clock.now() + KEPT + timedelta(days=1),
    )  # fmt: skip
    same = select(ExportFile.file_id).where(
        ExportFile.tenant_id == tenant_id, ExportFile.closing_id.is_not_distinct_from(closing_id),
        ExportFile.kind == kind, ExportFile.format == format_name, ExportFile.detail == detail,
        ExportFile.first_day == period.first, ExportFile.last_day == period.last,
        ExportFile.state.in_(("building", "ready") if closing_id else ("building",)),
    )  # fmt: skip
    if (found := session.scalar(same.limit(1))) is None:
        found = session.scalar(made.on_conflict_do_nothing().returning(ExportFile.file_id))
        if found is None:  # somebody asked for it at the same moment
            return session.scalars(same).one()
        jobs.defer(session, "finance.build_file", tenant_id=tenant_id, file_id=found)
    return found


def closing_of(session: Session, tenant_id: UUID, period: Period) -> UUID | None:
    """The closing that holds a period, where it is exactly one closed month."""
    if period != month_of(period.first):
        return None
    return session.scalar(
        select(Closing.closing_id).where(
            Closing.tenant_id == tenant_id, Closing.month == period.first,
            Closing.reopened_at.is_(None),
        )
    )  # fmt: skip


def part(session: Session, tenant_id: UUID, file_id: UUID, number: int) -> bytes:
    """A piece of a ready file, from 0. Raises errors.NotFound when it was deleted."""
    content = session.scalar(
        select(ExportPart.content).where(
            ExportPart.tenant_id == tenant_id, ExportPart.file_id == file_id,
            ExportPart.part == number,
        )
    )  # fmt: skip
    if content is None:
        raise errors.NotFound("This file is no longer kept.")
    return content


def build(tenant_id: UUID, file_id: UUID) -> None:
    """Build a file that waits for it; one that is ready or failed stays so. Opens its transactions.

    Raises errors.Unavailable, to be tried again, where the database is away or another build of the
    file is still at work; any other error makes the file a failed one.
    """
    with db.transaction(_SYSTEM) as session:
        file = session.get(ExportFile, (tenant_id, file_id))
        if file is None or file.state != "building":
            return
        reader = _SYSTEM if file.detail["operators"] else _as_tenant(session, tenant_id)
    try:
        _write(file, reader)
    except errors.Unavailable:
        raise
    except Exception as error:  # the person who waits learns of it, whatever it is
        with db.transaction(_SYSTEM) as session:
            _fail(session, file, type(error).__name__)
        raise


def sweep(session: Session) -> None:
    """Give up builds that nobody finishes, delete what expired, and later the trace of it."""
    for statement in _SWEEP:
        session.execute(text(statement))


class _Parts:
    """Stores a file piece by piece, each in a transaction of its own, so that progress shows."""

    def __init__(self, file: ExportFile) -> None:
        self.size_bytes, self.sha256 = 0, hashlib.sha256()
        self._file, self._held, self._count, self._told_rows = file, bytearray(), 0, 0

    def start(self) -> None:
        """Forget what a build left behind that did not end."""
        with db.transaction(_SYSTEM) as session:
            session.execute(
                delete(ExportPart).where(
                    ExportPart.tenant_id == self._file.tenant_id,
                    ExportPart.file_id == self._file.file_id,
                )
            )
            session.execute(_changed(self._file, rows_done=0))

    def add(self, block: bytes, rows: int) -> None:
        """Take a block, after which the file has so many rows."""
        self.size_bytes += len(block)
        self.sha256.update(block)
        self._held += block
        while len(self._held) >= PART_BYTES:
            self._store(rows)
        if rows - self._told_rows >= _TOLD_EVERY_ROWS:
            self._told_rows = rows
            with db.transaction(_SYSTEM) as session:
                session.execute(_changed(self._file, rows_done=rows))

    def end(self, rows: int) -> None:
        """Store the rest; the file is ready then, and whoever waits for it is told."""
        if self._held:
            self._store(rows)
        with db.transaction(_SYSTEM) as session:
            _require_closed(session, self._file)
            session.execute(
                _changed(
                    self._file, state="ready", rows_total=rows, rows_done=rows,
                    size_bytes=self.size_bytes, sha256=self.sha256.hexdigest(), built_at=func.now(),
                )
            )  # fmt: skip
            _tell(session, self._file)

    def _store(self, rows: int) -> None:
        content = bytes(self._held[:PART_BYTES])
        del self._held[:PART_BYTES]
        with db.transaction(_SYSTEM) as session:
            session.execute(
                insert(ExportPart).values(
                    tenant_id=self._file.tenant_id, file_id=self._file.file_id, part=self._count,
                    content=content,
                )
            )  # fmt: skip
            session.execute(_changed(self._file, rows_done=rows))
        self._count += 1
        self._told_rows = rows


def _write(file: ExportFile, reader: Principal | System) -> None:
    """Read the rows in one transaction, while others store the file."""
    parts, progress = _Parts(file), Progress()
    with db.transaction(reader) as session:
        locked = text("select pg_try_advisory_xact_lock(hashtextextended(:file, 0))")
        if not session.scalar(locked, {"file": f"export file {file.file_id}"}):
            raise errors.Unavailable("This file is being built already.")
        parts.start()
        found = catalogue.dataset(
            session, reader, file.kind, Period(file.first_day, file.last_day),
            tenant_id=file.tenant_id,
        )  # fmt: skip
        bom = bool(file.detail["bom"])
        for block in writing.write(session, found, file.format, progress, bom=bom):
            parts.add(block, progress.rows)
        parts.end(progress.rows)


def _as_tenant(session: Session, tenant_id: UUID) -> Principal:
    """Whoever keeps the tenant's books: who may have the file is asked again at each download."""
    tenant = session.get_one(Tenant, tenant_id)
    return Principal(
        tenant_id=tenant_id, user_id=tenant_id, role=Role.ADMIN, email="", name="",
        tenant_name=tenant.name, plan=tenant.plan, mode=tenant.mode, time_zone="UTC",
    )  # fmt: skip


def _require_closed(session: Session, file: ExportFile) -> None:
    """Raise errors.Conflict where the month was reopened while its file was being built."""
    if file.closing_id is None:
        return
    closing = session.get_one(Closing, (file.tenant_id, file.closing_id))
    if closing.reopened_at is not None:
        raise errors.Conflict("The month was reopened meanwhile.")


def _tell(session: Session, file: ExportFile) -> None:
    waiting = select(Export).where(
        Export.tenant_id == file.tenant_id, Export.file_id == file.file_id
    )
    for export in session.scalars(waiting):
        notices.post(
            session, file.tenant_id, kind="export.ready", key=str(export.export_id),
            audience="user", user_id=export.asked_by,
            facts={
                "export_id": str(export.export_id), "kind": file.kind, "format": file.format,
                "first_day": str(file.first_day), "last_day": str(file.last_day),
            },
        )  # fmt: skip


def _fail(session: Session, file: ExportFile, error: str) -> None:
    session.execute(_changed(file, state="failed", detail={**file.detail, "error": error}))


def _changed(file: ExportFile, **values: object) -> Update:
    """The statement that changes a file which is still being built."""
    return (
        update(ExportFile)
        .where(
            ExportFile.tenant_id == file.tenant_id, ExportFile.file_id == file.file_id,
            ExportFile.state == "building",
        )
        .values(**values)
    )  # fmt: skip


_SWEEP = (
    """update app.export_files
set state = 'failed', detail = detail || jsonb_build_object('error', 'GivenUp')
where state = 'building' and created_at < now() - interval '6 hours'""",
    """delete from app.export_parts p using app.export_files f
where f.tenant_id = p.tenant_id and f.file_id = p.file_id
  and (f.expires_at < now() or f.state = 'failed')""",
    "delete from app.exports where expires_at < now() - interval '30 days'",
    "delete from app.platform_exports where expires_at < now() - interval '30 days'",
    """delete from app.export_files f
where (f.expires_at < now() or f.state = 'failed') and f.created_at < now() - interval '30 days'
  and not exists (select from app.exports e where e.tenant_id = f.tenant_id and e.file_id = f.file_id)""",
)


@jobs.task("finance.build_file", Queue.LONG)
def _build(tenant_id: str, file_id: str) -> None:
    build(UUID(tenant_id), UUID(file_id))


@jobs.periodic("25 3 * * *", "finance.sweep_files", Queue.LONG)
def _sweep() -> None:
    folders.sweep()
    with db.transaction(System("expired exports")) as session:
        sweep(session)
