"""Files of exports: of closed months once and for good, others for days; a build may break and repeat."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from sqlalchemy import text

from core import db, errors
from core.alerts import notices
from core.finance import closing, exports, stored_files
from core.finance.exports import Asked, State
from core.finance.files import writing
from core.finance.files.copying import Progress
from tests.analytics.using import correct
from tests.factories import TESTS, Place
from tests.finance.books import an_operator, close, guessed, keeper, last_month, within
from tests.finance.exporting import ask, built, content_of, jobs_for, month, now, part_of, together
from tests.finance.files_read import read_csv, read_xlsx, sheets_of
from tests.finance.rows import change, read

pytestmark = pytest.mark.usefixtures("database")


def test_many_rows_become_a_file_by_a_job(used: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "STREAMED_ROWS_MAX", 2)
    who = keeper(used)
    asked = ask(who, used, part_of(used))
    assert asked.state is State.BUILDING and jobs_for(asked) == 1
    done = built(who, asked)
    assert done.file is not None and done.state is State.READY
    content = content_of(who, done)
    assert (done.file.rows_total, done.file.size_bytes) == (3, len(content))
    assert done.file.sha256 == hashlib.sha256(content).hexdigest()
    assert len(read_csv(content)) == 3 and not done.file.is_kept


def test_a_streamed_and_a_stored_file_are_the_same(
    used: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = keeper(used)
    streamed = content_of(who, ask(who, used, part_of(used), bom=True))
    monkeypatch.setattr(exports, "STREAMED_ROWS_MAX", 2)
    assert content_of(who, built(who, ask(who, used, part_of(used), bom=True))) == streamed
    assert streamed.startswith(b"\xef\xbb\xbf")


def test_excel_is_always_a_file(used: Place) -> None:
    who = keeper(used)
    asked = built(who, ask(who, used, part_of(used), form="xlsx"))
    content = content_of(who, asked)
    rows = read_xlsx(content)
    assert [row["call_id"] for row in rows] == [
        row["call_id"] for row in read(who, "usage", part_of(used))
    ]
    totals = {line[0]: line[2] for line in sheets_of(content)["Totals"][1:]}
    assert totals["billed_cost_usd"] == "1.890432101" and totals["rows"] == "3"
    assert {row["cost_center"] for row in rows} == {"=1+1"}


@pytest.mark.parametrize("form", writing.FORMATS)
def test_a_closed_month_is_built_once_and_stays_the_same(
    used: Place, used_model: str, form: str
) -> None:
    late = guessed(used, used_model, within(used, last_month(used)), "0.5")
    with db.transaction(TESTS) as session:
        session.execute(
            text("delete from app.lookups where call_id = :call"), {"call": late.call_id}
        )
    close(used, last_month(used))
    who, other = keeper(used), keeper(used)
    first = built(who, ask(who, used, month(used), form=form))
    assert first.file is not None and first.file.is_kept
    content = content_of(who, first)
    correct(late, "0.4")
    again = ask(other, used, month(used), form=form)
    assert again.state is State.READY and again.file == first.file and jobs_for(again) == 1
    assert content_of(other, again) == content


@pytest.mark.parametrize("form", writing.FORMATS)
def test_a_closed_month_built_anew_from_its_rows_has_the_same_bytes(used: Place, form: str) -> None:
    close(used, last_month(used))
    who = keeper(used)
    first = built(who, ask(who, used, month(used), form=form))
    assert first.file is not None
    change("delete from app.exports where tenant_id = :t", t=used.tenant_id)
    change("delete from app.export_files where tenant_id = :t", t=used.tenant_id)
    second = built(who, ask(who, used, month(used), form=form))
    assert second.file is not None and second.file.file_id != first.file.file_id
    assert (second.file.sha256, second.file.size_bytes) == (
        first.file.sha256,
        first.file.size_bytes,
    )


def test_a_reopened_month_has_no_kept_file(used: Place) -> None:
    close(used, last_month(used))
    who, operator = keeper(used), an_operator()
    first = built(who, ask(who, used, month(used)))
    with db.transaction(operator) as session:
        closing.reopen(session, operator, used.tenant_id, last_month(used), reason="a late bill")
    assert ask(who, used, month(used)).file is None
    close(used, last_month(used))
    second = ask(who, used, month(used))
    assert first.file and second.file and second.file.file_id != first.file.file_id


def test_a_month_reopened_while_its_file_is_built_gives_none(used: Place) -> None:
    close(used, last_month(used))
    who, operator = keeper(used), an_operator()
    asked = ask(who, used, month(used))
    with db.transaction(operator) as session:
        closing.reopen(session, operator, used.tenant_id, last_month(used), reason="a late bill")
    with pytest.raises(errors.Conflict):
        built(who, asked)
    assert now(who, asked).state is State.FAILED


def test_what_changes_the_bytes_is_another_file(used: Place) -> None:
    close(used, last_month(used))
    who, operator = keeper(used), an_operator()
    files = [
        ask(who, used, month(used)).file, ask(who, used, month(used), bom=True).file,
        ask(operator, used, month(used)).file, ask(who, used, month(used), form="jsonl").file,
        ask(who, used, month(used), kind="daily").file,
    ]  # fmt: skip
    assert len({file.file_id for file in files if file}) == 5
    same = ask(who, used, month(used), form="jsonl", bom=True).file  # a mark is for CSV only
    assert same == files[3]


def test_asked_for_at_once_it_is_built_once(used: Place) -> None:
    close(used, last_month(used))
    who = keeper(used)
    found = together(lambda: ask(who, used, month(used)), 6)
    assert len(found) == 6 and len({asked.file.file_id for asked in found}) == 1
    assert len({asked.export_id for asked in found}) == 6
    assert jobs_for(found[0]) == 1


def test_two_workers_build_one_file(used: Place) -> None:
    who = keeper(used)
    asked = ask(who, used, part_of(used), form="xlsx")
    assert asked.file is not None
    file = asked.file

    def work() -> str:
        try:
            stored_files.build(file.tenant_id, file.file_id)
        except errors.Unavailable:
            return "later"
        return "done"

    assert set(together(work, 3)) <= {"done", "later"}
    done = now(who, asked)
    assert done.file is not None and done.state is State.READY
    assert hashlib.sha256(content_of(who, done)).hexdigest() == done.file.sha256


def test_a_build_that_was_killed_begins_anew(used: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "PART_BYTES", 500)
    who = keeper(used)
    asked = ask(who, used, part_of(used), form="xlsx")
    assert asked.file is not None
    for number in range(40):
        change(
            "insert into app.export_parts(tenant_id, file_id, part, content)"
            " values (:t, :f, :n, 'half of it')",
            t=used.tenant_id, f=asked.file.file_id, n=number,
        )  # fmt: skip
    change("update app.export_files set rows_done = 99 where file_id = :f", f=asked.file.file_id)
    done = built(who, asked)
    assert done.file is not None
    assert hashlib.sha256(content_of(who, done)).hexdigest() == done.file.sha256
    assert done.file.rows_done == 3
    stored_files.build(used.tenant_id, asked.file.file_id)  # the job once more: nothing happens
    assert now(who, asked) == done


def test_progress_shows_while_a_file_is_built(used: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "PART_BYTES", 100)
    monkeypatch.setattr(stored_files, "_TOLD_EVERY_ROWS", 1)
    who, seen = keeper(used), []
    asked = ask(who, used, part_of(used), form="xlsx")
    true_write = writing.write

    def write(*given: Any, **named: Any) -> Any:
        progress: Progress = given[3]
        yield b"abc"
        progress.rows = 2
        yield b""
        seen.append(now(who, asked))
        progress.rows = 0
        yield from true_write(*given, **named)

    monkeypatch.setattr(writing, "write", write)
    built(who, asked)
    assert [(one.state, one.file and one.file.rows_done) for one in seen] == [(State.BUILDING, 2)]


def test_a_failed_build_says_so_and_can_be_asked_for_again(
    used: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(used, last_month(used))
    who = keeper(used)
    asked = ask(who, used, month(used))
    assert asked.file is not None
    with monkeypatch.context() as broken:
        broken.setattr(writing, "write", lambda *_, **__: iter([1]))
        with pytest.raises(TypeError):
            stored_files.build(used.tenant_id, asked.file.file_id)
    failed = now(who, asked)
    assert failed.file is not None and (failed.state, failed.file.error) == (
        State.FAILED,
        "TypeError",
    )
    with pytest.raises(errors.Conflict), db.transaction(who) as session:
        exports.download(session, who, asked.export_id)
    again = built(who, ask(who, used, month(used)))
    assert again.state is State.READY and again.file and again.file.file_id != asked.file.file_id


def test_a_lost_database_leaves_the_build_to_be_tried_again(
    used: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_given: object, **_named: object) -> Any:
        raise errors.Unavailable("away")

    who = keeper(used)
    asked = ask(who, used, part_of(used), form="xlsx")
    with monkeypatch.context() as broken:
        broken.setattr(writing, "write", away)
        with pytest.raises(errors.Unavailable):
            built(who, asked)
    assert now(who, asked).state is State.BUILDING
    assert built(who, asked).state is State.READY


def test_whoever_waits_is_told_once_when_it_is_ready(used: Place) -> None:
    close(used, last_month(used))
    one, two = keeper(used), keeper(used)
    asked, other = ask(one, used, month(used)), ask(two, used, month(used))
    built(one, asked)
    ask(one, used, month(used))  # immediate: nothing to tell
    for who, waiting in ((one, asked), (two, other)):
        with db.transaction(who) as session:
            told = [note for note in notices.inbox(session, who) if note.kind == "export.ready"]
        assert [note.facts["export_id"] for note in told] == [str(waiting.export_id)]


def age(asked: Asked, days: int) -> None:
    """Let days pass for an export and its file."""
    for statement in (
        "update app.exports set expires_at = expires_at - make_interval(days => :d)"
        " where export_id = :e",
        "update app.export_files f set expires_at = f.expires_at - make_interval(days => :d),"
        " created_at = f.created_at - make_interval(days => :d)"
        " from app.exports e where e.file_id = f.file_id and e.export_id = :e",
    ):
        change(statement, e=asked.export_id, d=days)


def kept(place: Place) -> tuple[int, int, int]:
    """How many exports, files and parts of files a tenant has."""
    with db.transaction(TESTS) as session:
        return tuple(  # type: ignore[return-value]
            session.scalar(
                text(f"select count(*) from app.{table} where tenant_id = :t"),
                {"t": place.tenant_id},
            )
            for table in ("exports", "export_files", "export_parts")
        )


def sweep() -> None:
    with db.transaction(TESTS) as session:
        stored_files.sweep(session)


def test_files_expire_and_their_trace_later(used: Place) -> None:
    who = keeper(used)
    asked = built(who, ask(who, used, part_of(used), form="xlsx"))
    sweep()
    assert kept(used) == (1, 1, 1)
    age(asked, 9)
    sweep()
    assert kept(used) == (1, 1, 0)
    age(asked, 30)
    sweep()
    assert kept(used) == (0, 0, 0)


def test_files_of_closed_months_do_not_expire(used: Place) -> None:
    close(used, last_month(used))
    who = keeper(used)
    asked = built(who, ask(who, used, month(used)))
    age(asked, 400)
    sweep()
    assert kept(used) == (0, 1, 1)
    again = ask(who, used, month(used))
    assert again.file == asked.file and read_csv(content_of(who, again))


def test_a_build_nobody_finishes_is_given_up(used: Place) -> None:
    who = keeper(used)
    asked = ask(who, used, part_of(used), form="xlsx")
    change(
        "update app.export_files set created_at = now() - interval '7 hours' where tenant_id = :t",
        t=used.tenant_id,
    )
    sweep()
    given_up = now(who, asked)
    assert given_up.file is not None
    assert (given_up.state, given_up.file.error) == (State.FAILED, "GivenUp")
