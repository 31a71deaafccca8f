"""Exports from asking to the file: closed months once and for good, others for days, for whom they are."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.alerts import notices
from core.db import new_id
from core.finance import closing, exports, stored_files
from core.finance.exports import Asked, State
from core.finance.files import writing
from core.finance.files.copying import Progress
from core.identity.access import Actor, Operator, Principal, Role
from core.periods import Period, month_of
from tests.analytics.using import correct, use
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.books import an_operator, close, guessed, keeper, last_month, old_place, within
from tests.finance.files_read import read_csv, read_xlsx, sheets_of
from tests.finance.rows import change, read
from tests.identity.people import audit_rows

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def model(database: db.Database) -> str:
    db.install(database)
    return make_model()


@pytest.fixture
def used(model: str) -> Place:
    """A tenant with some calls of last month, a markup, and cost centres that look like formulas."""
    place = old_place(time_zone="Europe/Berlin", markup="0.25")
    change(
        "update app.tenants set cost_center = '=1+1' where tenant_id = :tenant",
        tenant=place.tenant_id,
    )
    begins = within(place, last_month(place))
    for hours, usd in enumerate(("0.0123456789", "0.000000001", "1.5")):
        use(place.who, model, usd, at=begins + timedelta(hours=hours))
    return place


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
    stored_files.build(asked.file.tenant_id, asked.file.file_id)
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


def test_few_rows_are_read_while_they_are_sent(used: Place) -> None:
    who = keeper(used)
    asked = ask(who, used, part_of(used))
    assert asked.file is None and asked.state is State.READY
    rows = read_csv(content_of(who, asked))
    expected = read(who, "usage", part_of(used))
    assert [row["call_id"] for row in rows] == [row["call_id"] for row in expected]
    assert [Decimal(row["billed_cost_usd"]) for row in rows] == [
        row["billed_cost_usd"] for row in expected
    ]
    assert sum(Decimal(row["billed_cost_usd"]) for row in rows) == Decimal("1.890432101")
    assert {row["cost_center"] for row in rows} == {"'=1+1"}
    assert "list_cost_usd" not in rows[0]


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


@pytest.mark.parametrize("kind", ["daily", "statement", "chargeback", "focus", "audit"])
@pytest.mark.parametrize("form", writing.FORMATS)
def test_every_kind_comes_in_every_format(used: Place, kind: str, form: str) -> None:
    who = keeper(used, Role.ADMIN)
    period = Period(month(used).first, month(used).last + timedelta(days=40))
    asked = ask(who, used, period, kind=kind, form=form)
    content = content_of(who, built(who, asked) if asked.file else asked)
    assert len(content) > 40


@pytest.mark.parametrize("form", writing.FORMATS)
def test_a_closed_month_is_built_once_and_stays_the_same(
    used: Place, model: str, form: str
) -> None:
    late = guessed(used, model, within(used, last_month(used)), "0.5")
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


def test_operators_get_what_the_platform_pays_and_tenants_never_do(
    used: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "STREAMED_ROWS_MAX", 2)
    who, operator = keeper(used), an_operator()
    theirs, ours = ask(operator, used, part_of(used)), ask(who, used, part_of(used))
    (row, *_) = read_csv(content_of(operator, built(operator, theirs)))
    assert Decimal(row["billed_cost_usd"]) > Decimal(row["list_cost_usd"]) > 0
    assert "list_cost_usd" not in read_csv(content_of(who, built(who, ours)))[0]
    with pytest.raises(errors.NotFound):
        now(who, theirs)
    with pytest.raises(errors.NotFound):
        now(operator, ours)


def test_the_audit_of_a_tenants_file_lacks_the_markup(used: Place) -> None:
    """The job reads as the tenant: it would see everything as the System."""
    change(
        "insert into app.audit_log(actor, of_tenant, action, object, outcome, after)"
        " values ('operator:x', :t, 'tenant.markup', 'tenant:x', 'done', '{\"markup\": \"0.31\"}')",
        t=used.tenant_id,
    )  # fmt: skip
    who = keeper(used, Role.ADMIN)
    today = Period(date(2020, 1, 1), date(2027, 1, 1))
    content = content_of(who, built(who, ask(who, used, today, kind="audit", form="xlsx")))
    assert any(row["action"] == "tenant.markup" for row in read_xlsx(content))
    assert not any("0.31" in str(row["after"]) for row in read_xlsx(content))


def test_all_tenants_are_for_operators_and_never_a_file(used: Place) -> None:
    operator = an_operator()
    asked = ask(operator, None, part_of(used), kind="daily", form="jsonl")
    assert (asked.tenant_id, asked.file, asked.state) == (None, None, State.READY)
    assert str(used.tenant_id).encode() in content_of(operator, asked)
    assert now(operator, asked) == asked
    with pytest.raises(errors.NotFound):
        now(keeper(used), asked)


def test_excel_of_all_tenants_is_small_or_refused(
    used: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = an_operator()
    assert read_xlsx(content_of(operator, ask(operator, None, part_of(used), form="xlsx")))
    monkeypatch.setattr(exports, "STREAMED_ROWS_MAX", 2)
    with pytest.raises(errors.BadInput) as refused:
        ask(operator, None, part_of(used), form="xlsx")
    assert refused.value.param == "format"


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


ROLES: list[tuple[Role, str, bool]] = [
    (Role.FINANCE, "usage", True), (Role.ADMIN, "usage", True), (Role.MEMBER, "usage", False),
    (Role.ADMIN, "audit", True), (Role.FINANCE, "audit", False), (Role.MEMBER, "audit", False),
]  # fmt: skip


@pytest.mark.parametrize(("role", "kind", "allowed"), ROLES)
def test_who_may_ask(used: Place, role: Role, kind: str, allowed: bool) -> None:
    who = keeper(used, role)
    if allowed:
        assert ask(who, used, part_of(used), kind=kind).kind == kind
        return
    with pytest.raises(errors.Forbidden):
        ask(who, used, part_of(used), kind=kind)
    assert ("export.ask", "denied") in [row[:2] for row in audit_rows(f"tenant:{used.tenant_id}")]


def test_an_api_key_has_no_exports(used: Place) -> None:
    who = replace(keeper(used), key_id=new_id(), session_id=None)
    with pytest.raises(errors.Forbidden):
        ask(who, used, part_of(used))
    with pytest.raises(errors.Forbidden), db.transaction(who) as session:
        exports.list_exports(session, who, used.tenant_id)


def test_another_tenant_is_as_a_missing_one(used: Place) -> None:
    stranger = keeper(make_place())
    with pytest.raises(errors.NotFound):
        ask(stranger, used, part_of(used))
    asked = ask(keeper(used), used, part_of(used))
    for export_id in (asked.export_id, new_id()):
        with pytest.raises(errors.NotFound), db.transaction(stranger) as session:
            exports.download(session, stranger, export_id)
    with pytest.raises(errors.NotFound), db.transaction(stranger) as session:
        exports.list_exports(session, stranger, used.tenant_id)


def test_a_role_lost_after_asking_ends_the_download(used: Place) -> None:
    who = keeper(used)
    asked = ask(who, used, part_of(used))
    demoted = replace(who, role=Role.MEMBER)
    with pytest.raises(errors.Forbidden), db.transaction(demoted) as session:
        exports.download(session, demoted, asked.export_id)
    rows = audit_rows(f"export:{asked.export_id}")
    assert [(row[0], row[1]) for row in rows] == [
        ("export.ask", "done"),
        ("export.download", "denied"),
    ]


def test_a_colleague_with_the_role_may_have_it_too(used: Place) -> None:
    asked = ask(keeper(used), used, part_of(used))
    other = keeper(used, Role.ADMIN)
    with db.transaction(other) as session:
        assert exports.download(session, other, asked.export_id).asked == asked


def test_an_expired_export_is_a_missing_one(used: Place) -> None:
    who = keeper(used)
    asked = ask(who, used, part_of(used))
    change("update app.exports set expires_at = now() where export_id = :e", e=asked.export_id)
    with pytest.raises(errors.NotFound):
        now(who, asked)
    with db.transaction(who) as session:
        assert exports.list_exports(session, who, used.tenant_id) == ()


def test_asking_and_downloading_are_recorded(used: Place) -> None:
    close(used, last_month(used))
    who = keeper(used)
    asked = built(who, ask(who, used, month(used)))
    assert asked.file is not None
    with db.transaction(who) as session:
        exports.download(session, who, asked.export_id)
    done = audit_rows(f"export:{asked.export_id}")
    assert [row[0] for row in done] == ["export.ask", "export.download"]
    with db.transaction(TESTS) as session:
        after = session.execute(
            text(
                "select after from app.audit_log where object = :o order by audit_id desc limit 1"
            ),
            {"o": f"export:{asked.export_id}"},
        ).scalar_one()
    assert after == {
        "kind": "usage", "format": "csv", "from": str(month(used).first),
        "to": str(month(used).last), "rows": 3, "sha256": asked.file.sha256,
    }  # fmt: skip


def test_the_list_is_of_ones_own_side_newest_first(used: Place) -> None:
    who, operator, admin = keeper(used), an_operator(), keeper(used, Role.ADMIN)
    first = ask(who, used, part_of(used))
    second = ask(admin, used, part_of(used), kind="audit")
    theirs = ask(operator, used, part_of(used))

    def listed(reader: Actor) -> list[UUID]:
        with db.transaction(reader) as session:
            return [one.export_id for one in exports.list_exports(session, reader, used.tenant_id)]

    assert listed(admin) == [second.export_id, first.export_id]
    assert listed(who) == [first.export_id]  # the audit log is not for them
    assert listed(operator) == [theirs.export_id]
    with pytest.raises(errors.Forbidden):
        listed(keeper(used, Role.MEMBER))
    of_all = ask(operator, None, part_of(used))
    with db.transaction(operator) as session:
        found = exports.list_exports(session, operator, None)
    assert of_all.export_id in [one.export_id for one in found]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"form": "exe"}, "format"), "kind": ({"kind": "everything"}, "kind"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(used: Place, case: str) -> None:
    given, param = BAD[case]
    with pytest.raises(errors.BadInput) as refused:
        ask(keeper(used), used, part_of(used), **given)
    assert refused.value.param == param


def test_a_reversed_period_is_refused(used: Place) -> None:
    period = Period(month(used).last, month(used).first)
    with pytest.raises(errors.BadInput):
        ask(keeper(used), used, period)


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Acme GmbH & Co. KG", "acme-gmbh-co-kg"), ("日本", "tenant"), ('a"\r\nset-cookie: x', "a-set-cookie-x"),
     ("../../etc", "etc"), ("Ärzte", "arzte"), ("x" * 90, "x" * 40)],
)  # fmt: skip
def test_the_name_of_the_file_is_harmless(used: Place, name: str, slug: str) -> None:
    change("update app.tenants set name = :n where tenant_id = :t", n=name, t=used.tenant_id)
    who = keeper(used)
    asked = ask(who, used, month(used))
    with db.transaction(who) as session:
        named = exports.look(session, who, asked.export_id).file_name
    assert named == f"purser_usage_{month(used).first:%Y-%m}_{slug}.csv"


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


def test_people_only(used: Place) -> None:
    with pytest.raises(errors.Forbidden):
        ask(TESTS, used, part_of(used))
    who: Principal | Operator = an_operator()
    assert ask(who, used, part_of(used)).asked_by == who.user_id
