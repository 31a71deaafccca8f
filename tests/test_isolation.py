"""A forgotten WHERE leaks nothing: the real schema, read from the catalogue, without a list of tables.

Seeded faults prove that each check would notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from core import schema
from core.db import RW
from tests.factories import Place, make_model, make_place
from tests.quota.test_gate import close, cost, open_call

pytestmark = pytest.mark.usefixtures("database")

# Functions the web role may execute as their owner. Adding one needs a reason, and a line here.
DEFINERS = {
    # the gate and the life of a call: each binds its tenant itself
    "admit", "ask_stop", "beat", "correct", "resolve", "settle", "sum_usage",
    # sign-in, sessions and keys: found by a hash nobody can guess, or bound to the person asking
    "append_audit", "begin_sign_in", "change_password", "choose_tenant", "end_session",
    "end_sessions_of", "end_sign_in", "issue_key", "issue_ticket", "members", "redeem_ticket",
    "revoke_key", "sessions_of", "tenants_of", "who", "who_are", "who_by_key",
    # closing a month: of the tenant the role is bound to, with the sums of its events
    "lock_closing", "record_closing",
    # people in the hands of their tenant's admins, and links into it: each takes the bound tenant only
    "accept_invite", "change_member", "invite_of", "invites_of", "make_invite", "members_of",
    "revoke_invite", "set_limit", "sign_out_member", "unset_limit", "uses_of",
    "audit_of",
    # a tenant's own terms in the hands of its admins: each takes the bound tenant only
    "assign_cost_center", "block_model", "change_zone", "unblock_model",
}  # fmt: skip

_TENANT_TABLES = """
    select format('%I.%I', n.nspname, c.relname), c.relispartition from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where n.nspname in ('app', 'jobs', 'public') and c.relkind in ('r', 'p') order by 1
"""
_UNFORCED = """
    select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where n.nspname = 'app' and c.relkind in ('r', 'p') and (
      not (c.relrowsecurity and c.relforcerowsecurity)
      or c.relispartition and has_table_privilege('app_rw', c.oid, 'select,insert,update,delete')
      or not c.relispartition and not exists (select from pg_policies p where p.schemaname = 'app'
        and p.tablename = c.relname and p.policyname = 'tenant_only' and p.roles = '{app_rw}'
        and p.qual like '%%tenant_id = ( SELECT app.tenant()%%'
        and p.with_check like '%%tenant_id = ( SELECT app.tenant()%%')
      or exists (select from pg_policies p where p.schemaname = 'app' and p.tablename = c.relname
        and p.policyname not in ('tenant_only', 'all_tenants')))
"""
_KEYS_WITHOUT_TENANT = """
    with t as (select c.oid, a.attnum from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
        where n.nspname = 'app' and c.relkind in ('r', 'p'))
    select i.indexrelid::regclass::text from pg_index i join t on t.oid = i.indrelid
      where indisunique and not t.attnum = any(i.indkey)
        and not (indisprimary and coalesce(obj_description(i.indrelid), '') like 'once-only fact%%')
    union all
    select k.conname from pg_constraint k join t on t.oid = k.conrelid where contype = 'f'
      and not t.attnum = any(k.conkey) and k.confrelid in (select oid from t)
"""
_SIDE_DOORS = """
    select 'view ' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('app', 'verbs', 'reporting') and (c.relkind = 'm' or c.relkind = 'v'
        and not coalesce(c.reloptions::text like '%%security_invoker=true%%', false))
        and (has_table_privilege('app_rw', c.oid, 'select') or n.nspname <> 'reporting')
    union all select 'role ' || rolname from pg_roles
      where rolname in ('app_rw', 'app_jobs', 'purser_reporting') and (rolsuper or rolbypassrls)
    union all select 'owner ' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('app', 'reporting') and c.relkind in ('r', 'p', 'v')
        and pg_get_userbyid(c.relowner) <> 'app_owner'
    union all select 'function ' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname in ('app', 'verbs') and p.prosecdef
        and not coalesce(p.proconfig::text like '%%search_path=%%', false)
"""
_PLATFORM_TABLES_OPEN = """
    select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'app' and c.relkind = 'r' and not c.relispartition
      and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
      and has_table_privilege('app_rw', c.oid, 'select,insert,update,delete')
      and c.relname <> all (array['plans', 'plan_limits', 'providers', 'models', 'prices',
        'alembic_version', 'billing_terms', 'packages', 'plan_offers', 'offer_prices'])
"""


def violations(connection: psycopg.Connection[tuple[str]]) -> list[str]:
    found: list[str] = []
    for query in (_UNFORCED, _KEYS_WITHOUT_TENANT, _SIDE_DOORS, _PLATFORM_TABLES_OPEN):
        found += [row[0] for row in connection.execute(query.replace("%%", "%"))]
    return found


@pytest.fixture
def two(database_url: str) -> Iterator[tuple[Place, Place, psycopg.Connection[tuple[object]]]]:
    """Two tenants with rows in the books, and a connection as the web role bound to the first."""
    model = make_model()
    first, second = make_place(), make_place()
    for place in (first, second):
        close(open_call(place, model), cost("0.1"))
        open_call(place, model)
    with psycopg.connect(database_url) as connection:
        connection.execute("set role app_rw")
        connection.execute("select set_config('app.tenant_id', %s, true)", (str(first.tenant_id),))
        yield first, second, connection
        connection.rollback()


def test_the_schema_has_no_hole(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert violations(connection) == []


def test_without_a_where_one_tenant_is_seen(
    two: tuple[Place, Place, psycopg.Connection[tuple[object]]], database_url: str
) -> None:
    first, _, connection = two
    with psycopg.connect(database_url) as owner:
        tables = owner.execute(_TENANT_TABLES.replace("%%", "%")).fetchall()
    assert len(tables) > 15
    for table, _partition in tables:
        try:
            with connection.transaction():
                rows = connection.execute(f"select distinct tenant_id from {table}").fetchall()
        except psycopg.errors.InsufficientPrivilege:
            continue
        assert rows in ([], [(first.tenant_id,)]), table


def test_without_a_tenant_nothing_is_seen_or_written(database_url: str) -> None:
    place = make_place()
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(_TENANT_TABLES.replace("%%", "%")).fetchall()
        connection.execute("set role app_rw")
        for table, _partition in tables:
            try:
                with connection.transaction():
                    assert connection.execute(f"select 1 from {table} limit 1").fetchall() == [], (
                        table
                    )
            except psycopg.errors.InsufficientPrivilege:
                continue
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "insert into app.conversations(tenant_id, conversation_id, user_id, title)"
                " values (%s, gen_random_uuid(), %s, '')",
                (place.tenant_id, place.user_id),
            )


def test_the_web_role_writes_no_other_tenant(
    two: tuple[Place, Place, psycopg.Connection[tuple[object]]],
) -> None:
    _, second, connection = two
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        connection.execute(
            "insert into app.conversations(tenant_id, conversation_id, user_id, title)"
            " values (%s, gen_random_uuid(), %s, '')",
            (second.tenant_id, second.user_id),
        )


def test_a_reference_to_another_tenants_row_is_refused(
    two: tuple[Place, Place, psycopg.Connection[tuple[object]]],
) -> None:
    first, second, connection = two
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute(
            "insert into app.conversations(tenant_id, conversation_id, user_id, title)"
            " values (%s, gen_random_uuid(), %s, '')",
            (first.tenant_id, second.user_id),
        )


@pytest.mark.parametrize(
    "statement",
    ["update app.accounts set posted_nusd = posted_nusd + 1", "delete from app.calls",
     "insert into app.counters(tenant_id, subject_id, period, scope)"
     " values (app.tenant(), gen_random_uuid(), now(), 'user')",
     "select * from app.users", "select * from app.sessions", "select * from app.api_key_hashes",
     "select * from app.usage_events_default", "select * from reporting.wallets",
     "select * from app.audit_log"],
)  # fmt: skip
def test_the_books_are_closed_to_the_web_role(
    statement: str, two: tuple[Place, Place, psycopg.Connection[tuple[object]]]
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        two[2].execute(statement)


def test_the_definer_functions_of_the_web_role_are_listed(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname in ('app', 'verbs') and p.prosecdef"
            " and has_function_privilege('app_rw', p.oid, 'execute')"
        ).fetchall()
    assert {name for (name,) in found} == DEFINERS


def test_connections_of_the_product_run_as_their_role(database: object) -> None:
    for role in (RW, "app_jobs"):
        row = database.call("select current_user as who", (), role=role)  # type: ignore[attr-defined]
        assert row == {"who": role}
        with database.engine(role).connect() as connection:  # type: ignore[attr-defined]
            assert connection.exec_driver_sql("select current_user").scalar() == role


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("create table app.notes(tenant_id uuid not null, id int, primary key (tenant_id, id))", "notes"),
        ("alter table app.lots no force row level security", "lots"),
        ("alter table app.lots disable row level security", "lots"),
        ("drop policy tenant_only on app.messages", "messages"),
        ("create policy open on app.messages to app_rw using (true)", "messages"),
        ("grant select on app.usage_events_default to app_rw", "usage_events_default"),
        ("create unique index bad_key on app.lots (lot_id, source_id)", "app.bad_key"),
        ("alter table app.turns add constraint bad_fk foreign key (call_id)"
         " references app.calls (call_id)", "bad_fk"),
        ("create view app.peek as select * from app.messages; alter view app.peek owner to app_owner",
         "view peek"),
        ("grant select on reporting.wallets to app_rw", "view wallets"),
        ("create function app.peep() returns int language sql security definer return 1",
         "function peep"),
        ("grant select on app.users to app_rw", "users"),
        ("create table app.secrets(id int); alter table app.secrets owner to app_owner;"
         " grant select on app.secrets to app_rw", "secrets"),
    ],
)  # fmt: skip
def test_a_seeded_fault_is_noticed(
    fault: str, named: str, fresh_database_url: Callable[[str], str], database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(sql.SQL(fault))  # type: ignore[arg-type]
        found = violations(connection)
        connection.rollback()
    assert named in found


def test_head_is_reached_once_and_again(fresh_database_url: Callable[[str], str]) -> None:
    url = fresh_database_url("purser_migrate")
    schema.migrate(url)
    schema.migrate(url)
    with psycopg.connect(url) as connection:
        assert violations(connection) == []
