"""Recovery: settles calls whose owner died, and books the truth about calls settled by estimate.

The reaper settles, it never just releases. Both passes may run in several processes at once: taking a
lease and booking a correction happen once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func, select, text, update

from core import db, errors, jobs, telemetry
from core.catalog.providers import Generation
from core.catalog.tokens import guess_tokens
from core.chat import endings, provider_records
from core.chat.provider_records import Asked
from core.chat.runs import TurnIds
from core.chat.tables import Message, Turn
from core.db import System
from core.jobs import Queue
from core.metering.tables import Call, Lookup
from core.money import billed_nusd, ceil_nusd
from core.quota import costs, gate
from core.quota.costs import Cost
from core.quota.gate import Receipt, Settlement, TakenOver
from core.settings import Settings, current

BATCH = 200
_OF_ONE_TENANT = 25
_LATENCY_MAX_MS = 2**31 - 1
_ASK_AGAIN_S = (1, 3, 10, 60, 600, 3_600)
# A provider that answers, and has no record after an hour, will not have one; one that does not answer
# gets a day. Then the estimate is final and what was kept for the truth comes back.
_NO_RECORD_PATIENCE_S = 3_600
_NO_ANSWER_PATIENCE_S = 86_400
REAPER = System("reaper")

log = structlog.get_logger(__name__)


def reap(settings: Settings) -> int:
    """Settle open calls whose lease has ended; returns how many it settled.

    The providers are asked before any lease is taken, so that one who says nothing cannot outlast
    it; what is not known by then is settled as an estimate and looked up later.
    """
    with db.transaction(REAPER) as session:
        due = session.execute(text(_DUE), {"batch": BATCH, "of_one": _OF_ONE_TENANT}).all()
    asked = provider_records.ask(settings, [(row.provider, row.generation_id) for row in due])
    return _each(due, asked, _take_and_settle)


def reconcile(settings: Settings, *, ignore_backoff: bool = False) -> int:
    """Ask the providers about calls that are not final, and make final what none of them told in time;
    returns how many became final."""
    with db.transaction(REAPER) as session:
        query = select(Lookup).order_by(Lookup.due_at).limit(BATCH)
        if not ignore_backoff:
            query = query.where(Lookup.due_at <= func.now())
        due = list(session.scalars(query))
    asked = provider_records.ask(settings, [(row.provider, row.generation_id) for row in due])
    return _each(due, asked, _book_or_ask_later)


# The longest waiting first, so many of one tenant at once: the others' are not to wait for its rows.
_DUE = """
select tenant_id, call_id, provider, generation_id
from (
  select *, row_number() over (partition by tenant_id order by lease_until) as place
  from app.calls where state = 'open' and lease_until < now()
) as ended
where place <= :of_one order by lease_until limit :batch
"""


def _each(due: Sequence[Any], asked: list[Asked], act: Callable[[Any, Asked], bool]) -> int:
    """How many of the calls `act` did. A tenant whose rows somebody else holds is left for the next
    pass with the rest of its calls, and the others' go on."""
    busy: set[UUID] = set()
    done = 0
    for row, answer in zip(due, asked, strict=True):
        if row.tenant_id not in busy:
            try:
                done += act(row, answer)
            except errors.Busy:
                busy.add(row.tenant_id)
    return done


def _take_and_settle(row: Any, answer: Asked) -> bool:
    taken = gate.take_over(row.tenant_id, row.call_id)
    if taken is None:
        return False  # somebody lives, or was quicker
    is_same = taken.generation_id == row.generation_id
    receipt = _settle_abandoned(taken, answer.generation if is_same else None)
    settled = receipt.code == "ok"
    if settled:
        telemetry.lease_losses_total.inc()
    log.warning(
        "reaper.settled" if settled else "reaper.not_settled", call_id=str(row.call_id),
        code=receipt.code, generation_known=is_same and answer.generation is not None,
    )  # fmt: skip
    return settled


def _book_or_ask_later(row: Lookup, answer: Asked) -> bool:
    if answer.generation is None:
        return _give_up_or_ask_later(row, answer.error)
    _correct(row.tenant_id, row.call_id, answer.generation)
    return True


def _settle_abandoned(taken: TakenOver, generation: Generation | None) -> Receipt:
    call = taken.call
    turn, text = _turn_of(call.tenant_id, call.call_id)
    delivered = max(taken.delivered_tokens, guess_tokens(text))
    known = call.keeps_generations and taken.generation_id is not None
    if generation is not None:
        cost = costs.of_generation(generation)
    elif delivered:
        cost = costs.of_guess(call.terms, call.prompt_tokens_guess, delivered, needs_lookup=known)
    else:
        cost = costs.of_nothing(needs_lookup=known)
    settlement = gate.settlement(
        call, cost, outcome="cut", gave_output=delivered > 0,
        latency_ms=_waited_ms(taken.opened_at),
        generation_id=taken.generation_id, model_served=generation.model if generation else None,
        actor="reaper",
    )  # fmt: skip
    return endings.close(settlement, turn, None)


def _waited_ms(since: datetime) -> int:
    """How long ago that is, as far as the column can say: we may have been away for months."""
    return min(int((datetime.now(UTC) - since).total_seconds() * 1000), _LATENCY_MAX_MS)


def _turn_of(tenant_id: UUID, call_id: UUID) -> tuple[TurnIds | None, str]:
    """The turn of a chat call and the text saved so far; (None, '') for other calls."""
    with db.transaction(REAPER) as session:
        turn = session.scalar(
            select(Turn).where(Turn.tenant_id == tenant_id, Turn.call_id == call_id)
        )
        if turn is None:
            return None, ""
        answer = session.get(Message, (tenant_id, turn.conversation_id, turn.answer_id))
        ids = TurnIds(turn.turn_id, turn.conversation_id, turn.question_id, turn.answer_id)
        return ids, (answer.content + answer.reasoning) if answer else ""


def _correct(tenant_id: UUID, call_id: UUID, generation: Generation) -> None:
    with db.transaction(REAPER) as session:
        call = session.get_one(Call, call_id)
    cost: Cost = costs.of_generation(generation)
    gate.correct(
        Settlement(
            tenant_id=tenant_id, call_id=call_id, lease_token=call.lease_token,
            outcome=call.outcome or "cut", gave_output=True, prompt_tokens=cost.prompt_tokens,
            cached_tokens=cost.cached_tokens, cache_write_tokens=cost.cache_write_tokens,
            completion_tokens=cost.completion_tokens, reasoning_tokens=cost.reasoning_tokens,
            provider_cost_usd=str(cost.usd), list_nusd=ceil_nusd(cost.usd),
            billed_nusd=billed_nusd(cost.usd, call.markup), cost_source="provider", latency_ms=0,
            first_token_ms=None, generation_id=call.generation_id, model_served=generation.model,
            needs_lookup=False, actor="reconcile",
        )
    )  # fmt: skip


def _give_up_or_ask_later(row: Lookup, error: str | None) -> bool:
    """Whether the estimate is final now; else the attempt is noted, and when to ask again."""
    has_answered = error == provider_records.NO_RECORD
    patience_s = _NO_RECORD_PATIENCE_S if has_answered else _NO_ANSWER_PATIENCE_S
    if gate.give_up(row.tenant_id, row.call_id, patience_s=patience_s):
        log.warning("reconcile.given_up", call_id=str(row.call_id), error=error)
        if not has_answered:
            telemetry.alarm("generation_unknown", call_id=str(row.call_id), provider=row.provider)
        return True
    wait_s = _ASK_AGAIN_S[min(row.attempts, len(_ASK_AGAIN_S) - 1)]
    with db.transaction(REAPER) as session:
        session.execute(
            update(Lookup)
            .where(Lookup.tenant_id == row.tenant_id, Lookup.call_id == row.call_id)
            .values(
                attempts=Lookup.attempts + 1, last_error=error,
                due_at=datetime.now(UTC) + timedelta(seconds=wait_s),
            )
        )  # fmt: skip
    return False


@jobs.periodic("* * * * * */5", "chat.reap", Queue.MONEY)
def _reap() -> None:
    reap(current())


@jobs.periodic("* * * * * */5", "chat.reconcile", Queue.MONEY)
def _reconcile() -> None:
    reconcile(current())
