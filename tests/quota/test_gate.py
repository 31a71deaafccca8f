"""The gate on the real database: what it admits, refuses, settles and corrects, also all at once."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import func, select, text

from core import db, errors, telemetry
from core.billing import ledger
from core.billing.tables import Entry, Hold
from core.db import Database, new_id
from core.metering import calls
from core.metering.tables import Call, Lookup, UsageDay, UsageEvent
from core.quota import gate, standing
from core.quota.costs import Cost
from core.quota.gate import Ask, OpenCall, Receipt
from core.quota.tables import Counter as CounterRow
from tests.factories import TESTS, Place, make_model, make_place, sum_up

pytestmark = pytest.mark.usefixtures("database")
OFFERED = frozenset({"openrouter"})


def ask(tokens: int = 100, max_tokens: int | None = 1_000, key: str | None = None) -> Ask:
    return Ask(
        "api", "test", prompt_tokens_guess=tokens, max_tokens=max_tokens, idempotency_key=key
    )


def open_call(place: Place, model: str, asked: Ask | None = None) -> OpenCall:
    return gate.open_call(standing.of_member(place.who, model), asked or ask())


def cost(usd: str, source: str = "provider", *, needs_lookup: bool = False) -> Cost:
    return Cost(Decimal(usd), source, needs_lookup, Decimal(usd), 100, 0, 0, 50, 0)


def close(call: OpenCall, spent: Cost, *, gave_output: bool = True, **named: str) -> Receipt:
    return gate.close(
        gate.settlement(
            call, spent, outcome="ok", gave_output=gave_output, latency_ms=5, first_token_ms=2,
            generation_id=named.get("generation_id"), model_served=named.get("model_served"),
        )
    )  # fmt: skip


def wallet(place: Place) -> ledger.Wallet:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, place.tenant_id)


def limit(place: Place, name: str, maximum: int, scope: str = "tenant") -> None:
    subject = place.tenant_id if scope == "tenant" else place.user_id
    with db.transaction(TESTS) as session:
        session.execute(
            text("insert into app.limit_overrides values (:t, :s, :i, :n, :m)"),
            {"t": place.tenant_id, "s": scope, "i": subject, "n": name, "m": maximum},
        )


def test_a_call_holds_its_worst_case_and_captures_its_true_cost() -> None:
    place, model = make_place(credit_usd=1), make_model()
    call = open_call(place, model)
    # 130 prompt tokens (with the safety factor) and 1,000 answer tokens
    assert call.hold_nusd == 130 * 1_000 + 1_000 * 2_000
    assert wallet(place).held_nusd == call.hold_nusd
    receipt = close(call, cost("0.000123456789"))
    assert (receipt.code, receipt.billed_nusd, receipt.final) == ("ok", 123_457, True)
    assert wallet(place).held_nusd == 0
    assert wallet(place).posted_nusd == 1_000_000_000 - 123_457


def test_settling_twice_books_once_and_returns_the_same_receipt() -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    first, second = close(call, cost("0.5")), close(call, cost("0.7"))
    assert (first.billed_nusd, second.billed_nusd, second.code) == (
        500_000_000,
        500_000_000,
        "settled",
    )
    assert wallet(place).posted_nusd == 9_500_000_000


def test_an_old_lease_settles_nothing() -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    with db.transaction(TESTS) as session:
        session.execute(
            text("update app.calls set lease_until = now() - interval '1 s' where call_id = :c"),
            {"c": call.call_id},
        )
    taken = gate.take_over(place.tenant_id, call.call_id)
    assert taken is not None
    assert close(call, cost("1")).code == "stale"
    assert wallet(place).held_nusd == call.hold_nusd
    assert close(taken.call, cost("1")).code == "ok"


def test_a_living_lease_cannot_be_taken() -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    assert gate.take_over(place.tenant_id, call.call_id) is None


@pytest.mark.parametrize("round_number", range(5))
def test_fifty_racers_on_a_wallet_for_three_admit_three(round_number: int) -> None:
    place, model = make_place(credit_usd="0.00639"), make_model()  # 3 x 2,130,000 nano-USD
    outcomes: Counter[str] = Counter()
    barrier = threading.Barrier(16)

    def race(number: int) -> None:
        if number < 16:
            barrier.wait()
        try:
            open_call(place, model)
            outcomes["ok"] += 1
        except errors.InsufficientCredit:
            outcomes["refused"] += 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(race, range(50)))
    assert outcomes == {"ok": 3, "refused": 47}
    assert wallet(place).available_nusd == 0


@pytest.mark.parametrize(
    ("name", "scope", "maximum", "error"),
    [
        ("requests_per_minute", "user", 3, errors.RateLimited),
        ("requests_per_minute", "tenant", 3, errors.RateLimited),
        ("requests_per_hour", "user", 3, errors.RateLimited),
        ("monthly_messages", "tenant", 3, errors.QuotaReached),
        ("monthly_tokens", "user", 3 * 1_130, errors.QuotaReached),
        ("monthly_nusd", "tenant", 3 * 2_130_000, errors.BudgetReached),
        ("monthly_nusd", "user", 3 * 2_130_000, errors.BudgetReached),
    ],
)
def test_racers_on_a_limit_of_three_admit_three_and_name_it(
    name: str, scope: str, maximum: int, error: type[errors.LimitReached]
) -> None:
    place, model = make_place(), make_model()
    limit(place, name, maximum, scope)
    refusals: list[errors.LimitReached] = []
    admitted: list[OpenCall] = []

    def race(_number: int) -> None:
        try:
            admitted.append(open_call(place, model))
        except errors.LimitReached as refused:
            refusals.append(refused)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(race, range(12)))
    assert len(admitted) == 3
    assert {type(refused) for refused in refusals} == {error}
    assert {(r.scope, r.limit.removesuffix("usd").rstrip("_")) for r in refusals} == {
        (scope, name.removesuffix("nusd").rstrip("_"))
    }
    assert all(refused.resets_at for refused in refusals)


def test_a_call_without_output_gives_its_message_and_its_money_back() -> None:
    place, model = make_place(), make_model()
    limit(place, "monthly_messages", 1)
    call = open_call(place, model)
    gate.close(
        gate.settlement(
            call, Cost(Decimal(0), "provider", needs_lookup=False), outcome="error",
            gave_output=False, latency_ms=1,
        )
    )  # fmt: skip
    assert wallet(place).posted_nusd == 10_000_000_000
    open_call(place, model)


def test_the_default_answer_is_cut_to_what_is_affordable() -> None:
    place, model = make_place(credit_usd="0.00213"), make_model()
    call = open_call(place, model, ask(max_tokens=None))
    assert call.max_tokens == 1_000
    assert wallet(place).available_nusd == 0


def test_an_answer_is_never_cut_below_the_least_useful() -> None:
    place, model = make_place(credit_usd="0.0005"), make_model()
    with pytest.raises(errors.InsufficientCredit):
        open_call(place, model, ask(max_tokens=None))


def test_a_refusal_names_free_and_affordable_models_that_still_work() -> None:
    free = make_model(terms={"prompt": "0", "completion": "0"}, free=True, provider="demo")
    cheap = make_model(terms={"prompt": "0", "completion": "0.00000001"}, provider="demo")
    place, model = make_place(credit_usd="0.0005"), make_model(provider="demo")
    with pytest.raises(errors.InsufficientCredit) as refused:
        open_call(place, model, ask(max_tokens=None))
    assert refused.value.still_works
    assert "(free)" in refused.value.still_works
    open_call(place, free)
    open_call(place, cheap)
    assert model not in refused.value.still_works


def test_an_explicit_cap_that_is_not_affordable_is_refused_with_the_one_that_is() -> None:
    place, model = make_place(credit_usd="0.00213"), make_model()
    with pytest.raises(errors.InsufficientCredit, match="at most 1,000 tokens would fit"):
        open_call(place, model, ask(max_tokens=5_000))


def test_free_models_work_on_an_empty_wallet() -> None:
    place, model = (
        make_place(credit_usd=0),
        make_model(terms={"prompt": "0", "completion": "0"}, free=True),
    )
    call = open_call(place, model)
    assert call.hold_nusd == 0
    assert close(call, Cost(Decimal(0), "provider", needs_lookup=False)).code == "ok"


def test_debt_refuses_new_calls_until_a_grant_pays_it_first() -> None:
    place, model = make_place(credit_usd=1), make_model()
    close(open_call(place, model), cost("3"))
    after = wallet(place)
    assert (after.posted_nusd, after.debt_nusd, after.available_nusd) == (
        -2_000_000_000,
        2_000_000_000,
        0,
    )
    with pytest.raises(errors.InsufficientCredit, match=r"owes \$2\.00"):
        open_call(place, model)
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, 5_000_000_000, kind="purchase", key="k", actor="t", reason="r"
        )
    after = wallet(place)
    assert (after.posted_nusd, after.debt_nusd) == (3_000_000_000, 0)
    open_call(place, model)


def test_a_disputed_payment_refuses_new_calls_and_lets_open_ones_end() -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    with db.transaction(TESTS) as session:
        ledger.set_frozen(session, place.tenant_id, True)
    with pytest.raises(errors.InsufficientCredit, match="is disputed") as refused:
        open_call(place, model)
    assert (refused.value.limit, refused.value.scope, refused.value.status) == (
        "dispute", "tenant", 402,
    )  # fmt: skip
    assert close(call, cost("0.001")).code == "ok"
    with db.transaction(TESTS) as session:
        ledger.set_frozen(session, place.tenant_id, False)
    open_call(place, model)


@pytest.mark.parametrize(("usd", "alarms"), [("0.00213", 0), ("0.005", 1)])
def test_a_cost_above_the_hold_is_booked_in_full_and_raises_an_alarm(usd: str, alarms: int) -> None:
    place, model = make_place(credit_usd="0.00213"), make_model()
    raised = telemetry.alarms_total.labels(name="overrun")
    before = raised._value.get()
    receipt = close(open_call(place, model), cost(usd))
    owed = int(Decimal(usd).scaleb(9)) - 2_130_000
    assert receipt.billed_nusd == 2_130_000 + owed
    assert (wallet(place).posted_nusd, wallet(place).debt_nusd) == (-owed, owed)
    assert raised._value.get() - before == alarms


def test_postpaid_gates_by_its_credit_limit_and_owes_a_receivable() -> None:
    place = make_place(credit_usd=0, mode="postpaid", credit_limit_nusd=3_000_000)
    model = make_model()
    call = open_call(place, model)
    with pytest.raises(errors.InsufficientCredit):
        open_call(place, model)
    close(call, cost("0.002"))
    after = wallet(place)
    assert (after.debt_nusd, after.receivable_nusd, after.available_nusd) == (
        0,
        2_000_000,
        1_000_000,
    )


def test_internal_is_gated_by_budgets_only() -> None:
    place, model = make_place(credit_usd=0, mode="internal"), make_model()
    close(open_call(place, model), cost("7"))
    after = wallet(place)
    assert (after.available_nusd, after.receivable_nusd, after.debt_nusd) == (
        None,
        7_000_000_000,
        0,
    )
    open_call(place, model)


def test_the_same_idempotency_key_names_the_first_call() -> None:
    place, model = make_place(), make_model()
    key_id = make_key(place)
    asker = keyed(place, model, key_id)
    first = gate.open_call(asker, ask(key="once"))
    with pytest.raises(errors.Conflict, match=str(first.call_id)):
        gate.open_call(asker, ask(key="once"))


def test_markup_is_rounded_up_once() -> None:
    place, model = make_place(markup="0.1"), make_model()
    receipt = close(open_call(place, model), cost("0.000000001"))
    assert (receipt.list_nusd, receipt.billed_nusd) == (1, 2)


@pytest.mark.parametrize(("truth", "posted"), [("0.75", 9_250_000_000), ("0.25", 9_750_000_000)])
def test_the_truth_is_booked_once_as_an_adjustment(truth: str, posted: int) -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    generation = f"gen-{new_id().hex}"
    first = close(call, cost("0.5", "estimate", needs_lookup=True), generation_id=generation)
    assert first.final is False
    true_settlement = gate.settlement(
        call, cost(truth), outcome="ok", gave_output=True, latency_ms=0, generation_id=generation
    )
    for _ in range(2):
        receipt = gate.correct(true_settlement)
        assert receipt.final is True
    assert wallet(place).posted_nusd == posted
    sum_up()
    with db.transaction(TESTS) as session:
        events = session.scalars(
            select(UsageEvent)
            .where(UsageEvent.call_id == call.call_id)
            .order_by(UsageEvent.event_id)
        ).all()
        assert [event.kind for event in events] == ["call", "adjustment"]
        assert sum(event.billed_nusd for event in events) == 10_000_000_000 - posted
        assert session.get(Lookup, (place.tenant_id, call.call_id)) is None
        day = session.scalars(select(UsageDay).where(UsageDay.tenant_id == place.tenant_id)).one()
        assert (day.requests, day.billed_nusd) == (1, 10_000_000_000 - posted)
        spent = session.scalars(
            select(CounterRow.spent_nusd).where(CounterRow.tenant_id == place.tenant_id)
        ).all()
        assert spent == [10_000_000_000 - posted] * 2


def test_a_correction_gives_back_to_the_lot_that_paid_the_debt() -> None:
    place, model = make_place(credit_usd=1), make_model()
    call = open_call(place, model)
    close(call, cost("3", "estimate", needs_lookup=True), generation_id=f"gen-{new_id().hex}")
    with db.transaction(TESTS) as session:
        ledger.grant(
            session, place.tenant_id, 5_000_000_000, kind="purchase", key="k", actor="t", reason="r"
        )
    gate.correct(gate.settlement(call, cost("0.5"), outcome="ok", gave_output=True, latency_ms=0))
    after = wallet(place)
    with db.transaction(TESTS) as session:
        left = [lot.remaining_nusd for lot in ledger.lots(session, place.tenant_id, limit=None)]
    assert after.posted_nusd == sum(left) == 5_500_000_000


def test_a_heartbeat_extends_only_its_own_lease_and_carries_the_stop() -> None:
    place, model = make_place(), make_model()
    call = open_call(place, model)
    assert calls.beat(place.tenant_id, call.call_id, call.lease_token) == calls.Beat(
        alive=True, stop=False
    )
    assert calls.beat(place.tenant_id, call.call_id, new_id()).alive is False
    assert calls.ask_stop(place.tenant_id, place.user_id, call.call_id)
    assert calls.beat(place.tenant_id, call.call_id, call.lease_token).stop is True


def test_another_tenant_cannot_stop_or_beat_a_call() -> None:
    place, other, model = make_place(), make_place(), make_model()
    call = open_call(place, model)
    assert calls.ask_stop(other.tenant_id, other.user_id, call.call_id) is False
    assert calls.beat(other.tenant_id, call.call_id, call.lease_token).alive is False


def test_a_refusal_leaves_no_row_behind() -> None:
    place, model = make_place(credit_usd=0), make_model()
    with pytest.raises(errors.InsufficientCredit):
        open_call(place, model)
    with db.transaction(TESTS) as session:
        for table in (Call, Hold, UsageEvent, Entry):
            rows = select(func.count()).select_from(table).where(table.tenant_id == place.tenant_id)
            assert session.scalar(rows) == 0


def test_admission_sent_again_after_a_lost_answer_is_admitted_once(database: Database) -> None:
    place, model = make_place(), make_model()
    admission = gate.prepare(standing.of_member(place.who, model), ask())
    statement = "select * from verbs.admit(jsonb_populate_record(null::verbs.admission, %s))"
    codes = [(database.call(statement, (gate.as_json(admission),)) or {})["code"] for _ in range(2)]
    assert codes == ["ok", "ok"]
    assert wallet(place).held_nusd == admission.hold_nusd


def make_key(place: Place) -> object:
    key_id = new_id()
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "insert into app.api_keys(tenant_id, key_id, user_id, name, prefix, scopes)"
                " values (:t, :k, :u, 'k', 'p', '{chat}')"
            ),
            {"t": place.tenant_id, "k": key_id, "u": place.user_id},
        )
    return key_id


def keyed(place: Place, model: str, key_id: object) -> standing.Standing:
    row = db.current().call(
        f"select {standing._COLUMNS} from verbs.resolve(null, %s, %s, %s)",
        (place.tenant_id, place.user_id, model),
    )
    assert row is not None
    return standing.Standing(**{**row, "key_id": key_id})
