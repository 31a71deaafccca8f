"""Who is believed about a cost: the provider, else the price list, else a guess; and what is final."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.catalog.answers import Answer, Delta, Failure, Usage
from core.catalog.pricing import read_terms
from core.quota import costs

TERMS = read_terms({"prompt": "0.000001", "completion": "0.000002"})
FAILED = Failure("provider_error", 502, None, "http 502")


def usage(cost: str | None) -> Usage:
    return Usage(1_000, 0, 0, 500, 0, 0, 0, 0, 0, None if cost is None else Decimal(cost))


def answer(
    outcome: str, *, text: str = "", generation: str | None = "gen-1", **fields: object
) -> Answer:
    made = Answer(generation_id=generation, outcome=outcome, **fields)  # type: ignore[arg-type]
    if text:
        made.deltas.append(Delta(text))
    return made


@pytest.mark.parametrize(
    ("given", "usd", "source", "needs_lookup"),
    [
        (answer("ok", text="x", usage=usage("0.5")), "0.5", "provider", False),
        (answer("ok", text="x", usage=usage("0")), "0", "provider", False),
        (answer("ok", text="x", usage=usage(None)), "0.002", "price_table", True),
        (answer("ok", text="x", usage=usage(None), generation=None), "0.002", "price_table", False),
        (answer("error", failure=FAILED), "0", "estimate", True),
        (answer("error", failure=FAILED, generation=None), "0", "provider", False),
        (answer("error", text="x", failure=FAILED), "0", "estimate", True),
        (answer("stopped", text="x" * 400), "0.0003", "estimate", True),
        (answer("cut", text="x" * 400, generation=None), "0.0003", "estimate", False),
        (answer("stopped"), "0.0001", "estimate", True),
        (answer("stopped", generation=None), "0.0001", "estimate", False),
        (answer("cut"), "0", "estimate", True),
        (answer("timeout", failure=FAILED), "0", "estimate", True),
        (answer("timeout", generation=None, failure=FAILED), "0", "estimate", False),
    ],
)  # fmt: skip
def test_the_cost_of_each_ending(given: Answer, usd: str, source: str, needs_lookup: bool) -> None:
    found = costs.of_answer(given, TERMS, prompt_tokens_guess=100, keeps_generations=True)
    assert (found.usd, found.source, found.needs_lookup) == (Decimal(usd), source, needs_lookup)


def test_a_provider_without_records_is_never_asked_again() -> None:
    found = costs.of_answer(
        answer("stopped", text="x"), TERMS, prompt_tokens_guess=100, keeps_generations=False
    )
    assert found.needs_lookup is False
