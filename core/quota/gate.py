"""The gate: the one door of every paid call. `open` reserves, `close` settles, `correct` tells the truth.

Policy is here, arithmetic in gate.sql. Nothing reaches a provider without an OpenCall, and only
this file makes one. No network call is made here.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal
from uuid import UUID

import orjson

from core import db, errors, telemetry
from core.catalog import pricing
from core.catalog.pricing import Terms
from core.catalog.reading import Deadlines
from core.db import new_id
from core.metering.calls import LEASE_S
from core.money import billed_nusd, ceil_nusd
from core.quota import refusals
from core.quota.admissions import Admission
from core.quota.costs import Cost
from core.quota.standing import Standing

ANSWER_TOKENS_MIN = 256
_TAKEN_OVER_LEASE_S = 60  # long enough to ask the provider and settle
_GUESS_SAFETY = 1.3  # of the prompt's guessed tokens, where nothing bounds them
# While a cost is uncertain: guessed answer tokens are at most so many times too few (a token of text
# that is guessed by four bytes has one at least), and a known price is so much too low.
_ANSWER_MARGIN = 4
_PRICE_MARGIN = Decimal("1.25")

Source = Literal["chat", "api", "background"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted: a call's purpose and its size. `max_tokens` None takes the model's default.

    The guess of the prompt's tokens prices what nobody counted; the bound is what is reserved for it.
    """

    source: Source
    purpose: str
    prompt_tokens_guess: int
    max_tokens: int | None = None
    inputs: frozenset[str] = frozenset({"text"})
    conversation_id: UUID | None = None
    idempotency_key: str | None = None
    prompt_tokens_bound: int = 0

    @property
    def prompt_tokens_held(self) -> int:
        """The prompt's tokens to reserve."""
        return max(self.prompt_tokens_bound, math.ceil(self.prompt_tokens_guess * _GUESS_SAFETY))


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that passed the gate: the proof a provider asks for, and the terms it is settled on."""

    call_id: UUID
    tenant_id: UUID
    user_id: UUID
    lease_token: UUID
    source: str
    provider: str
    model_id: str
    terms: Terms
    markup: Decimal
    max_tokens: int
    prompt_tokens_guess: int
    tokens_held: int
    hold_nusd: int
    keeps_generations: bool
    deadlines: Deadlines
    opened: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """An open call whose owner died, and what is known of its answer."""

    call: OpenCall
    generation_id: str | None
    delivered_tokens: int
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """The argument of verbs.settle and verbs.correct, field by field."""

    tenant_id: UUID
    call_id: UUID
    lease_token: UUID
    outcome: str
    gave_output: bool
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    provider_cost_usd: str | None
    list_nusd: int
    billed_nusd: int
    cost_source: str
    latency_ms: int
    first_token_ms: int | None
    generation_id: str | None
    model_served: str | None
    needs_lookup: bool
    actor: str
    kept_nusd: int = 0
    kept_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was booked. `code`: ok, settled (it was before), stale (the lease is another's)."""

    code: str
    list_nusd: int | None
    billed_nusd: int | None
    cost_source: str | None
    final: bool | None
    generation_known: bool


_ADMIT = "select * from verbs.admit(jsonb_populate_record(null::verbs.admission, %s))"
_SETTLE = "select * from verbs.settle(jsonb_populate_record(null::verbs.settlement, %s))"
_GIVE_UP = "select verbs.give_up_lookup(%s, %s, %s) as final"
_CORRECT = "select * from verbs.correct(jsonb_populate_record(null::verbs.settlement, %s))"


def open_call(standing: Standing, ask: Ask) -> OpenCall:
    """Reserve the worst case of a call. Raises a LimitReached refusal, or Conflict for a repeat."""
    admission = prepare(standing, ask)
    row = db.current().call_again(_ADMIT, (as_json(admission),), tenant_id=admission.tenant_id)
    if row is None or row["code"] != "ok":
        fits = None if ask.max_tokens is None else affordable_tokens(standing, ask)
        raise refusals.of_verdict(row or {}, admission, standing, fits_tokens=fits)
    return opened(standing, admission)


def prepare(standing: Standing, ask: Ask) -> Admission:
    """Decide the answer's cap and the hold. Raises errors.BadInput for a cap the model cannot reach,
    errors.ModelForbidden for a model that the tenant switched off.

    An explicit cap is kept. Without one the model's default is cut to what is affordable, but never
    below ANSWER_TOKENS_MIN. What cannot be covered is refused by admission, which names the limit.
    """
    if standing.model_id is None or standing.provider is None or standing.price_id is None:
        raise errors.ModelNotFound("There is no model of that name.", param="model")
    if standing.model_blocked:
        raise errors.ModelForbidden(
            f"{standing.model_id} is switched off by your team. Please choose another model.",
            param="model",
        )
    terms = terms_of(standing)
    prompt = ask.prompt_tokens_held
    cap = _answer_cap(standing, ask)
    worst_usd = pricing.worst_case_usd(
        terms, prompt, cap, inputs=ask.inputs, outputs=standing.output_modalities or ()
    )
    return Admission(
        call_id=new_id(), tenant_id=standing.tenant_id, user_id=standing.user_id,
        key_id=standing.key_id, tenant_label_id=standing.tenant_label_id,
        user_label_id=standing.user_label_id, cost_center=standing.cost_center,
        project=standing.project, source=ask.source, purpose=ask.purpose,
        conversation_id=ask.conversation_id, provider=standing.provider,
        model_id=standing.model_id, price_id=standing.price_id, markup=str(standing.markup),
        prompt_tokens_guess=ask.prompt_tokens_guess, answer_tokens_max=cap, tokens_held=prompt + cap,
        hold_nusd=billed_nusd(worst_usd, standing.markup), period=standing.period,
        idempotency_key=ask.idempotency_key, lease_token=new_id(), lease_s=LEASE_S,
        total_ms=standing.deadlines.total_ms, limits=standing.limits,
    )  # fmt: skip


def opened(standing: Standing, admission: Admission) -> OpenCall:
    """The open call of an admission the database accepted."""
    return OpenCall(
        call_id=admission.call_id, tenant_id=admission.tenant_id, user_id=admission.user_id,
        lease_token=admission.lease_token, source=admission.source, provider=admission.provider,
        model_id=admission.model_id, terms=terms_of(standing), markup=standing.markup,
        max_tokens=admission.answer_tokens_max, prompt_tokens_guess=admission.prompt_tokens_guess,
        tokens_held=admission.tokens_held, hold_nusd=admission.hold_nusd,
        keeps_generations=bool(standing.keeps_generations), deadlines=standing.deadlines,
    )  # fmt: skip


def take_over(tenant_id: UUID, call_id: UUID) -> TakenOver | None:
    """Take a call whose lease ended from its dead owner; None when somebody lives or was quicker."""
    row = db.current().call(
        "select c.*, p.terms, v.keeps_generations from verbs.take_lease(%s, %s, %s, %s) c"
        " join app.prices p on p.price_id = c.price_id join app.providers v on v.provider = c.provider",
        (tenant_id, call_id, new_id(), _TAKEN_OVER_LEASE_S),
        role=db.JOBS,
    )
    if row is None:
        return None
    call = OpenCall(
        call_id=row["call_id"], tenant_id=row["tenant_id"], user_id=row["user_id"],
        lease_token=row["lease_token"], source=row["source"], provider=row["provider"],
        model_id=row["model_requested"], terms=pricing.read_terms(row["terms"]),
        markup=row["markup"], max_tokens=row["answer_tokens_max"],
        prompt_tokens_guess=row["prompt_tokens_guess"], tokens_held=row["tokens_held"],
        hold_nusd=row["hold_nusd"],
        keeps_generations=row["keeps_generations"], deadlines=Deadlines(0, 0, 0, 0),
    )  # fmt: skip
    return TakenOver(call, row["generation_id"], row["delivered_tokens"], row["opened_at"])


def close(settlement: Settlement) -> Receipt:
    """Settle an open call, once. Repeating it after a lost connection returns the same receipt."""
    return receipt_of(
        db.current().call_again(_SETTLE, (as_json(settlement),), tenant_id=settlement.tenant_id)
    )


def give_up(tenant_id: UUID, call_id: UUID, *, patience_s: int) -> bool:
    """Make a call's estimate final when no provider could correct it for so long; what was kept for
    it comes back. Whether it became final now."""
    row = db.current().call(_GIVE_UP, (tenant_id, call_id, patience_s), role=db.JOBS)
    return row is not None and bool(row["final"])


def correct(settlement: Settlement) -> Receipt:
    """Book the true cost of a call settled before by estimate; known truth is left as it is."""
    return receipt_of(
        db.current().call_again(_CORRECT, (as_json(settlement),), tenant_id=settlement.tenant_id)
    )


def settlement(
    call: OpenCall,
    cost: Cost,
    *,
    outcome: str,
    gave_output: bool,
    latency_ms: int,
    first_token_ms: int | None = None,
    generation_id: str | None = None,
    model_served: str | None = None,
    actor: str = "system",
) -> Settlement:
    """What to book for a call that ended at this cost, and what of its hold is kept for what it may
    turn out to cost. An overrun of the hold raises an alarm."""
    billed = billed_nusd(cost.usd, call.markup)
    kept_nusd, kept_tokens = _kept(call, cost, billed) if cost.needs_lookup else (0, 0)
    if billed > call.hold_nusd:
        telemetry.alarm(
            "overrun", call_id=str(call.call_id), amount_nusd=billed - call.hold_nusd,
            model=call.model_id,
        )  # fmt: skip
    return Settlement(
        tenant_id=call.tenant_id, call_id=call.call_id, lease_token=call.lease_token,
        outcome=outcome, gave_output=gave_output, prompt_tokens=cost.prompt_tokens,
        cached_tokens=cost.cached_tokens, cache_write_tokens=cost.cache_write_tokens,
        completion_tokens=cost.completion_tokens, reasoning_tokens=cost.reasoning_tokens,
        provider_cost_usd=None if cost.provider_usd is None else str(cost.provider_usd),
        list_nusd=ceil_nusd(cost.usd), billed_nusd=billed, cost_source=cost.source,
        latency_ms=latency_ms, first_token_ms=first_token_ms, generation_id=generation_id,
        model_served=model_served, needs_lookup=cost.needs_lookup, actor=actor,
        kept_nusd=kept_nusd, kept_tokens=kept_tokens,
    )  # fmt: skip


def _kept(call: OpenCall, cost: Cost, billed: int) -> tuple[int, int]:
    """What a call may cost beyond what is booked, in nano-USD and tokens: its hold without the part of
    the answer that cannot have been written."""
    delivered = max(cost.completion_tokens, cost.delivered_tokens)
    answer = min(call.max_tokens, delivered * _ANSWER_MARGIN + ANSWER_TOKENS_MIN)
    unused = call.max_tokens - answer
    prompt = call.tokens_held - call.max_tokens
    unused_nusd = billed_nusd(pricing.answer_usd(call.terms, prompt, unused), call.markup)
    possible_nusd = max(call.hold_nusd - unused_nusd, math.ceil(billed * _PRICE_MARGIN))
    booked_tokens = cost.prompt_tokens + cost.completion_tokens
    return possible_nusd - billed, max(0, prompt + answer - booked_tokens)


def terms_of(standing: Standing) -> Terms:
    """The price held for this call. Raises errors.ModelForbidden when it cannot be used."""
    try:
        return _read_terms(orjson.dumps(standing.terms))
    except pricing.PriceRefused:
        raise errors.ModelForbidden(
            f"{standing.model_id} has no usable price, so it cannot be called.", param="model"
        ) from None


def as_json(record: Admission | Settlement) -> str:
    """A record as the database reads it with jsonb_populate_record."""
    return orjson.dumps(record).decode()


def receipt_of(row: dict[str, object] | None) -> Receipt:
    """The receipt in a row of verbs.settle, verbs.correct or verbs.close_turn."""
    if row is None:
        raise errors.Unavailable("The call could not be settled right now.")
    return Receipt(**row)  # type: ignore[arg-type]


@lru_cache(maxsize=1_024)
def _read_terms(stored: bytes) -> Terms:
    return pricing.read_terms(orjson.loads(stored))


def _answer_cap(standing: Standing, ask: Ask) -> int:
    most = standing.output_tokens_max
    if ask.max_tokens is not None:
        if most is not None and ask.max_tokens > most:
            raise errors.BadInput(
                f"max_tokens is {ask.max_tokens}; {standing.model_id} answers with at most {most}.",
                param="max_tokens",
            )
        return ask.max_tokens
    default = min(standing.answer_tokens_default or 4_096, most or 2**31 - 1)
    affordable = affordable_tokens(standing, ask)
    if affordable is None or affordable >= default:
        return default
    return min(default, max(ANSWER_TOKENS_MIN, affordable))


def affordable_tokens(standing: Standing, ask: Ask) -> int | None:
    """The longest answer, in tokens, that wallet, budgets and quotas cover; None: any."""
    prompt = ask.prompt_tokens_held
    money = [n for n in (standing.available_nusd, standing.spend_left_nusd) if n is not None]
    caps = []
    if money and not standing.is_free:
        affordable = pricing.affordable_tokens(
            terms_of(standing), prompt, max(0, min(money)), markup=standing.markup, inputs=ask.inputs,
            outputs=standing.output_modalities or (),
        )  # fmt: skip
        caps.append(affordable)
    if standing.tokens_left is not None:
        caps.append(standing.tokens_left - prompt)
    return max(0, min(caps)) if caps else None
