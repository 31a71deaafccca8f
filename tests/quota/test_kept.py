"""What stays reserved while a call's cost is not final: in the wallet and in every counter, until the
truth comes or nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import db, errors
from core.catalog.answers import Answer, Delta, Failure, Outcome
from core.db import new_id
from core.metering.tables import Lookup
from core.quota import costs, gate, standing
from core.quota.gate import Ask, OpenCall, Settlement
from core.quota.standing import Standing
from core.quota.tables import Counter
from tests.billing.wallets import assert_sound
from tests.factories import TESTS, Place, make_model, make_place
from tests.quota.test_gate import cost, keyed, make_key, wallet

pytestmark = pytest.mark.usefixtures("database")

PROMPT_TOKENS = 100
FAILED = Failure("provider_error", 502, None, "in answer")
# Every way to end without a cost that is final, and whether something was delivered.
ENDINGS: dict[str, tuple[Outcome, bool]] = {
    "stopped before the first token": ("stopped", False),
    "stopped": ("stopped", True),
    "ended quietly": ("cut", True),
    "ended quietly with nothing": ("cut", False),
    "failed in mid-stream": ("error", True),
    "failed as its first event": ("error", False),
    "timed out": ("timeout", True),
    "timed out before the first token": ("timeout", False),
}
LIMITS = {
    "wallet": None,
    "budget of the key": ("key", "monthly_nusd", 6_000_000),
    "budget of the person": ("user", "monthly_nusd", 6_000_000),
    "budget of the tenant": ("tenant", "monthly_nusd", 6_000_000),
    "tokens of the key": ("key", "monthly_tokens", 4_000),
    "tokens of the person": ("user", "monthly_tokens", 4_000),
    "tokens of the tenant": ("tenant", "monthly_tokens", 4_000),
}


class Caller:
    """A person with a key, a model, and one limit that is in the way."""

    def __init__(self, limited: str) -> None:
        self.limit = LIMITS[limited]
        self.place: Place = make_place(credit_usd="0.006" if self.limit is None else 10)
        self.model = make_model()
        self.key_id = make_key(self.place)
        if self.limit is not None:
            subjects = {"key": self.key_id, "user": self.place.user_id,
                        "tenant": self.place.tenant_id}  # fmt: skip
            with db.transaction(TESTS) as session:
                session.execute(
                    text("insert into app.limit_overrides values (:t, :s, :i, :n, :m)"),
                    {"t": self.place.tenant_id, "s": self.limit[0], "i": subjects[self.limit[0]],
                     "n": self.limit[1], "m": self.limit[2]},
                )  # fmt: skip

    @property
    def asker(self) -> Standing:
        found = keyed(self.place, self.model, self.key_id)
        limits = list(found.limits)
        if self.limit is not None and self.limit[0] == "key":
            place = 8 if self.limit[1] == "monthly_tokens" else 9
            limits[place] = self.limit[2]
        fields = {name: getattr(found, name) for name in Standing.__slots__}
        return Standing(**fields | {"limits": limits})

    def open(self) -> OpenCall:
        return gate.open_call(self.asker, Ask("api", "test", PROMPT_TOKENS, 1_000))

    @property
    def held(self) -> list[tuple[str, int, int]]:
        with db.transaction(TESTS) as session:
            rows = session.scalars(
                select(Counter).where(Counter.tenant_id == self.place.tenant_id)
            ).all()
        return sorted((row.scope, row.held_nusd, row.tokens_held) for row in rows)


def answer_of(ending: str) -> Answer:
    outcome, has_output = ENDINGS[ending]
    answer = Answer(generation_id=f"gen-{new_id().hex}", outcome=outcome, failure=FAILED)
    if has_output:
        answer.deltas.append(Delta("x" * 200))
    return answer


def settlement_of(call: OpenCall, answer: Answer, *, keeps_generations: bool = True) -> Settlement:
    found = costs.of_answer(
        answer, call.terms, prompt_tokens_guess=call.prompt_tokens_guess,
        keeps_generations=keeps_generations,
    )  # fmt: skip
    return gate.settlement(
        call, found, outcome=answer.outcome, gave_output=answer.has_output, latency_ms=1,
        generation_id=answer.generation_id,
    )  # fmt: skip


def end(call: OpenCall, ending: str, **named: Any) -> Settlement:
    settlement = settlement_of(call, answer_of(ending), **named)
    assert gate.close(settlement).code == "ok"
    return settlement


def tell_truth(call: OpenCall, usd: str) -> None:
    gate.correct(gate.settlement(call, cost(usd), outcome="ok", gave_output=True, latency_ms=0))


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_may_still_be_billed_stays_held_and_the_rest_comes_back(ending: str) -> None:
    caller = Caller("wallet")
    call = caller.open()
    end(call, ending)
    charged = 6_000_000 - wallet(caller.place).posted_nusd
    kept = wallet(caller.place).held_nusd
    # the prompt as it was held, and what was delivered: four times over and 256 tokens more
    delivered = 50 if ENDINGS[ending][1] else 0
    assert charged + kept == 130 * 1_000 + (4 * delivered + 256) * 2_000
    tokens = 130 + 4 * delivered + 256 - (PROMPT_TOKENS + delivered if charged else 0)
    assert caller.held == [("key", kept, tokens), ("tenant", kept, tokens), ("user", kept, tokens)]
    assert 0 < kept < call.hold_nusd - charged
    assert_sound(caller.place.tenant_id)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("limited", LIMITS)
def test_a_row_of_such_calls_stops_where_the_limit_stops(ending: str, limited: str) -> None:
    """The truth is as dear as it can be, and comes after all of them."""
    caller = Caller(limited)
    ended: list[Settlement] = []
    calls: list[OpenCall] = []
    for _ in range(20):
        try:
            calls.append(caller.open())
        except (errors.InsufficientCredit, errors.BudgetReached, errors.QuotaReached):
            break
        ended.append(end(calls[-1], ending))
    assert 0 < len(calls) < 20
    for call, settled in zip(calls, ended, strict=True):
        possible = Decimal(settled.billed_nusd + settled.kept_nusd).scaleb(-9)
        tell_truth(call, str(possible))
    after = wallet(caller.place)
    assert (after.held_nusd, after.debt_nusd) == (0, 0)
    assert {(held, tokens) for _, held, tokens in caller.held} == {(0, 0)}
    if caller.limit is not None and caller.limit[1] == "monthly_nusd":
        assert 10_000_000_000 - after.posted_nusd <= caller.limit[2]
    assert_sound(caller.place.tenant_id)


def _truth(caller: Caller, call: OpenCall) -> None:
    tell_truth(call, "0.0002")


def _patience_ends(caller: Caller, call: OpenCall) -> None:
    assert gate.give_up(caller.place.tenant_id, call.call_id, patience_s=0)
    assert not gate.give_up(caller.place.tenant_id, call.call_id, patience_s=0)


@pytest.mark.parametrize("finish", [_truth, _patience_ends])
@pytest.mark.parametrize("ending", ENDINGS)
def test_it_comes_back_when_the_cost_is_final(
    ending: str, finish: Callable[[Caller, OpenCall], None]
) -> None:
    caller = Caller("wallet")
    call = caller.open()
    settled = end(call, ending)
    assert not gate.give_up(caller.place.tenant_id, call.call_id, patience_s=60)
    finish(caller, call)
    assert {(held, tokens) for _, held, tokens in caller.held} == {(0, 0)}
    after = wallet(caller.place)
    charged = 200_000 if finish is _truth else settled.billed_nusd
    assert (after.held_nusd, after.posted_nusd) == (0, 6_000_000 - charged)
    with db.transaction(TESTS) as session:
        assert session.get(Lookup, (caller.place.tenant_id, call.call_id)) is None
    assert_sound(caller.place.tenant_id)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("reason", ["no records", "no generation"])
def test_nothing_is_kept_where_nobody_can_be_asked(ending: str, reason: str) -> None:
    caller = Caller("wallet")
    call = caller.open()
    answer = answer_of(ending)
    if reason == "no generation":
        answer.generation_id = None
    receipt = gate.close(settlement_of(call, answer, keeps_generations=reason != "no records"))
    assert receipt.final
    assert wallet(caller.place).held_nusd == 0
    is_charged = ENDINGS[ending][0] == "stopped" or (
        ENDINGS[ending][1] and ENDINGS[ending][0] != "error"
    )
    assert (receipt.billed_nusd or 0) == (100_000 + 2_000 * 50 * ENDINGS[ending][1]) * is_charged


def test_tokens_priced_by_the_table_keep_a_margin_of_their_price() -> None:
    caller = Caller("wallet")
    call = caller.open()
    dear = gate.settlement(
        call, cost("0.0019", "price_table", needs_lookup=True), outcome="ok", gave_output=True,
        latency_ms=1, generation_id=f"gen-{new_id().hex}",
    )  # fmt: skip
    assert gate.close(dear).final is False
    assert wallet(caller.place).held_nusd == 1_900_000 // 4


def test_the_truth_and_the_end_of_patience_at_once_give_it_back_once() -> None:
    caller = Caller("wallet")
    for _ in range(5):
        call = caller.open()
        end(call, "failed in mid-stream")
        tasks: list[Callable[[], object]] = [
            lambda call=call: tell_truth(call, "0.0001"),
            lambda call=call: gate.give_up(caller.place.tenant_id, call.call_id, patience_s=0),
        ] * 3  # type: ignore[misc]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda task: task(), tasks))
    assert wallet(caller.place).held_nusd == 0
    assert {(held, tokens) for _, held, tokens in caller.held} == {(0, 0)}
    assert_sound(caller.place.tenant_id)


def test_what_is_kept_of_a_lot_does_not_expire_before_the_truth() -> None:
    caller = Caller("wallet")
    call = caller.open()
    end(call, "failed in mid-stream")
    kept = wallet(caller.place).held_nusd
    tenant_id: UUID = caller.place.tenant_id
    with db.transaction(TESTS) as session:
        for table, column in (("lots", "expires_at"), ("accounts", "next_expiry_at")):
            session.execute(
                text(
                    f"update app.{table} set {column} = now() - interval '1 s' where tenant_id = :t"
                ),
                {"t": tenant_id},
            )
        session.execute(text("select verbs.expire_lots(:t)"), {"t": tenant_id})
    assert wallet(caller.place).posted_nusd == kept
    assert_sound(tenant_id)


def test_the_callers_standing_counts_what_is_kept() -> None:
    caller = Caller("budget of the person")
    end(caller.open(), "failed in mid-stream")
    found = standing.of_member(caller.place.who, caller.model)
    assert found.spend_left_nusd == 6_000_000 - wallet(caller.place).held_nusd
