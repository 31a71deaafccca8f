"""Exports: asked for, listed, and handed out to whoever may still have them. Writes no file itself.

Few rows are read while they are sent; many, Excel, and closed months are files built by a job, and a
closed month's file is built once and stays the same for good. Asking and each download are audited.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import clock, errors
from core.db import new_id
from core.finance import stored_files
from core.finance.datasets import catalogue
from core.finance.datasets.columns import Dataset
from core.finance.files import dictionary, writing
from core.finance.files.copying import Progress
from core.finance.tables import Export, ExportFile, PlatformExport
from core.identity import audit
from core.identity.access import Actor, Operator, Principal, Role, require, require_person
from core.identity.tables import Tenant
from core.periods import Period, month_of

STREAMED_ROWS_MAX = 50_000
EXCEL_STREAMED_ROWS_MAX = 5_000  # a second and a half of the interpreter that chats need too
LISTED_MAX = 50
Person: TypeAlias = Principal | Operator
NO_SUCH = "There is no such export, or not any more."


class State(StrEnum):
    """What became of an export."""

    READY = "ready"
    BUILDING = "building"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class File:
    """The file behind an export. Its size and sum are known once it is ready; `error` names what made
    it fail; one that is kept for good is of a closed month."""

    tenant_id: UUID
    file_id: UUID
    state: State
    rows_done: int
    rows_total: int | None
    size_bytes: int | None
    sha256: str | None
    error: str | None
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """An export as it is now; without a tenant it is of all of them, and without a file its rows are
    read while they are sent."""

    export_id: UUID
    tenant_id: UUID | None
    kind: str
    format: str
    period: Period
    bom: bool
    asked_by: UUID
    asked_at: datetime
    expires_at: datetime
    file: File | None

    @property
    def state(self) -> State:
        """Whether it can be downloaded."""
        return self.file.state if self.file else State.READY


@dataclass(frozen=True, slots=True)
class Download:
    """An export that may be sent now, under which name and as what."""

    asked: Asked
    file_name: str
    media_type: str


def ask(
    session: Session, who: Actor, kind: str, format_name: str, period: Period, *,
    tenant_id: UUID | None, bom: bool = False,
) -> Asked:  # fmt: skip
    """Ask for a period of an export; a person without a tenant named asks for their own.

    Raises errors.Forbidden for whom it is not meant (recorded), errors.NotFound for another tenant,
    errors.BadInput for an unknown kind or format, a period that is none, and more of all tenants than
    Excel should hold.
    """
    person = _person(who)
    tenant_id = tenant_id or who.bound_tenant_id
    wanted = writing.find_format(format_name)
    with audit.denials(who, "export.ask", f"tenant:{tenant_id}" if tenant_id else "platform:all"):
        found = catalogue.dataset(session, who, kind, period, tenant_id=tenant_id)
    detail: dict[str, object] = {
        "operators": isinstance(who, Operator),
        "bom": bom and wanted.name == "csv",
    }
    row: Export | PlatformExport
    row = PlatformExport() if tenant_id is None else Export(tenant_id=tenant_id)
    if isinstance(row, Export):
        row.as_operator = isinstance(who, Operator)
        row.file_id = _file(session, row.tenant_id, wanted.name, period, found, detail)
    elif wanted.name == "xlsx" and catalogue.count(session, found) > EXCEL_STREAMED_ROWS_MAX:
        raise errors.BadInput(
            f"Excel files of all tenants hold at most {EXCEL_STREAMED_ROWS_MAX:,} rows. Please choose"
            " another format or a shorter period.",
            param="format",
        )
    row.export_id, row.kind, row.format, row.detail = new_id(), kind, wanted.name, detail
    row.first_day, row.last_day, row.asked_by = period.first, period.last, person.user_id
    row.asked_at = clock.now()
    row.expires_at = row.asked_at + stored_files.KEPT
    session.add(row)
    session.flush()
    asked = _asked(row, _file_of(session, row))
    audit.record(
        session, who, "export.ask", f"export:{row.export_id}", tenant_id=tenant_id,
        after=_facts(asked),
    )  # fmt: skip
    return asked


def list_exports(session: Session, who: Actor, tenant_id: UUID | None) -> tuple[Asked, ...]:
    """What was asked for and has not expired, the newest first, at most LISTED_MAX.

    A tenant's people see what its people asked for and they may have, operators what operators did
    (without a tenant: over all tenants). Raises errors.Forbidden, errors.NotFound for another tenant.
    """
    _require_reader(who, tenant_id)
    now = clock.now()
    if tenant_id is None:
        of_all = select(PlatformExport).where(PlatformExport.expires_at > now)
        newest = of_all.order_by(PlatformExport.asked_at.desc()).limit(LISTED_MAX)
        return tuple(_asked(row, None) for row in session.scalars(newest))
    behind = (ExportFile.tenant_id == Export.tenant_id) & (ExportFile.file_id == Export.file_id)
    rows = session.execute(
        select(Export, ExportFile)
        .outerjoin(ExportFile, behind)
        .where(
            Export.tenant_id == tenant_id, Export.expires_at > now,
            Export.as_operator.is_(isinstance(who, Operator)),
        )
        .order_by(Export.asked_at.desc())
        .limit(LISTED_MAX)
    )  # fmt: skip
    found = [_asked(export, file) for export, file in rows]
    allowed = {one.kind: one for one in found}
    allowed = {kind: one for kind, one in allowed.items() if _may(session, who, one)}
    return tuple(one for one in found if one.kind in allowed)


def find(session: Session, who: Actor, export_id: UUID) -> Asked:
    """An export this person may have now. Raises errors.NotFound for any other, expired ones too, and
    errors.Forbidden for one's own where the role no longer allows it."""
    with _as_missing():
        return _find(session, who, export_id)


def look(session: Session, who: Actor, export_id: UUID) -> Download:
    """What a download would send. Raises as `find`, and errors.Conflict while the file is being built
    or where that failed."""
    with _as_missing():
        return _look(session, who, export_id)


def _look(session: Session, who: Actor, export_id: UUID) -> Download:
    asked = _find(session, who, export_id)
    if asked.state is State.BUILDING:
        done = asked.file.rows_done if asked.file else 0
        raise errors.Conflict(f"This export is still being made: {done:,} rows so far.")
    if asked.state is State.FAILED:
        raise errors.Conflict("This export could not be made. Please ask for it again.")
    media_type = writing.find_format(asked.format).media_type
    return Download(asked, _file_name(session, asked), media_type)


def download(session: Session, who: Actor, export_id: UUID) -> Download:
    """Begin a download, recorded. Raises as `look`; what the role does not allow is recorded too."""
    named = f"export:{export_id}"
    with _as_missing(), audit.denials(who, "export.download", named):
        found = _look(session, who, export_id)
    audit.record(
        session, who, "export.download", named, tenant_id=found.asked.tenant_id,
        after=_facts(found.asked),
    )  # fmt: skip
    return found


def columns(session: Session, who: Actor, export_id: UUID) -> tuple[str, bytes]:
    """The dictionary of an export, with a name for its file. Raises as `find`."""
    asked = find(session, who, export_id)
    return f"purser_{asked.kind}_columns.csv", dictionary.dictionary(_dataset(session, who, asked))


def read_rows(session: Session, who: Actor, asked: Asked, progress: Progress) -> Generator[bytes]:
    """The blocks of an export that has no file, read while they are sent. Raises as `writing.write`."""
    found = _dataset(session, who, asked)
    return writing.write(session, found, asked.format, progress, bom=asked.bom)


def record_sent(session: Session, who: Actor, asked: Asked, rows: int, sha256: str) -> None:
    """Record that rows without a file were sent to their end: how many, and what identifies them."""
    audit.record(
        session, who, "export.sent", f"export:{asked.export_id}", tenant_id=asked.tenant_id,
        after={**_facts(asked), "rows": rows, "sha256": sha256},
    )  # fmt: skip


def _file(
    session: Session, tenant_id: UUID, format_name: str, period: Period, found: Dataset,
    detail: dict[str, object],
) -> UUID | None:  # fmt: skip
    """The file that an export of a tenant needs; None where its rows are few."""
    closing_id = stored_files.closing_of(session, tenant_id, period)
    rows = catalogue.count(session, found)
    if closing_id is None and format_name != "xlsx" and rows <= STREAMED_ROWS_MAX:
        return None
    return stored_files.order(
        session, tenant_id, found.kind, format_name, period, detail, closing_id, rows
    )


def _person(who: Actor) -> Person:
    require_person(who)
    if not isinstance(who, Principal | Operator):
        raise errors.Forbidden("Only people ask for exports.")
    return who


def _require_reader(who: Actor, tenant_id: UUID | None) -> None:
    if isinstance(_person(who), Principal):
        require(who, Role.ADMIN, Role.FINANCE)
        if tenant_id != who.bound_tenant_id:
            raise errors.NotFound("There is no such tenant.")


def _may(session: Session, who: Actor, asked: Asked) -> bool:
    try:
        _dataset(session, who, asked)
    except errors.Forbidden:
        return False
    return True


class _OfOthers(errors.Forbidden):
    """What a colleague asked for, and this role may not have: that it exists is not told."""


@contextmanager
def _as_missing() -> Iterator[None]:
    try:
        yield
    except _OfOthers:
        raise errors.NotFound(NO_SUCH) from None


def _find(session: Session, who: Actor, export_id: UUID) -> Asked:
    person = _person(who)
    row = _row(session, who, export_id)
    if row is None or row.expires_at <= clock.now():
        raise errors.NotFound(NO_SUCH)
    asked = _asked(row, _file_of(session, row))
    try:
        _dataset(session, who, asked)
    except errors.Forbidden as refusal:
        if asked.asked_by == person.user_id:
            raise
        raise _OfOthers(refusal.message) from None
    return asked


def _row(session: Session, who: Actor, export_id: UUID) -> Export | PlatformExport | None:
    """A tenant's people get what its people asked for, operators what operators did."""
    mine = select(Export).where(Export.export_id == export_id)
    if isinstance(who, Principal):
        return session.scalar(
            mine.where(Export.tenant_id == who.tenant_id, Export.as_operator.is_(False))
        )
    found = session.scalar(mine.where(Export.as_operator.is_(True)))
    return found or session.get(PlatformExport, export_id)


def _file_of(session: Session, row: Export | PlatformExport) -> ExportFile | None:
    if isinstance(row, PlatformExport) or row.file_id is None:
        return None
    return session.get_one(ExportFile, (row.tenant_id, row.file_id))


def _dataset(session: Session, who: Actor, asked: Asked) -> Dataset:
    return catalogue.dataset(session, who, asked.kind, asked.period, tenant_id=asked.tenant_id)


def _asked(row: Export | PlatformExport, file: ExportFile | None) -> Asked:
    return Asked(
        row.export_id, row.tenant_id if isinstance(row, Export) else None, row.kind, row.format,
        Period(row.first_day, row.last_day), bool(row.detail["bom"]), row.asked_by, row.asked_at,
        row.expires_at, _described(file) if file else None,
    )  # fmt: skip


def _described(file: ExportFile) -> File:
    return File(
        file.tenant_id, file.file_id, State(file.state), file.rows_done, file.rows_total, file.size_bytes,
        file.sha256, file.detail.get("error"), is_kept=file.closing_id is not None,
    )  # fmt: skip


def _facts(asked: Asked) -> dict[str, object]:
    """What the audit log says of an export."""
    facts: dict[str, object] = {
        "kind": asked.kind, "format": asked.format,
        "from": asked.period.first, "to": asked.period.last,
    }  # fmt: skip
    if asked.file and asked.file.state is State.READY:
        facts |= {"rows": asked.file.rows_total, "sha256": asked.file.sha256}
    return facts


def _file_name(session: Session, asked: Asked) -> str:
    """Such as purser_usage_2026-10_acme.csv: letters, digits, '-', '_' and one dot."""
    period = asked.period
    days = f"{period.first}_{period.last}"
    if period == month_of(period.first):
        days = f"{period.first:%Y-%m}"
    owner = "all"
    if asked.tenant_id is not None:
        name = session.get_one(Tenant, asked.tenant_id).name
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        owner = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "tenant"
    return f"purser_{asked.kind}_{days}_{owner}.{asked.format}"
