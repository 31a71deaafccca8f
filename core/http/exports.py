"""GET /exports/{id}: an export as a file, for whoever may have it at that moment. No API key may.

Unknown, foreign, expired and forbidden exports look the same. Decides nothing itself: who may is said
by core/finance/exports.py, anew at every download.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import count
from typing import TypeVar
from uuid import UUID

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from core import db, errors
from core.finance import exports, stored_files
from core.finance.exports import Asked, Download, File
from core.finance.files.copying import Progress
from core.http import problems, work
from core.http.sending import Blocks, Sending
from core.http.sessions import signed_in
from core.http.spool import spooled
from core.identity.access import Operator, Principal, SignedIn

Found = TypeVar("Found")
Reader = Callable[[Session, Principal | Operator, UUID], Found]


async def download(request: Request) -> Response | Sending:
    """The file of an export; with `?part=columns` the dictionary of its columns.

    Raises errors.NotSignedIn, errors.NotFound, errors.Conflict while it is being built.
    """
    person = await signed_in(request)
    if person is None:
        raise errors.NotSignedIn("Please sign in to download this.")
    export_id, whose = _id(request), person.who.bound_tenant_id or "operators"
    if request.query_params.get("part") == "columns":
        _, (name, content) = await work.run(whose, _first, exports.columns, person, export_id)
        return Response(content, headers=_headers(name, "text/csv; charset=utf-8"))
    if request.method == "HEAD":
        _, seen = await work.run(whose, _first, exports.look, person, export_id)
        return Response(headers=_described(seen))
    who, begun = await work.run(whose, _first, exports.download, person, export_id)
    progress, file = Progress(), begun.asked.file
    blocks = _stored(who, file) if file else _read(who, begun.asked, progress)
    return Sending(Blocks(blocks, progress), _described(begun), whose)


def _id(request: Request) -> UUID:
    try:
        return UUID(request.url.path.rpartition("/")[2])
    except ValueError:
        raise errors.NotFound(exports.NO_SUCH) from None


def _first(
    verb: Reader[Found], person: SignedIn, export_id: UUID
) -> tuple[Principal | Operator, Found]:
    """What `verb` says to the first of a person's identities that has the export; and which it was."""
    for who in (person.principal, person.operator):
        if who is None:
            continue
        try:
            with db.transaction(who) as session:
                return who, verb(session, who, export_id)
        except (errors.NotFound, errors.Forbidden):
            continue
    raise errors.NotFound(exports.NO_SUCH)


def _stored(who: Principal | Operator, file: File) -> Generator[bytes]:
    """A file piece by piece, each in a transaction of its own: a slow client holds nothing."""
    left = file.size_bytes or 0
    for number in count():
        if left <= 0:
            return
        with db.transaction(who) as session:
            content = stored_files.part(session, file.tenant_id, file.file_id, number)
        left -= len(content)
        yield content


def _read(who: Principal | Operator, asked: Asked, progress: Progress) -> Generator[bytes]:
    """Rows of one moment; that all were sent is recorded with what identifies them.

    A slow client holds no transaction: the rows wait for it in a file.
    """
    digest = hashlib.sha256()
    with closing(spooled(_rows(who, asked, progress))) as blocks:
        for block in blocks:
            digest.update(block)
            yield block
    with db.transaction(who) as session:
        exports.record_sent(session, who, asked, progress.rows, digest.hexdigest())


def _rows(who: Principal | Operator, asked: Asked, progress: Progress) -> Generator[bytes]:
    with (
        db.transaction(who) as session,
        closing(exports.read_rows(session, who, asked, progress)) as blocks,
    ):
        yield from (block for block in blocks if block)


def _described(begun: Download) -> dict[str, str]:
    file = begun.asked.file
    headers = _headers(begun.file_name, begun.media_type)
    if file and file.sha256:
        headers |= {
            "content-length": str(file.size_bytes), "etag": f'"{file.sha256}"',
            "x-purser-sha256": file.sha256,
        }  # fmt: skip
    return headers


def _headers(file_name: str, media_type: str) -> dict[str, str]:
    return {
        "content-type": media_type,
        "content-disposition": f'attachment; filename="{file_name}"',
        "cache-control": problems.NO_STORE,
    }
