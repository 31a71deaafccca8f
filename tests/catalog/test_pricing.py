"""Prices: recorded bills are reproduced, the worst case is one, and nonsense is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalog import pricing
from core.catalog.answers import Answer, Usage
from core.catalog.listing import is_free_by_rule, read_file
from core.catalog.sse import EventSplitter, parse_event
from core.catalog.sync import SEED_FILE
from core.catalog.terms import RATE_NAMES, suspicion
from core.money import billed_nusd

RECORDINGS = Path(__file__).parent.parent / "fixtures" / "sse"
CHARGED = sorted(
    name
    for name, expected in json.loads((RECORDINGS / "expected.json").read_text()).items()
    if expected.get("outcome") == "ok" and expected["cost_source"] == "provider"
)
SEED: dict[str, Any] = {row["id"]: row["pricing"] for row in read_file(SEED_FILE)}  # type: ignore[index]
OPTIONAL = [name for name in RATE_NAMES if name not in ("prompt", "completion")]


def usage(**counts: int) -> Usage:
    zero = dict.fromkeys(
        ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens",
         "reasoning_tokens", "image_tokens", "audio_prompt_tokens", "audio_completion_tokens",
         "searches"), 0,
    )  # fmt: skip
    return Usage(**(zero | counts), cost_usd=None)


def terms(**rates: Any) -> pricing.Terms:
    return pricing.parse_terms({"prompt": "0.000002", "completion": "0.00001"} | rates)


def recorded(name: str) -> Answer:
    body = (RECORDINGS / name).read_bytes().partition(b"\n\n")[2]
    splitter = EventSplitter()
    whole = parse_event(body)
    events = [whole] if whole is not None else splitter.feed(body) + splitter.close()
    answer = Answer()
    for event in events:
        answer.absorb(event)
    return answer


def test_there_are_recordings_to_reproduce() -> None:
    assert len(CHARGED) >= 9


@pytest.mark.parametrize("name", CHARGED)
def test_the_price_table_reproduces_the_bill_of(name: str) -> None:
    answer = recorded(name)
    assert answer.usage is not None
    assert answer.usage.cost_usd is not None
    assert answer.model_served is not None
    known_free = is_free_by_rule(answer.model_served)
    listed = pricing.parse_terms(SEED[answer.model_served], known_free=known_free)
    assert abs(pricing.cost_usd(listed, answer.usage) - answer.usage.cost_usd) <= Decimal("1e-12")


rate = st.integers(0, 10**9).map(lambda n: format(Decimal(n).scaleb(-12), "f"))
rates = st.fixed_dictionaries(
    {"prompt": rate, "completion": rate}, optional=dict.fromkeys(OPTIONAL, rate)
)
condition = st.one_of(
    st.fixed_dictionaries({"min_prompt_tokens": st.integers(0, 300_000)}),
    st.fixed_dictionaries(
        {"utc_start": st.just("2200"), "utc_end": st.sampled_from(["0600", "2330"])}
    ),
)
override = st.builds(
    lambda when, what: when | what,
    condition,
    st.fixed_dictionaries({}, optional=dict.fromkeys(RATE_NAMES, rate)),
)
price_list = st.builds(
    lambda base, overrides: base | {"overrides": overrides}, rates, st.lists(override, max_size=4)
)
times = st.none() | st.datetimes(timezones=st.just(UTC))
count = st.integers(0, 400_000)


@given(price_list, times, st.lists(count, min_size=8, max_size=8), count, count, st.integers(0, 5))
def test_no_usage_within_its_bounds_costs_more_than_the_worst_case(
    listed: dict[str, Any], at: datetime | None, n: list[int], spare: int, more: int, searches: int
) -> None:
    price = pricing.read_terms(listed)
    used = usage(
        prompt_tokens=n[0], cached_tokens=n[1], cache_write_tokens=n[2], audio_prompt_tokens=n[3],
        completion_tokens=n[4], reasoning_tokens=n[5], image_tokens=n[6],
        audio_completion_tokens=n[7], searches=searches,
    )  # fmt: skip
    cost = pricing.cost_usd(price, used, at=at)
    worst = pricing.worst_case_usd(price, n[0] + spare, n[4] + more, searches=searches)
    assert 0 <= cost <= worst


@given(price_list, count, st.integers(0, 10**13), st.sampled_from(["0", "0.1", "0.333"]))
def test_the_affordable_answer_is_covered_and_one_token_more_is_not(
    listed: dict[str, Any], prompt_tokens: int, nusd: int, markup: str
) -> None:
    price = pricing.read_terms(listed)
    extra = Decimal(markup)
    tokens = pricing.affordable_tokens(price, prompt_tokens, nusd, markup=extra)

    def held(answer_tokens: int) -> int:
        worst = pricing.worst_case_usd(price, prompt_tokens, answer_tokens)
        return billed_nusd(worst, extra)

    if tokens:
        assert held(tokens) <= nusd
    if tokens < pricing.UNBOUNDED_TOKENS:
        assert held(tokens + 1) > nusd


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=12) | rate,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*RATE_NAMES, "min_prompt_tokens", "utc_start"]), inner)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*RATE_NAMES, "overrides", "discount"]), json_value)
    | json_value
)
def test_whatever_is_listed_is_refused_or_has_no_negative_rate(listed: object) -> None:
    try:
        price = pricing.parse_terms(listed)
    except pricing.PriceRefused:
        return
    base = [getattr(price.base, name) for name in RATE_NAMES]
    replaced = [value for override in price.overrides for _, value in override.rates]
    assert all(value.is_finite() and value >= 0 for value in base + replaced)


@given(price_list)
def test_a_stored_price_reads_back_as_the_same_price(listed: dict[str, Any]) -> None:
    price = pricing.read_terms(listed)
    stored = json.loads(json.dumps(price.to_json()))
    assert pricing.read_terms(stored) == price


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (None, "no price list"),
        ({"completion": "0.1"}, "prompt price is missing"),
        ({"prompt": "0.000001", "completion": None}, "completion price is missing"),
        ({"prompt": "-1", "completion": "-1"}, "varies"),
        ({"prompt": "-0.000001", "completion": "0.000001"}, "negative"),
        ({"prompt": "0.000001", "completion": "0.000001", "input_cache_read": "-0.1"}, "negative"),
        ({"prompt": "NaN", "completion": "0.000001"}, "not a number"),
        ({"prompt": "Infinity", "completion": "0.000001"}, "not a number"),
        ({"prompt": Decimal("NaN"), "completion": "0.000001"}, "not a number"),
        ({"prompt": 1e-06, "completion": "0.000001"}, "not a number"),
        ({"prompt": True, "completion": "0.000001"}, "not a number"),
        ({"prompt": "2.5", "completion": "10"}, "too high"),
        ({"prompt": "1e999", "completion": "0.000001"}, "too high"),
        ({"prompt": "1e-15", "completion": "0.000001"}, "too low"),
        ({"prompt": "0.000001", "completion": "0.000001", "request": "11"}, "too high"),
        ({"prompt": "0", "completion": "0"}, "cost nothing"),
        ({"prompt": "0", "completion": "-0"}, "cost nothing"),
    ],
)
def test_a_price_nobody_could_charge_by_is_refused(listed: object, reason: str) -> None:
    with pytest.raises(pricing.PriceRefused, match=reason):
        pricing.parse_terms(listed)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("x", "not an object"),
        ({"prompt": "0.000001"}, "condition that is not known"),
        ({"min_prompt_tokens": "128000", "prompt": "0.000001"}, "not a count"),
        ({"min_prompt_tokens": 1, "prompt": "-1"}, "varies"),
        ({"min_prompt_tokens": 1, "prompt": "0"}, "prompt price zero"),
        ({"utc_start": "0900", "prompt": "0.000001"}, "not HHMM"),
        ({"utc_start": "0900", "utc_end": "0900", "prompt": "0.000001"}, "empty"),
    ],
)
def test_an_override_that_cannot_be_understood_is_refused(override: object, reason: str) -> None:
    with pytest.raises(pricing.PriceRefused, match=reason):
        terms(overrides=[override])


def test_zero_is_taken_for_a_model_known_to_be_free() -> None:
    free = pricing.parse_terms({"prompt": "0", "completion": "0"}, known_free=True)
    assert free.is_zero
    assert pricing.affordable_tokens(free, 10_000, 0) == pricing.UNBOUNDED_TOKENS


def test_the_dust_of_floats_is_cut_at_twelve_places() -> None:
    price = terms(completion="0.0000006000000000000000001", prompt=Decimal("1.00000000000003E-7"))
    assert price.base.completion == Decimal("0.0000006")
    assert price.to_json()["prompt"] == "0.0000001"


def test_a_tier_reprices_the_whole_request_strictly_above_its_threshold() -> None:
    price = terms(overrides=[{"min_prompt_tokens": 1_000, "prompt": "0.000004"}])
    assert pricing.cost_usd(price, usage(prompt_tokens=1_000)) == Decimal("0.002")
    assert pricing.cost_usd(price, usage(prompt_tokens=1_001)) == Decimal("0.004004")


def test_a_tier_keeps_the_rates_it_does_not_name() -> None:
    price = terms(overrides=[{"min_prompt_tokens": 10, "prompt": "0.000004"}])
    assert pricing.cost_usd(price, usage(prompt_tokens=11, completion_tokens=1)) == Decimal(
        "0.000054"
    )


def test_the_later_override_wins_for_each_rate_it_names() -> None:
    price = terms(
        overrides=[
            {"min_prompt_tokens": 10, "prompt": "0.000004", "completion": "0.00002"},
            {"min_prompt_tokens": 5, "prompt": "0.000003"},
        ]
    )
    cost = pricing.cost_usd(price, usage(prompt_tokens=20, completion_tokens=1))
    assert cost == Decimal("0.00008")


@pytest.mark.parametrize(
    ("clock", "prompt"), [("2159", 2), ("2200", 1), ("2359", 1), ("0559", 1), ("0600", 2)]
)
def test_a_window_past_midnight_applies_from_its_start_to_before_its_end(
    clock: str, prompt: int
) -> None:
    price = terms(overrides=[{"utc_start": 2200, "utc_end": "0600", "prompt": "0.000001"}])
    at = datetime(2026, 11, 20, int(clock[:2]), int(clock[2:]), tzinfo=UTC)
    cost = pricing.cost_usd(price, usage(prompt_tokens=1_000_000), at=at)
    assert cost == prompt


def test_a_cheaper_window_does_not_lower_the_worst_case() -> None:
    price = terms(overrides=[{"utc_start": "0000", "utc_end": "2359", "prompt": "0.000001"}])
    assert pricing.worst_case_usd(price, 1_000_000, 0) == 2


def test_cached_written_and_heard_tokens_lie_inside_the_prompt_and_have_their_own_rates() -> None:
    price = terms(input_cache_read="0.0000002", input_cache_write="0.0000025", audio="0.00003")
    used = usage(
        prompt_tokens=1_000, cached_tokens=600, cache_write_tokens=100, audio_prompt_tokens=50
    )
    # 250 read + 50 heard + 600 cached + 100 written
    assert pricing.cost_usd(price, used) == Decimal("0.0005") + Decimal("0.0015") + Decimal(
        "0.00012"
    ) + Decimal("0.00025")


def test_reasoning_is_not_counted_twice_and_images_and_speech_have_their_own_rates() -> None:
    price = terms(image_output="0.00006", audio_output="0.00002", internal_reasoning="0.009")
    used = usage(
        completion_tokens=100, reasoning_tokens=80, image_tokens=10, audio_completion_tokens=20
    )
    assert pricing.cost_usd(price, used) == Decimal("0.0007") + Decimal("0.0006") + Decimal(
        "0.0004"
    )


def test_rates_listed_as_zero_fall_back_like_absent_ones() -> None:
    price = terms(input_cache_read="0", audio_output="0")
    used = usage(
        prompt_tokens=10, cached_tokens=5, cache_write_tokens=3, audio_prompt_tokens=2,
        completion_tokens=5, image_tokens=2, audio_completion_tokens=3,
    )  # fmt: skip
    assert pricing.cost_usd(price, used) == Decimal("0.00007")


def test_fees_are_added_per_request_and_per_search() -> None:
    price = terms(request="0.005", web_search="0.01")
    assert pricing.cost_usd(price, usage(searches=2)) == Decimal("0.025")
    assert pricing.worst_case_usd(price, 0, 0, searches=2) == Decimal("0.025")


def test_parts_larger_than_their_total_never_make_a_cost_negative() -> None:
    price = terms(input_cache_read="0.0000002")
    assert pricing.cost_usd(price, usage(prompt_tokens=10, cached_tokens=900)) == Decimal(
        "0.000002"
    )


@pytest.mark.parametrize("name", ["input_cache_read", "input_cache_write", "input_cache_write_1h"])
def test_the_worst_case_takes_a_cache_dearer_than_the_prompt(name: str) -> None:
    price = terms(**{name: "0.0000025"})
    assert pricing.worst_case_usd(price, 1_000_000, 0, inputs=["text"]) == Decimal("2.5")


def test_the_worst_case_counts_only_tiers_within_reach() -> None:
    price = terms(overrides=[{"min_prompt_tokens": 1_000, "prompt": "0.000004"}])
    assert pricing.worst_case_usd(price, 1_000, 0) == Decimal("0.002")
    assert pricing.worst_case_usd(price, 1_001, 0) == Decimal("0.004004")


def test_the_worst_case_leaves_out_what_the_request_cannot_contain_or_get() -> None:
    price = terms(audio="0.00003", audio_output="0.00006")
    assert pricing.worst_case_usd(price, 100, 100) == Decimal("0.009")
    narrow = pricing.worst_case_usd(price, 100, 100, inputs=["text"], outputs=["text"])
    assert narrow == Decimal("0.0012")


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({"prompt": "0.000006"}, False),
        ({"prompt": "0.0000061"}, True),
        ({"completion": "0.0000033"}, True),
        ({"completion": "0.0000034"}, False),
        ({"completion": "0"}, True),
        ({"request": "0.001"}, True),
        ({"input_cache_read": "0.0000001"}, False),
        ({"overrides": [{"min_prompt_tokens": 9, "prompt": "0.00001"}]}, True),
        ({"overrides": [{"min_prompt_tokens": 9, "prompt": "0.000004"}]}, False),
    ],
)
def test_a_price_that_moves_more_than_threefold_is_suspicious(
    change: dict[str, Any], held: bool
) -> None:
    assert (suspicion(terms(), terms(**change)) is not None) is held


def test_a_first_price_is_suspicious_only_for_an_unclear_unit() -> None:
    assert suspicion(None, terms()) is None
    reason = suspicion(None, terms(audio="0.0021"))
    assert reason is not None
    assert "audio" in reason


def test_prices_for_people_are_per_million() -> None:
    assert terms().prompt_usd_per_million == 2
    assert format(terms(completion="0.0000006").completion_usd_per_million, "f") == "0.6"


WRITES = {"input_cache_write": "0.0000025", "input_cache_write_1h": "0.000004"}


@pytest.mark.parametrize(
    ("rates", "written_1h", "usd"),
    [
        (WRITES, None, "0.0004"),  # nobody says how long: the dearer
        (WRITES, 0, "0.00025"),
        (WRITES, 40, "0.00031"),
        (WRITES, 100, "0.0004"),
        (WRITES, 900, "0.0004"),  # cut to what was written at all
        ({"input_cache_write": "0.0000025"}, None, "0.00025"),
        ({"input_cache_write": "0.0000025"}, 100, "0.00025"),
        ({"input_cache_write_1h": "0.000004"}, None, "0.0004"),
        ({"input_cache_write_1h": "0.000001"}, None, "0.0002"),
        ({}, 50, "0.0002"),
    ],
)
def test_a_cache_write_is_priced_by_its_life_and_dearly_where_nobody_tells_it(
    rates: dict[str, str], written_1h: int | None, usd: str
) -> None:
    written = Usage(100, 0, 100, 0, 0, 0, 0, 0, 0, None, written_1h)
    assert pricing.cost_usd(terms(**rates), written) == Decimal(usd)


@given(st.integers(0, 1_000), st.integers(0, 1_000), st.none() | st.integers(0, 1_000))
def test_no_split_of_cache_writes_costs_more_than_the_worst_case(
    cached: int, written: int, written_1h: int | None
) -> None:
    price = terms(**WRITES)
    spent = Usage(1_000, cached, written, 0, 0, 0, 0, 0, 0, None, written_1h)
    assert pricing.cost_usd(price, spent) <= pricing.worst_case_usd(price, 1_000, 0)
