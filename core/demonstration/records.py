"""The rows of finished calls, as admission and settlement would have written them.

Writes only calls and what hangs on them; the money is told by books.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.demonstration.books import Books, Row, booked_first_nusd
from core.demonstration.history import Done
from core.money import ceil_nusd

_HELD_TIMES = 3  # a hold is the worst case: some times what the call then took
_HELD_LEAST_NUSD = 1_000_000
_DEADLINE = timedelta(minutes=10)

_COUNT = """
insert into app.counters(tenant_id, subject_id, period, scope, messages, tokens, spent_nusd)
select c.tenant_id, s.subject_id, c.period, s.scope, count(*) filter (where c.gave_output),
  sum(u.tokens), sum(u.spent)
from app.calls c
join (select tenant_id, call_id, sum(prompt_tokens + completion_tokens) as tokens,
    sum(billed_nusd) as spent from app.usage_events group by 1, 2) u
  on u.tenant_id = c.tenant_id and u.call_id = c.call_id
cross join lateral (values ('user', c.user_id), ('key', c.api_key_id), ('tenant', c.tenant_id))
  as s(scope, subject_id)
where c.tenant_id = :tenant and s.subject_id is not null
group by 1, 2, 3, 4
"""
_ACCOUNT = """
update app.accounts set posted_nusd = :posted, receivable_nusd = :receivable, seq = :seq
where tenant_id = :tenant
"""


def write(session: Session, time_zone: str, history: Sequence[Done], books: Books) -> None:
    """Write the calls of one tenant and everything booked for them."""
    zone = ZoneInfo(time_zone)
    insert(session, "calls", [_call(done, zone) for done in history])
    insert(session, "usage_events", [row for done in history for row in _events(done)])
    insert(session, "generations", [_generation(done) for done in history if done.generation_id])
    insert(session, "holds", [_hold(done) for done in history])
    insert(session, "lots", books.lots)
    insert(session, "entries", books.entries)
    insert(session, "lot_uses", books.lot_uses)
    insert(session, "dues", books.dues)
    session.execute(
        text(_ACCOUNT),
        {"tenant": books.tenant_id, "posted": books.posted_nusd,
         "receivable": books.receivable_nusd, "seq": len(books.entries)},
    )  # fmt: skip
    session.execute(text(_COUNT), {"tenant": books.tenant_id})


def insert(session: Session, table: str, rows: Sequence[Row]) -> None:
    """Insert rows in one statement; columns that no row names keep their defaults."""
    if not rows:
        return
    columns = ", ".join(sorted({name for row in rows for name in row}))
    statement = (
        f"insert into app.{table}({columns}) select {columns}"  # noqa: S608 - our own names
        f" from jsonb_populate_recordset(null::app.{table}, cast(:rows as jsonb))"
    )
    session.execute(text(statement), {"rows": orjson.dumps(rows, default=_plain).decode()})


def _plain(value: object) -> str:
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is no column")


def _held_nusd(done: Done) -> int:
    return max(_HELD_LEAST_NUSD, done.billed_nusd * _HELD_TIMES)


def _shared(done: Done) -> Row:
    """The columns that a call and its events have in common."""
    caller, offer = done.caller, done.offer
    return {
        "tenant_id": caller.tenant_id, "call_id": done.call_id, "user_id": caller.user_id,
        "api_key_id": done.key_id, "tenant_label_id": caller.tenant_label_id,
        "user_label_id": caller.user_label_id, "cost_center": caller.cost_center,
        "project": done.project, "source": done.source, "purpose": done.purpose,
        "conversation_id": done.conversation_id,
        "provider": offer.provider, "model_requested": offer.model_id, "price_id": offer.price_id,
        "outcome": done.outcome, "generation_id": done.generation_id,
    }  # fmt: skip


def _call(done: Done, zone: ZoneInfo) -> Row:
    usage = done.usage
    return {
        **_shared(done), "markup": done.markup, "prompt_tokens_guess": usage.prompt_tokens,
        "answer_tokens_max": 4_096, "tokens_held": usage.prompt_tokens + 4_096,
        "hold_nusd": _held_nusd(done),
        "period": done.opened_at.astimezone(zone).date().replace(day=1), "state": "settled",
        "lease_token": done.call_id, "lease_until": done.settled_at,
        "gave_output": done.gave_output, "deadline_at": done.opened_at + _DEADLINE,
        "opened_at": done.opened_at, "settled_at": done.settled_at,
        "delivered_tokens": usage.completion_tokens,
    }  # fmt: skip


def _hold(done: Done) -> Row:
    captured_nusd = booked_first_nusd(done)
    return {
        "tenant_id": done.caller.tenant_id, "call_id": done.call_id,
        "amount_nusd": _held_nusd(done), "captured_nusd": captured_nusd,
        "state": "captured" if captured_nusd else "released", "opened_at": done.opened_at,
        "settled_at": done.settled_at,
    }  # fmt: skip


def _generation(done: Done) -> Row:
    return {
        "generation_id": done.generation_id, "tenant_id": done.caller.tenant_id,
        "call_id": done.call_id, "seen_at": done.opened_at,
    }  # fmt: skip


def _events(done: Done) -> Iterator[Row]:
    """The event of a call, and the adjustment of one that was booked by estimate."""
    usage = done.usage
    estimated = done.estimate_usd is not None
    first_list_nusd = ceil_nusd(done.estimate_usd) if done.estimate_usd else done.list_nusd
    first = {
        **_shared(done), "kind": "call", "adjusts_call_id": None, "occurred_at": done.opened_at,
        "recorded_at": done.settled_at, "model_served": done.offer.model_id,
        "prompt_tokens": usage.prompt_tokens, "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": 0, "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens, "list_nusd": first_list_nusd,
        "billed_nusd": booked_first_nusd(done), "latency_ms": done.latency_ms,
        "provider_cost_usd": None if estimated else done.cost_usd,
        "cost_source": "estimate" if estimated else "provider",
        "first_token_ms": done.first_token_ms, "cached": False,
    }  # fmt: skip
    yield first
    if estimated:
        nothing = dict.fromkeys((name for name in first if name.endswith("_tokens")), 0)
        yield {
            **first, **nothing, "kind": "adjustment", "adjusts_call_id": done.call_id,
            "recorded_at": done.corrected_at, "list_nusd": done.list_nusd - first_list_nusd,
            "billed_nusd": done.billed_nusd - booked_first_nusd(done),
            "provider_cost_usd": done.cost_usd, "cost_source": "provider",
        }  # fmt: skip
