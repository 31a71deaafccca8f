"""Who gets which export, of what shape: columns as promised, own rows only, always in one order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import psycopg
import pytest
from psycopg import adapters
from sqlalchemy import text

from core import db, errors
from core.db import Database, System, new_id
from core.finance.datasets import catalogue
from core.finance.datasets.catalogue import KINDS
from core.finance.datasets.columns import Type
from core.identity.access import Operator, Role
from core.periods import Period
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import TESTS, Place, make_model, make_place
from tests.finance.rows import JULY, change, ever_since, export, read, rows_of

OPERATOR = Operator(new_id(), "op@example.com", "Op")
MONEY = tuple(kind for kind in KINDS if kind != "audit")
YEARS = ever_since(date(2026, 1, 1))  # the ledger and the log know only today
SECRET = {"list_cost_usd", "markup_usd", "provider_cost_usd", "x_ProviderCost", "x_Markup"}
HOSTILE = "=cmd|'/c calc'!A1\t\"a\"\r\n\uff1d1+1;,ü漢"
OIDS = {
    Type.TEXT: "text", Type.INTEGER: "int8", Type.DECIMAL: "numeric", Type.TIME: "timestamptz",
    Type.DATE: "date", Type.BOOLEAN: "bool",
}  # fmt: skip


def at(day: int) -> datetime:
    return datetime(2026, 7, day, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def places(database: Database) -> tuple[Place, Place]:
    """Two tenants with calls of two people and models, corrections and audited acts."""
    db.install(database)
    found = (make_place(role="admin", markup="0.25"), make_place(role="admin"))
    first, second = make_model(), make_model()
    for place in found:
        change(
            "update app.tenants set cost_center = 'R&D', project = :project where tenant_id = :t",
            project=HOSTILE, t=place.tenant_id,
        )  # fmt: skip
        other = colleague(place, Role.FINANCE)
        for day in (3, 1, 17, 3):
            use(place.who, first, "0.0123456", at=at(day))
            use(other, second, "0.2", at=at(day), source="api")
        guessed = use(place.who, second, cost=cost_of("0.5", lookup=True), at=at(20))
        correct(guessed, "0.4")
    return found


@pytest.fixture
def place(places: tuple[Place, Place]) -> Place:
    return places[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_query_gives_the_columns_as_named_and_typed(kind: str, place: Place) -> None:
    for who, tenant in ((place.who, None), (OPERATOR, place.tenant_id), (OPERATOR, None)):
        found = export(who, kind, JULY, tenant)
        with db.transaction(who) as session:
            result = session.connection().exec_driver_sql(
                found.query.sql, dict(found.query.parameters)
            )
            given = [(c.name, adapters.types[c.type_code].name) for c in result.cursor.description]
        assert [name for name, _ in given] == [column.name for column in found.columns]
        for (name, type_name), column in zip(given, found.columns, strict=True):
            wide = "int8" if type_name == "int4" else type_name
            assert wide == OIDS[column.type], name


@pytest.mark.parametrize("kind", KINDS)
def test_columns_have_names_of_their_own_and_a_meaning(kind: str) -> None:
    columns = catalogue.columns_of(kind, for_operators=True)
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.meaning.endswith(".") for column in columns)
    assert all(c.type in (Type.INTEGER, Type.DECIMAL) for c in columns if c.is_total)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_platform_pays_is_for_operators(kind: str, place: Place) -> None:
    named = {column.name for column in export(place.who, kind, JULY).columns}
    full = {column.name for column in export(OPERATOR, kind, JULY, place.tenant_id).columns}
    assert not named & SECRET
    assert full - named == full & SECRET
    if kind in ("usage", "daily", "chargeback", "focus"):
        assert full & SECRET


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_tenants_own(kind: str, places: tuple[Place, Place]) -> None:
    mine, other = places
    named = "BillingAccountId" if kind == "focus" else "tenant_id"
    rows = read(mine.who, kind, YEARS)
    assert {row[named] for row in rows} == {str(mine.tenant_id)}
    with pytest.raises(errors.NotFound):
        export(mine.who, kind, YEARS, other.tenant_id)


@pytest.mark.parametrize("kind", MONEY)
def test_another_tenants_query_finds_nothing(kind: str, places: tuple[Place, Place]) -> None:
    mine, other = places
    assert rows_of(other.who, export(mine.who, kind, YEARS)) == []


def test_another_tenants_query_of_the_log_finds_ones_own(places: tuple[Place, Place]) -> None:
    mine, other = places
    found = export(mine.who, "audit", YEARS)
    assert rows_of(other.who, found) == read(other.who, "audit", YEARS) != rows_of(mine.who, found)


@pytest.mark.parametrize("kind", KINDS)
def test_members_and_keys_get_none(kind: str, place: Place) -> None:
    keyed = replace(place.who, key_id=new_id(), session_id=None)
    for who in (replace(place.who, role=Role.MEMBER), keyed):
        with pytest.raises(errors.Forbidden):
            export(who, kind, JULY)


@pytest.mark.parametrize("kind", KINDS)
def test_finance_gets_the_money_and_not_the_log(kind: str, place: Place) -> None:
    who = replace(place.who, role=Role.FINANCE)
    if kind == "audit":
        with pytest.raises(errors.Forbidden):
            export(who, kind, JULY)
    else:
        assert rows_of(who, export(who, kind, YEARS)) == read(place.who, kind, YEARS) != []


@pytest.mark.parametrize("kind", KINDS)
def test_operators_get_a_tenant_or_all(kind: str, places: tuple[Place, Place]) -> None:
    named = "BillingAccountId" if kind == "focus" else "tenant_id"
    for who in (OPERATOR, System("a job")):
        one = read(who, kind, YEARS, places[0].tenant_id)
        assert {row[named] for row in one} == {str(places[0].tenant_id)}
        everything = read(who, kind, YEARS)
        assert {str(place.tenant_id) for place in places} <= {row[named] for row in everything}
        assert [row for row in everything if row[named] == str(places[0].tenant_id)] == one


def test_a_tenant_that_is_missing_is_not_found(place: Place) -> None:
    for who in (place.who, OPERATOR):
        with pytest.raises(errors.NotFound):
            export(who, "usage", JULY, new_id())


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_does_not_depend_on_the_plan(kind: str, place: Place) -> None:
    who = System("tests")
    found = export(who, kind, YEARS)
    expected = rows_of(who, found)
    assert len(expected) > 1
    for setting in ("hashjoin", "indexscan", "sort", "hashagg", "nestloop"):
        with db.transaction(who) as session:
            session.execute(text(f"set local enable_{setting} = off"))
            again = session.connection().exec_driver_sql(
                found.query.sql, dict(found.query.parameters)
            )
            assert [dict(row) for row in again.mappings()] == expected, setting


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_counted(kind: str, place: Place) -> None:
    for who, tenant in ((place.who, None), (OPERATOR, None)):
        found = export(who, kind, YEARS, tenant)
        with db.transaction(who) as session:
            assert catalogue.count(session, found) == len(rows_of(who, found)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_can_be_copied(kind: str, place: Place, database_url: str) -> None:
    found = export(place.who, kind, YEARS)
    with db.transaction(place.who) as session:
        connection = session.connection().connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        with connection.cursor() as cursor:
            statement = f"copy ({found.query.sql}) to stdout"
            with cursor.copy(statement.encode(), found.query.parameters) as copy:
                assert len(list(copy.rows())) == len(read(place.who, kind, YEARS))


def test_text_of_people_comes_out_as_it_is(place: Place) -> None:
    assert {row["project"] for row in read(place.who, "usage", JULY)} == {HOSTILE}
    assert {row["project"] for row in read(place.who, "chargeback", JULY)} == {HOSTILE}


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2026, 7, 2), date(2026, 7, 1)), (date.min, date(2026, 7, 1)),
        (date(2026, 7, 1), date.max), (date(2001, 1, 1), date(2026, 7, 1)),
    ],
)  # fmt: skip
def test_an_impossible_period_is_refused(first: date, last: date, place: Place) -> None:
    for kind in KINDS:
        with pytest.raises(errors.BadInput):
            export(place.who, kind, Period(first, last))


def test_a_period_in_the_future_is_empty(place: Place) -> None:
    for kind in KINDS:
        assert read(place.who, kind, Period(date(2998, 1, 1), date(2998, 1, 2))) == []


def test_an_unknown_export_is_refused(place: Place) -> None:
    with pytest.raises(errors.BadInput, match="usage, daily"):
        export(place.who, "salaries", JULY)


def test_only_the_months_asked_for_are_read(place: Place) -> None:
    for who in (place.who, OPERATOR):
        found = export(who, "usage", JULY)
        with db.transaction(TESTS) as session:
            connection = session.connection().connection.driver_connection
            assert isinstance(connection, psycopg.Connection)
            cursor = psycopg.ClientCursor(connection)
            cursor.execute(f"explain {found.query.sql}".encode(), found.query.parameters)
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "usage_events" in plan
        assert "usage_events_2026_11" not in plan


def test_kinds_are_those_the_database_knows(session: object) -> None:
    with db.transaction(TESTS) as opened:
        rule = opened.execute(
            text("select pg_get_constraintdef(oid) from pg_constraint"
                 " where conname = 'export_files_kind_check'")
        ).scalar_one()  # fmt: skip
    assert all(f"'{kind}'" in rule for kind in KINDS)
    assert rule.count("::text") == len(KINDS)
