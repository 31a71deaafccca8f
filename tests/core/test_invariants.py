"""Every invariant holds on a used database, and every one is proven to fire by a fault of its own.

Faults are made as superuser with triggers off, in a transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from core import db, invariants, schema, settings, telemetry
from core.db import Database, System
from core.demonstration import seed
from core.quota import gate
from tests.analytics.using import correct
from tests.factories import make_model, make_place
from tests.finance.books import close as close_month
from tests.finance.books import guessed, last_month, old_place, within
from tests.quota.test_gate import close, cost, open_call

WHO = System("check")
_ONE = "(select min(event_id) from app.usage_events where kind = 'call' and billed_nusd > 0)"
_TENANT = "(select tenant_id from app.accounts where floor_nusd = 0 order by tenant_id limit 1)"
_LOT = (
    "update app.lots set kind = 'purchase', source_type = 'checkout_session', source_id = 'cs_1'"
    " where lot_id = (select lot_id from app.lots order by lot_id limit 1)"
)
_ORDER = (
    "insert into app.orders(tenant_id, order_id, click_key, kind, code, title, price_minor,"
    " credits_nusd, state) select tenant_id, gen_random_uuid(), 'c', 'package', 'x', 'X', 1000,"
    " granted_nusd, 'fulfilled' from app.lots where source_id = 'cs_1'"
)
_FULFILMENT = (
    "insert into app.fulfilments(stripe_id, tenant_id, kind, order_id, granted_nusd)"
    " select 'cs_1', l.tenant_id, 'checkout_session', o.order_id, l.granted_nusd"
    " from app.lots l left join app.orders o on o.tenant_id = l.tenant_id and o.click_key = 'c'"
    " where l.source_id = 'cs_1'"
)
_ENTRY = (
    "update app.entries set source_type = 'checkout_session', source_id = 'cs_1' where kind = 'grant'"
    " and lot_id = (select lot_id from app.lots where source_id = 'cs_1')"
)
_PAYMENT = (
    "insert into app.payments(payment_intent_id, tenant_id, order_id, total_minor, currency)"
    " select 'pi_1', tenant_id, order_id, 1000, 'usd' from app.orders where click_key = 'c'"
)
_REVOKED = (
    "insert into app.entries(tenant_id, seq, kind, contra, amount_nusd, posted_after_nusd,"
    " idempotency_key, lot_id, source_type, source_id, actor) select tenant_id, 100000, 'revoke',"
    " 'purchase', {amount}, 0, 'revoke:x', lot_id, 'x', 'x', 'x' from app.lots where source_id = 'cs_1'"
)
_SOLD = f"{_LOT};{_ORDER};{_FULFILMENT};{_ENTRY};{_PAYMENT}"
_DISPUTE = (
    "insert into app.claw_backs(stripe_id, tenant_id, kind, payment_intent_id, amount_minor, status,"
    f" counts) values ('du_1', {_TENANT}, 'dispute', 'pi_1', 1000, '{{status}}', {{counts}})"
)
_FROZEN = f"update app.accounts set frozen = true where tenant_id = {_TENANT}"
_METERED = (
    "insert into app.meter_exports(tenant_id, hour, revision, units, through_seq, rest_nusd, attempts,"
    f" due_at) values ({_TENANT}, now() - interval '26 h', 1, 5, 0, 0, {{attempts}}, {{due}})"
)
_ADJUSTED = "kind = 'adjustment', adjusts_call_id = call_id"
_PENDING = (
    "insert into app.usage_pending select tenant_id, event_id, occurred_at from app.usage_events"
)
_NEXT_MONTH = "to_char(now() at time zone 'UTC' + interval '1 month', 'YYYY_MM')"

# (the invariant, the fault)
FAULTS = [
    ("row_security", "alter table app.lots no force row level security"),
    ("row_security", "create table app.leaky(tenant_id uuid not null)"),
    ("row_security", "create policy wide on app.entries for select to app_rw using (true)"),
    ("row_security", "create policy wide on app.turns to public using (true)"),
    ("row_security", "drop policy tenant_only on app.turns"),
    ("row_security", "alter table app.usage_events_default disable row level security"),
    ("partition_guard", "grant select on app.usage_events_default to app_rw"),
    ("partition_guard", "grant select on app.usage_events_default to public"),
    ("role", "alter role app_rw bypassrls"),
    ("role", "alter role app_jobs superuser"),
    ("role", "alter table app.plans owner to app_jobs"),
    ("role", "grant app_jobs to app_rw"),
    ("role", "grant app_owner to app_jobs"),
    ("reporting", "grant select on app.messages to purser_reporting"),
    ("reporting", "grant insert on reporting.wallets to purser_reporting"),
    ("reporting", "grant select on jobs.procrastinate_jobs to public"),
    ("definer", "alter function app.ensure_usage_partition(date) reset search_path"),
    ("definer", "grant execute on function app.ensure_usage_partition(date) to public"),
    ("definer", "alter function app.ensure_usage_partition(date) owner to current_user"),
    ("append_only", "alter table app.entries disable trigger append_only"),
    ("append_only", "drop trigger append_only on app.audit_log"),
    ("append_only", "grant update on app.usage_events to app_jobs"),
    (
        "foreign_key",
        "alter table app.turns add constraint bare foreign key (call_id) references app.calls",
    ),
    ("money_column", "create table app.tips(tip_nusd numeric)"),
    (
        "call_lease",
        "update app.calls set lease_until = now() - interval '1 hour' where state = 'open'",
    ),
    (
        "hold_lease",
        "update app.calls set lease_until = now() - interval '1 hour' where state = 'open'",
    ),
    ("usage_once", f"delete from app.usage_events where event_id = {_ONE}"),
    (
        "usage_once",
        "update app.calls set state = 'settled', settled_at = now() where state = 'open'",
    ),
    (
        "usage_call",
        f"update app.usage_events set call_id = gen_random_uuid() where event_id = {_ONE}",
    ),
    (
        "usage_call",
        f"update app.usage_events set user_id = gen_random_uuid() where event_id = {_ONE}",
    ),
    ("usage_negative", f"update app.usage_events set list_nusd = -1 where event_id = {_ONE}"),
    ("usage_daily", "update app.usage_daily set requests = requests + 1"),
    ("usage_daily", f"{_PENDING} where occurred_at < now() - interval '1 day' limit 1"),
    ("usage_pending", f"{_PENDING} where recorded_at < now() - interval '1 day' limit 1"),
    ("usage_pending", "insert into app.usage_pending select tenant_id, 0, now() from app.tenants"),
    ("usage_daily", "delete from app.usage_daily"),
    ("usage_daily", "update app.usage_daily set reasoning_tokens = reasoning_tokens + 1"),
    ("usage_daily_models", "update app.usage_daily_models set billed_nusd = billed_nusd + 1"),
    ("usage_daily_models", "delete from app.usage_daily_models"),
    (
        "usage_conversations",
        "insert into app.usage_conversations select tenant_id, gen_random_uuid(), user_id,"
        " model_served, 1, 1, 1, 1, occurred_at, occurred_at from app.usage_events limit 1",
    ),
    ("closed_month", "update app.closings set billed_nusd = billed_nusd + 1"),
    ("closed_month", "update app.closings set requests = requests - 1, events = events - 1"),
    ("adjustment_dated", f"update app.usage_events set {_ADJUSTED}, occurred_at = now()"),
    (
        "adjustment_dated",
        f"update app.usage_events set {_ADJUSTED}, recorded_at = now() where event_id ="
        f" (select min(e.event_id) from app.usage_events e join app.closings c using (tenant_id)"
        " where e.occurred_at >= c.begins_at and e.occurred_at < c.ends_at)",
    ),
    (
        "generation_once",
        "delete from app.generations where call_id = (select call_id from app.generations limit 1)",
    ),
    ("generation_once", "update app.generations set call_id = gen_random_uuid()"),
    (
        "lookup_call",
        "insert into app.lookups(tenant_id, call_id, provider, generation_id)"
        " select tenant_id, call_id, provider, 'gen-x' from app.calls where state = 'open'",
    ),
    ("lookup_patience", "update app.lookups set opened_at = now() - interval '27 h'"),
    (
        "partition_missing",
        f"do $$ begin execute 'drop table app.usage_events_' || {_NEXT_MONTH}; end $$",
    ),
    (
        "partition_missing",
        f"update app.usage_events set occurred_at = '2001-01-01' where event_id = {_ONE}",
    ),
    ("ledger_posted", "update app.accounts set posted_nusd = posted_nusd + 1"),
    ("ledger_seq", "delete from app.entries where seq = 2"),
    ("ledger_seq", "update app.accounts set seq = seq + 1"),
    ("ledger_running", "update app.entries set posted_after_nusd = posted_after_nusd + 1"),
    ("ledger_lots", "update app.accounts set debt_nusd = debt_nusd + 1"),
    ("ledger_owed", "update app.accounts set receivable_nusd = 5 where floor_nusd = 0"),
    (
        "debt_netted",
        "update app.accounts set debt_nusd = debt_nusd + 1, posted_nusd = posted_nusd - 1",
    ),
    (
        "lot_parts",
        "alter table app.lots drop constraint lots_whole_check;"
        " update app.lots set remaining_nusd = remaining_nusd + 1",
    ),
    ("lot_uses", "delete from app.lot_uses"),
    (
        "lot_entries",
        "update app.lots set granted_nusd = granted_nusd + 1, remaining_nusd = remaining_nusd + 1",
    ),
    (
        "lot_entries",
        f"{_LOT};{_ENTRY};" + _REVOKED.format(amount="-granted_nusd - 1"),
    ),
    (
        "lot_entries",
        f"{_LOT};{_ENTRY};" + _REVOKED.format(amount="5").replace("'revoke',", "'reinstate',", 1),
    ),
    ("ledger_dues", "update app.dues set amount_nusd = amount_nusd + 1"),
    ("ledger_dues", "delete from app.dues"),
    ("due_entry", "update app.dues set amount_nusd = -amount_nusd"),
    ("due_entry", "update app.dues set amount_nusd = amount_nusd + 10 ^ 15"),
    (
        "due_entry",
        "insert into app.dues select tenant_id, seq, 5 from app.entries where kind = 'grant'",
    ),
    (
        "ledger_uses",
        "update app.lots set consumed_nusd = consumed_nusd + 1, remaining_nusd = remaining_nusd - 1"
        " where remaining_nusd > 0",
    ),
    ("ledger_uses", "update app.entries set kind = 'expire' where kind = 'adjust'"),
    ("entry_future", "update app.entries set occurred_at = now() + interval '1 minute'"),
    ("account_frozen", _FROZEN),
    ("account_frozen", f"{_FROZEN};{_DISPUTE.format(status='lost', counts='true')}"),
    (
        "account_frozen",
        f"{_FROZEN};{_DISPUTE.format(status='warning_needs_response', counts='false')}",
    ),
    ("float_column", "create table app.tips(tip float8)"),
    ("float_column", "alter table app.orders add column tip_minor text"),
    ("float_column", "alter table app.holds add column waited_s real"),
    ("order_fulfilled", f"{_LOT};{_ORDER}"),
    ("order_fulfilled", f"{_SOLD};update app.orders set state = 'review'"),
    ("order_fulfilled", f"{_SOLD};update app.orders set bonus_nusd = 5"),
    ("fulfilment_lots", f"{_SOLD};update app.fulfilments set granted_nusd = granted_nusd + 1"),
    ("fulfilment_lots", _FULFILMENT.replace("where l.source_id = 'cs_1'", "limit 1")),
    ("lot_paid", _LOT),
    ("payment_clawed_back", f"{_SOLD};" + _REVOKED.format(amount="-granted_nusd - 1")),
    ("payment_clawed_back", f"{_SOLD};" + _REVOKED.format(amount="1")),
    (
        "event_waiting",
        "insert into app.stripe_events(event_id, type, created_at, payload, came_by, due_at)"
        " values ('evt_1', 'x', now(), '{}', 'webhook', now() - interval '16 min')",
    ),
    ("meter_waiting", _METERED.format(attempts=1, due="now()")),
    ("meter_waiting", _METERED.format(attempts=0, due="now() - interval '25 h'")),
    ("meter_counted", _METERED.format(attempts=0, due="now()")),
    ("meter_span", f"insert into app.meter_spans(tenant_id, after_seq) values ({_TENANT}, 0)"),
    ("meter_span", "update app.accounts set floor_nusd = -5 where floor_nusd = 0"),
    ("wallet_held", "update app.accounts set held_nusd = held_nusd + 1"),
    ("wallet_held", "update app.lookups set kept_nusd = kept_nusd - 1"),
    ("wallet_held", "delete from app.lookups"),
    (
        "hold_capture",
        "update app.holds set captured_nusd = captured_nusd + 1 where state = 'captured'",
    ),
    ("hold_capture", "delete from app.entries where kind = 'capture'"),
    (
        "hold_call",
        "update app.holds set state = 'released', settled_at = now() where state = 'open'",
    ),
    ("hold_call", "delete from app.holds where state = 'open'"),
    (
        "usage_ledger",
        f"update app.usage_events set billed_nusd = billed_nusd + 1 where event_id = {_ONE}",
    ),
    ("usage_ledger", "delete from app.entries where kind = 'adjust'"),
    ("counter", "update app.counters set messages = messages + 1 where scope = 'key'"),
    ("counter", "update app.counters set tokens = tokens + 1 where scope = 'user'"),
    ("counter", "update app.counters set spent_nusd = spent_nusd + 1 where scope = 'tenant'"),
    ("counter", "update app.counters set held_nusd = held_nusd + 1"),
    ("counter", "update app.counters set tokens_held = tokens_held + 1"),
    ("counter", "update app.lookups set kept_tokens = kept_tokens + 1"),
    ("counter", "delete from app.counters"),
    ("call_period", "update app.calls set period = period - 40"),
    (
        "turn_call",
        "update app.turns set status = 'running', ended_at = null"
        " where turn_id = (select turn_id from app.turns limit 1)",
    ),
    ("turn_call", "update app.calls set state = 'open', settled_at = null"),
    ("call_turn", "update app.calls set purpose = 'chat', source = 'chat' where state = 'open'"),
    ("turn_answer", "update app.messages set status = 'error' where role = 'assistant'"),
    ("turn_answer", "delete from app.messages where role = 'assistant'"),
    ("turn_question", "delete from app.messages where role = 'user'"),
    ("message_running", "update app.messages set status = 'running' where role = 'assistant'"),
]


@pytest.fixture(scope="module")
def used_url(
    database: Database, fresh_database_url: Callable[[str], str], worker_id: str
) -> Iterator[str]:
    """A database of its own that was used: demo tenants, and calls in every state."""
    url = fresh_database_url(f"purser_used_{worker_id}")
    schema.migrate(url)
    used = Database(settings.current(), url)
    db.install(used)
    try:
        with db.transaction(WHO) as session:
            seed.seed(session, settings.current(), datetime.now(UTC))
        _use()
        yield url
    finally:
        db.install(database)
        used.close()


def _use() -> None:
    place, model = make_place(credit_usd=1), make_model()
    close(open_call(place, model), cost("0.01"))
    close(open_call(place, model), cost("0"), gave_output=False)
    guessed = open_call(place, model)
    close(guessed, cost("0.02", "estimate", needs_lookup=True), generation_id="gen-used")
    for usd in ("0.015", "0.030"):
        truth = open_call(place, model)
        close(truth, cost("0.02", "estimate", needs_lookup=True), generation_id=f"gen-{usd}")
        gate.correct(
            gate.settlement(truth, cost(usd), outcome="ok", gave_output=True, latency_ms=5)
        )
    open_call(place, model)
    close(open_call(make_place(mode="postpaid", credit_usd=0, credit_limit_nusd=10**9), model),
          cost("0.5"))  # fmt: skip
    _close_a_month()


def _close_a_month() -> None:
    """A month of a place of its own, with a truth that came in time and one that came after."""
    place, model = old_place(), make_model()
    month = last_month(place)
    in_time, late = (guessed(place, model, within(place, month)) for _ in range(2))
    correct(in_time, "0.03")
    with db.transaction(WHO) as session:  # the clock of the calls was turned back, and so is this
        for table in ("calls", "counters"):
            session.execute(
                text(f"update app.{table} set period = :month where tenant_id = :tenant"),
                {"month": month, "tenant": place.tenant_id},
            )
    close_month(place, month, accept_unreconciled=True)
    correct(late, "0.03")


@pytest.fixture
def superuser(used_url: str) -> Iterator[Engine]:
    engine = create_engine(
        make_url(used_url).set(drivername="postgresql+psycopg"), poolclass=NullPool
    )
    yield engine
    engine.dispose()


def test_a_used_database_breaks_none(used_url: str) -> None:
    with db.transaction(WHO) as session:
        assert session.scalar(text("select current_user")) == "app_jobs"
        assert session.scalar(text("select count(*) from app.usage_events")) > 1_000
        assert invariants.check(session) == []


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_fault_is_found(superuser: Engine, name: str, fault: str) -> None:
    with Session(superuser) as session:
        session.execute(text("set local session_replication_role = replica"))
        for statement in fault.split(";") if "$$" not in fault else [fault]:
            session.connection().exec_driver_sql(statement)
        found = {violation.name for violation in invariants.check(session)}
        session.rollback()
    assert name in found


@pytest.mark.parametrize(
    "change",
    [
        _SOLD,
        f"{_SOLD};{_REVOKED.format(amount='-granted_nusd')}",
        f"{_FROZEN};{_DISPUTE.format(status='needs_response', counts='true')}",
        _METERED.format(attempts=0, due="now()"),
    ],
    ids=["sold", "refunded", "disputed", "metered late"],
)
def test_what_may_be_is_no_offence_of_a_sale(superuser: Engine, change: str) -> None:
    of_sales = {"order_fulfilled", "fulfilment_lots", "lot_paid", "payment_clawed_back",
                "account_frozen", "event_waiting", "meter_waiting"}  # fmt: skip
    with Session(superuser) as session:
        session.execute(text("set local session_replication_role = replica"))
        for statement in change.split(";"):
            session.connection().exec_driver_sql(statement)
        found = {violation.name for violation in invariants.check(session)}
        session.rollback()
    assert not found & of_sales


def test_every_invariant_has_a_fault_that_proves_it() -> None:
    assert {name for name, _ in FAULTS} == set(invariants.queries())


def test_details_name_rows_and_hold_no_content(superuser: Engine) -> None:
    with Session(superuser) as session:
        session.execute(text("set local session_replication_role = replica"))
        session.execute(text("update app.messages set status = 'running', content = 'canary-7'"))
        session.execute(text("update app.conversations set title = 'canary-7'"))
        found = invariants.check(session)
        session.rollback()
    assert found
    assert "canary" not in str(found)


def test_the_job_counts_offences_by_name(used_url: str) -> None:
    def measured(name: str) -> float | None:
        return telemetry.registry.get_sample_value("purser_invariant_violations", {"name": name})

    fault = "update app.counters set messages = messages + :by where scope = 'key'"
    with db.transaction(WHO) as session:
        offences = session.execute(text(fault), {"by": 1}).rowcount
    invariants._nightly()
    assert (measured("counter"), measured("ledger_posted")) == (offences, 0)
    with db.transaction(WHO) as session:
        session.execute(text(fault), {"by": -1})
    invariants._nightly()
    assert measured("counter") == 0


@pytest.mark.parametrize(("opened", "hourly"), [("3 days", False), ("1 hour", True)])
def test_an_hour_looks_back_to_last_night_and_the_night_at_everything(
    superuser: Engine, opened: str, hourly: bool
) -> None:
    with Session(superuser) as session:
        session.execute(text("set local session_replication_role = replica"))
        call_id = session.scalar(
            text("select call_id from app.calls where state = 'settled' limit 1")
        )
        for statement in (
            "delete from app.usage_events where call_id = :call",
            f"update app.calls set opened_at = now() - interval '{opened}' where call_id = :call",
        ):
            session.execute(text(statement), {"call": call_id})
        night = invariants.check(session)
        hour = invariants.check(session, whole=False)
        session.rollback()
    assert "usage_once" in {found.name for found in night}
    assert ("usage_once" in {found.name for found in hour}) is hourly


def test_what_goes_through_all_of_history_waits_for_the_night() -> None:
    hourly = invariants.queries(whole=False)
    assert set(hourly) < set(invariants.queries())
    for name, query in hourly.items():
        of_history = {"app.usage_events", "app.entries", "app.calls"} & set(query.split())
        bounded = (
            "interval '26 h'" in query or "state = 'open'" in query or "'subscription'" in query
        )
        assert not of_history or bounded or name in _BY_INDEX, name


# They read few rows by index: of sales, and of what is looked up.
_BY_INDEX = {
    "usage_pending",
    "order_fulfilled",
    "fulfilment_lots",
    "payment_clawed_back",
    "lookup_call",
}
