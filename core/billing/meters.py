"""Postpaid use on its way to Stripe's meter: summed up hourly, sent from an outbox, each once.

One unit is a micro-USD (1,000 nano-USD). What is below a unit, or negative, waits for later hours; no
unit is ever sent under two identifiers. What a tenant may use is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Gauge
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core import db, errors, jobs, telemetry
from core.billing import customers, stripe_api
from core.billing.effects import Effect, Handled
from core.billing.invoices import NUSD_PER_UNIT
from core.billing.ledger import BILLING
from core.billing.sales_tables import Subscription
from core.billing.stripe_api import StripeRefused
from core.billing.stripe_tables import Meter, MeterExport
from core.identity.tables import Tenant
from core.jobs import Queue

_HOUR = timedelta(hours=1)
_LEASE_S = 300  # longer than one call to Stripe can take, its repeats included
_BATCH = 500
_ATTEMPTS_MAX = 20
_AGE_MAX = timedelta(days=34)  # Stripe takes nothing older than 35 days
_LAG_MAX = timedelta(hours=24)  # beyond it an identifier may be taken twice
_WAIT_FIRST_S, _WAIT_MAX_S = 60, 3600
_TAKEN_BEFORE = ("duplicate_meter_event", "resource_already_exists")
_OTHER_TIME = "idempotency_error"

log = structlog.get_logger(__name__)
lag_gauge = Gauge(
    "purser_meter_lag_seconds", "Age of the oldest use not sent to Stripe's meter",
    registry=telemetry.registry,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One row of the outbox, claimed for sending, with what Stripe needs to know."""

    tenant_id: UUID
    hour: datetime
    revision: int
    units: int
    customer_id: str | None
    event_name: str
    period_start: datetime

    @property
    def identifier(self) -> str:
        """The same for every attempt: Stripe takes it once."""
        hour = self.hour.astimezone(UTC)
        return f"{self.tenant_id}:{self.event_name}:{hour:%Y%m%d%H}:{self.revision}"

    @property
    def ends_at(self) -> datetime:
        """The last second of its hour."""
        return self.hour + _HOUR - timedelta(seconds=1)


def collect(session: Session, tenant_id: UUID, *, until: datetime) -> int:
    """Put what the tenant used before `until`, and no export holds yet, into the outbox; its units.

    Counted is what no lot covered while the tenant was postpaid: from where the last export ended,
    and what that one left over. The row bears the last full hour before `until`.
    """
    session.execute(text(_ONE_COLLECTOR), {"tenant": str(tenant_id)})
    last = session.scalar(
        select(MeterExport)
        .where(MeterExport.tenant_id == tenant_id)
        .order_by(MeterExport.through_seq.desc())
        .limit(1)
    )
    counted_seq, rest_nusd = (last.through_seq, last.rest_nusd) if last is not None else (0, 0)
    found = session.execute(
        text(_USED), {"tenant": tenant_id, "counted": counted_seq, "until": until}
    ).one()
    units, rest_nusd = divmod(rest_nusd + found.used_nusd, NUSD_PER_UNIT)
    if units <= 0:  # less than a unit, or given back: the next hours start from the same place
        return 0
    hour = until.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - _HOUR
    revision = session.scalar(
        select(func.max(MeterExport.revision)).where(
            MeterExport.tenant_id == tenant_id, MeterExport.hour == hour
        )
    )
    session.add(
        MeterExport(
            tenant_id=tenant_id, hour=hour, revision=(revision or 0) + 1, units=units,
            through_seq=found.through_seq, rest_nusd=rest_nusd,
        )
    )  # fmt: skip
    session.flush()
    return int(units)


def collect_all() -> int:
    """`collect` for every postpaid tenant, up to the start of this hour; how many had something.

    Opens its own transactions. Raises an alarm for a tenant whose use could not be summed up, and
    when something waits for more than 24 hours.
    """
    with db.transaction(BILLING) as session:
        tenant_ids = session.scalars(
            select(Subscription.tenant_id)
            .join(Tenant, Tenant.tenant_id == Subscription.tenant_id)
            .where(
                Tenant.mode == "postpaid", Subscription.purpose == "usage",
                Subscription.ended_at.is_(None),
            )
            .distinct()
            .order_by(Subscription.tenant_id)
        ).all()  # fmt: skip
        until = session.execute(select(func.date_trunc("hour", func.now(), "UTC"))).scalar_one()
    counted = 0
    for tenant_id in tenant_ids:
        try:
            with db.transaction(BILLING) as session:
                counted += collect(session, tenant_id, until=until) > 0
        except errors.Unavailable:  # the others' use is not to wait for this one's
            telemetry.alarm("meter_not_collected", tenant_id=str(tenant_id))
    if (late := _lag()) > _LAG_MAX:
        telemetry.alarm("meter_lag", seconds=late // timedelta(seconds=1))
    return counted


def send() -> int:
    """Send what waits, oldest first, one at a time for each tenant; how much Stripe took.

    Opens its own transactions, none during a call. What got no answer is sent again under the same
    identifier. Refused: later and later, given up with an alarm after 20 attempts or 34 days.
    """
    if not stripe_api.configured():
        return 0
    _give_up_old()
    taken = 0
    for _ in range(_BATCH):
        parcel = _claim()
        if parcel is None:
            break
        try:
            _hand_over(parcel)
        except errors.Unavailable as error:  # not this row's fault: the next run tries again
            log.warning("meter.not_sent", error=type(error).__name__)
            _put_back(parcel)
            break
        except StripeRefused as refused:
            _refuse(parcel, refused.code)
        else:
            _close(parcel)
            taken += 1
    lag_gauge.set(_lag() // timedelta(seconds=1))
    return taken


def on_error_report(session: Session, object: Mapping[str, Any]) -> Effect:  # noqa: A002, ARG001
    """Stripe could not count use it had taken before: an operator must look, nothing is booked."""
    telemetry.alarm("meter_error_report", source=str(object.get("id")))
    return Handled("operators were told")


def meter(session: Session) -> Meter:
    """The meter that postpaid use goes to. Raises errors.NotFound without its row."""
    row = session.scalar(select(Meter).order_by(Meter.event_name).limit(1))
    if row is None:
        raise errors.NotFound("There is no meter.")
    return row


# Not the account's lock: summing up may take a while, and calls go on meanwhile.
_ONE_COLLECTOR = "select pg_advisory_xact_lock(hashtextextended('meters:' || :tenant, 0))"
# Entries are numbered in the order in which they can be seen: nothing may appear below `through_seq`
# later. Where one is not due before `until` yet, what follows it waits too.
_USED = """
with due as (
  select d.seq, d.amount_nusd, e.occurred_at
  from app.dues d join app.entries e on e.tenant_id = d.tenant_id and e.seq = d.seq
  where d.tenant_id = :tenant and d.seq > :counted and e.kind in ('capture', 'adjust')
    and exists (select from app.meter_spans s where s.tenant_id = d.tenant_id
      and d.seq > s.after_seq and (s.last_seq is null or d.seq <= s.last_seq)))
select coalesce(sum(amount_nusd), 0)::bigint as used_nusd, max(seq) as through_seq
from due
where seq < coalesce((select min(seq) from due where occurred_at >= :until), seq + 1)
"""
_CLAIM = """
update app.meter_exports m set due_at = now() + make_interval(secs => :lease)
from (
  select x.tenant_id, x.hour, x.revision from app.meter_exports x
  where x.state = 'waiting' and x.due_at <= now()
    and not exists (select from app.meter_exports y
      where y.tenant_id = x.tenant_id and y.state = 'waiting'
        and (y.hour, y.revision) < (x.hour, x.revision))
  order by x.due_at, x.tenant_id limit 1 for update skip locked) first
where m.tenant_id = first.tenant_id and m.hour = first.hour and m.revision = first.revision
returning m.tenant_id, m.hour, m.revision, m.units
"""
_GIVE_UP = """
update app.meter_exports set state = 'dead', error = 'too old for Stripe'
where state = 'waiting' and hour < now() - :age
returning tenant_id
"""


def _claim() -> _Parcel | None:
    """The oldest row of a tenant whose turn it is; nobody else sends for this tenant until then."""
    with db.transaction(BILLING) as session:
        row = session.execute(text(_CLAIM), {"lease": _LEASE_S}).one_or_none()
        if row is None:
            return None
        customer = customers.of_tenant(session, row.tenant_id)
        period_start = session.scalar(
            select(func.max(Subscription.period_start)).where(
                Subscription.tenant_id == row.tenant_id, Subscription.purpose == "usage",
                Subscription.period_start <= func.now(),  # later: Stripe's clock is a test's
            )
        )  # fmt: skip
        return _Parcel(
            row.tenant_id, row.hour, row.revision, row.units,
            customer.customer_id if customer else None, meter(session).event_name,
            period_start or row.hour,
        )  # fmt: skip


def _hand_over(parcel: _Parcel) -> None:
    """Give it to Stripe. Raises StripeDown, StripeRefused.

    Use of a period that was billed meanwhile would be lost there: it counts in the present one. If it
    was sent with its own time before, it is repeated as it was then.
    """
    at = max(parcel.ends_at, parcel.period_start)
    try:
        _report(parcel, at)
    except StripeRefused as refused:
        if refused.code != _OTHER_TIME or at == parcel.ends_at:
            raise
        _report(parcel, parcel.ends_at)


def _report(parcel: _Parcel, at: datetime) -> None:
    if parcel.customer_id is None:
        raise StripeRefused("no_customer")
    try:
        stripe_api.current().send_usage(
            event_name=parcel.event_name, identifier=parcel.identifier,
            customer_id=parcel.customer_id, units=parcel.units, at=at,
        )  # fmt: skip
    except StripeRefused as refused:
        if refused.code not in _TAKEN_BEFORE and refused.param != "identifier":
            raise  # of an identifier as well-formed as ours only its repetition is refused


def _row(session: Session, parcel: _Parcel) -> MeterExport:
    key = (parcel.tenant_id, parcel.hour, parcel.revision)
    return session.get_one(MeterExport, key, with_for_update=True, populate_existing=True)


def _close(parcel: _Parcel) -> None:
    with db.transaction(BILLING) as session:
        row = _row(session, parcel)
        row.state, row.error = "sent", None
        row.sent_at = session.scalar(select(func.now()))


def _put_back(parcel: _Parcel) -> None:
    with db.transaction(BILLING) as session:
        row = _row(session, parcel)
        row.due_at = _now(session) + timedelta(seconds=_WAIT_FIRST_S)


def _refuse(parcel: _Parcel, code: str) -> None:
    """Stripe said no: try later, or give up."""
    with db.transaction(BILLING) as session:
        row = _row(session, parcel)
        row.attempts += 1
        row.error = code
        wait_s = min(_WAIT_MAX_S, _WAIT_FIRST_S * 2**row.attempts)
        row.due_at = _now(session) + timedelta(seconds=wait_s)
        if row.attempts >= _ATTEMPTS_MAX:
            row.state = "dead"
        given_up = row.state == "dead"
    if given_up:
        telemetry.alarm("meter_export_dead", tenant_id=str(parcel.tenant_id), code=code)


def _give_up_old() -> None:
    with db.transaction(BILLING) as session:
        lost = session.scalars(text(_GIVE_UP), {"age": _AGE_MAX}).all()
    for tenant_id in lost:
        telemetry.alarm("meter_export_dead", tenant_id=str(tenant_id), code="too_old")


def _lag() -> timedelta:
    """How old the oldest use is that waits to be sent."""
    with db.transaction(BILLING) as session:
        oldest = session.scalar(
            select(func.min(MeterExport.hour)).where(MeterExport.state == "waiting")
        )
        return timedelta(0) if oldest is None else _now(session) - oldest - _HOUR


def _now(session: Session) -> datetime:
    return session.execute(select(func.now())).scalar_one()


@jobs.periodic("3 * * * *", "billing.collect_use", Queue.MONEY)
def _collect() -> None:
    collect_all()


@jobs.periodic("* * * * *", "billing.send_use", Queue.MONEY)
def _send() -> None:
    send()
