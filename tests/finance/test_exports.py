"""Exports: who may ask for which, what they get, and what is recorded of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, errors
from core.db import new_id
from core.finance import exports
from core.finance.exports import State
from core.finance.files import writing
from core.identity.access import Actor, Operator, Principal, Role
from core.periods import Period
from tests.factories import TESTS, Place, make_place
from tests.finance.books import an_operator, close, keeper, last_month
from tests.finance.exporting import ask, built, content_of, month, now, part_of
from tests.finance.files_read import read_csv, read_xlsx
from tests.finance.rows import change, ever_since, read
from tests.identity.people import audit_rows

pytestmark = pytest.mark.usefixtures("database")


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


@pytest.mark.parametrize("kind", ["daily", "statement", "chargeback", "focus", "audit"])
@pytest.mark.parametrize("form", writing.FORMATS)
def test_every_kind_comes_in_every_format(used: Place, kind: str, form: str) -> None:
    who = keeper(used, Role.ADMIN)
    period = Period(month(used).first, month(used).last + timedelta(days=40))
    asked = ask(who, used, period, kind=kind, form=form)
    content = content_of(who, built(who, asked) if asked.file else asked)
    assert len(content) > 40


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
    always = ever_since(date(2026, 1, 1))
    content = content_of(who, built(who, ask(who, used, always, kind="audit", form="xlsx")))
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
    monkeypatch.setattr(exports, "EXCEL_STREAMED_ROWS_MAX", 2)
    with pytest.raises(errors.BadInput) as refused:
        ask(operator, None, part_of(used), form="xlsx")
    assert refused.value.param == "format"


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


def test_people_only(used: Place) -> None:
    with pytest.raises(errors.Forbidden):
        ask(TESTS, used, part_of(used))
    who: Principal | Operator = an_operator()
    assert ask(who, used, part_of(used)).asked_by == who.user_id
