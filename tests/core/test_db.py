"""Transactions and one-statement calls: bounded waits, refusals instead of tracebacks, one tenant."""

from __future__ import annotations

import threading
import time
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core import db, errors, settings
from core.db import JOBS, RW, Database, DatabaseRefused
from tests.factories import TESTS, make_place


def test_a_transaction_as_a_person_sees_their_tenant_only(database: Database) -> None:
    place, other = make_place(), make_place()
    with db.transaction(place.who) as session:
        seen = session.execute(text("select tenant_id from app.tenants")).scalars().all()
    assert seen == [place.tenant_id] != [other.tenant_id]


def test_the_next_transaction_on_the_same_connection_carries_nothing_over(
    database: Database,
) -> None:
    place = make_place()
    engine = database.engine(RW)
    with db.transaction(place.who) as session:
        pid = session.execute(text("select pg_backend_pid()")).scalar()
    for _ in range(20):
        with engine.connect() as connection:
            row = connection.execute(
                text("select pg_backend_pid(), (select count(*) from app.tenants)")
            ).one()
        assert row[1] == 0
        if row[0] == pid:
            return


def test_an_error_rolls_everything_back(database: Database) -> None:
    place = make_place()
    rename = text("update app.tenants set name = 'changed' where tenant_id = :t returning 1 / 0")
    with pytest.raises(DBAPIError), db.transaction(TESTS) as session:
        session.execute(rename, {"t": place.tenant_id})
    with db.transaction(TESTS) as session:
        name = session.execute(
            text("select name from app.tenants where tenant_id = :t"), {"t": place.tenant_id}
        ).scalar_one()
    assert name != "changed"


def test_a_database_that_does_not_answer_is_a_refusal(data_dir: object) -> None:
    away = Database(settings.current(), "postgresql://nobody@127.0.0.1:9/none")
    try:
        with pytest.raises(errors.Unavailable):
            away.call("select 1", ())
        with pytest.raises(errors.Unavailable), away.transaction(TESTS):
            pass
    finally:
        away.close()


def test_a_lock_held_by_somebody_else_is_waited_for_within_bounds(
    database: Database,
) -> None:
    place = make_place()
    release = threading.Event()

    def hold() -> None:
        with db.transaction(TESTS) as session:
            session.execute(
                text("select from app.accounts where tenant_id = :t for update"),
                {"t": place.tenant_id},
            )
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    time.sleep(0.3)
    began = time.monotonic()
    try:
        expire = "select set_config('lock_timeout', '300ms', true), verbs.expire_lots(:t)"
        with pytest.raises(errors.Unavailable), db.transaction(TESTS) as session:
            session.execute(text(expire), {"t": place.tenant_id})
        assert time.monotonic() - began < 5
    finally:
        release.set()
        holder.join()


def test_every_connection_has_bounded_statements_and_locks(database: Database) -> None:
    for role in (RW, JOBS):
        for name in ("statement_timeout", "lock_timeout"):
            row = database.call(f"select current_setting('{name}') as value", (), role=role)
            assert row is not None
            assert row["value"] not in {"0", ""}


def test_a_login_that_may_not_take_the_role_is_refused_with_its_setting(
    database_url: str, data_dir: object
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("drop role if exists nobody_special")
        owner.execute("create role nobody_special login")
    url = database_url.replace("//postgres:", "//nobody_special:")
    refused = Database(settings.current(), url)
    try:
        with pytest.raises(DatabaseRefused, match="DATABASE_URL may not act as app_rw"):
            refused.verify_roles()
    finally:
        refused.close()


def test_ids_are_ordered_by_time() -> None:
    made = [db.new_id() for _ in range(1_000)]
    assert all(isinstance(value, UUID) for value in made)
    assert made == sorted(made)
