"""Asking for exports in tests, running the job that builds a file, and reading what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from core import db
from core.finance import exports, stored_files
from core.finance.exports import Asked
from core.finance.files.copying import Progress
from core.identity.access import Actor
from core.periods import Period, month_of
from tests.factories import TESTS, Place
from tests.finance.books import last_month


def month(place: Place) -> Period:
    return month_of(last_month(place))


def part_of(place: Place) -> Period:
    """A period that is no whole month, with all of the usage."""
    return Period(month(place).first, month(place).last - timedelta(days=1))


def ask(
    who: Actor, place: Place | None, period: Period, *, kind: str = "usage", form: str = "csv",
    bom: bool = False,
) -> Asked:  # fmt: skip
    tenant_id = place.tenant_id if place else None
    with db.transaction(who) as session:
        return exports.ask(session, who, kind, form, period, tenant_id=tenant_id, bom=bom)


def now(who: Actor, asked: Asked) -> Asked:
    with db.transaction(who) as session:
        return exports.find(session, who, asked.export_id)


def built(who: Actor, asked: Asked) -> Asked:
    """The export after the job that was deferred for it has run."""
    assert asked.file is not None
    stored_files._build(str(asked.file.tenant_id), str(asked.file.file_id))
    return now(who, asked)


def content_of(who: Actor, asked: Asked) -> bytes:
    if asked.file is None:
        with db.transaction(who) as session:
            return b"".join(exports.read_rows(session, who, asked, Progress()))
    content, number = b"", 0
    with db.transaction(who) as session:
        while len(content) < (asked.file.size_bytes or 0):
            content += stored_files.part(session, asked.file.tenant_id, asked.file.file_id, number)
            number += 1
    return content


def jobs_for(asked: Asked) -> int:
    assert asked.file is not None
    with db.transaction(TESTS) as session:
        return session.execute(
            text(
                "select count(*) from jobs.procrastinate_jobs where task_name = 'finance.build_file'"
                " and args->>'file_id' = :file"
            ),
            {"file": str(asked.file.file_id)},
        ).scalar_one()


def together(work: Callable[[], Any], times: int) -> list[Any]:
    ready, found = threading.Barrier(times), []

    def one() -> None:
        ready.wait()
        found.append(work())

    threads = [threading.Thread(target=one) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found
