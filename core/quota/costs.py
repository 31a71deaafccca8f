"""What a finished call cost, and how sure that is: the provider's word, else our price table, else a guess.

The order is fixed: provider > price_table > estimate. Without usage an answer that somebody stopped, or
that broke off after its first token, is charged an estimate of what was sent and delivered. One that
failed, and one that gave nobody anything, is charged nothing. All of these are looked up where the
provider named a generation and keeps records of them; else what is charged now is final.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from core.catalog import pricing
from core.catalog.answers import Answer, Usage
from core.catalog.pricing import Terms
from core.catalog.providers import Generation

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Cost:
    """USD before markup, with the tokens it is for. `needs_lookup`: ask the provider for the truth.

    `delivered_tokens` are guessed and not booked: an answer that failed may be billed all the same.
    """

    usd: Decimal
    source: str
    needs_lookup: bool
    provider_usd: Decimal | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    delivered_tokens: int = 0


def of_answer(
    answer: Answer, terms: Terms, *, prompt_tokens_guess: int, keeps_generations: bool
) -> Cost:
    """The cost of an answer that ended, priced with `terms` (of the model that served)."""
    known = keeps_generations and answer.generation_id is not None
    if answer.usage is not None:
        return _of_usage(answer.usage, terms, needs_lookup=known)
    if answer.outcome == "stopped" or (answer.has_output and answer.outcome != "error"):
        return of_guess(terms, prompt_tokens_guess, answer.delivered_tokens, needs_lookup=known)
    if answer.outcome == "error" and not answer.has_output and not known:
        return Cost(_NOTHING, "provider", needs_lookup=False)  # refused before anything ran
    delivered_tokens = answer.delivered_tokens if known else 0
    return of_nothing(needs_lookup=known, delivered_tokens=delivered_tokens)


def of_guess(
    terms: Terms, prompt_tokens: int, completion_tokens: int, *, needs_lookup: bool
) -> Cost:
    """An estimate from the tokens guessed from the text sent and received."""
    usage = Usage(prompt_tokens, 0, 0, completion_tokens, 0, 0, 0, 0, 0, None)
    return Cost(
        pricing.cost_usd(terms, usage), "estimate", needs_lookup, None,
        prompt_tokens=prompt_tokens, completion_tokens=completion_tokens,
    )  # fmt: skip


def of_nothing(*, needs_lookup: bool, delivered_tokens: int = 0) -> Cost:
    """Nothing is to be charged as far as we know, until the provider says otherwise."""
    return Cost(_NOTHING, "estimate", needs_lookup, delivered_tokens=delivered_tokens)


def of_generation(generation: Generation) -> Cost:
    """The truth, as the provider's record of the generation says."""
    return Cost(
        generation.cost_usd, "provider", needs_lookup=False, provider_usd=generation.cost_usd,
        prompt_tokens=generation.prompt_tokens, cached_tokens=generation.cached_tokens,
        completion_tokens=generation.completion_tokens,
        reasoning_tokens=generation.reasoning_tokens,
    )  # fmt: skip


def _of_usage(usage: Usage, terms: Terms, *, needs_lookup: bool) -> Cost:
    priced = usage.cost_usd is None
    usd = pricing.cost_usd(terms, usage) if usage.cost_usd is None else usage.cost_usd
    return Cost(
        usd, "price_table" if priced else "provider", needs_lookup and priced, usage.cost_usd,
        usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens,
        usage.completion_tokens, usage.reasoning_tokens,
    )  # fmt: skip
