"""What a call costs by a price list, and the most it can cost, in exact USD.

Pure arithmetic: it knows no model, reads no clock, rounds nothing and opens no database.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from core.catalog.answers import Usage
from core.catalog.terms import PriceRefused, Terms, parse_terms, read_terms
from core.money import to_usd

__all__ = [
    "PriceRefused",
    "Terms",
    "affordable_tokens",
    "answer_usd",
    "cost_usd",
    "parse_terms",
    "read_terms",
    "worst_case_usd",
]

EVERY_MODALITY = frozenset({"text", "image", "audio"})
UNBOUNDED_TOKENS = 10**9  # what `affordable_tokens` says where tokens cost nothing

_BY_PROMPT_TOKEN = ("prompt", "input_cache_read", "input_cache_write", "input_cache_write_1h")


def cost_usd(terms: Terms, usage: Usage, *, at: datetime | None = None) -> Decimal:
    """The exact cost of a call by the price list.

    Cached and cache-write tokens lie inside the prompt's, reasoning, image and audio output inside
    the completion's; hidden reasoning bills as completion. Parts that together exceed their total
    are cut to it. A rate of zero falls back to the prompt's or the completion's. A cache write whose
    life nobody told is priced at the dearer of its rates. `at` chooses rates that depend on the time
    of day; without it none of those apply.
    """
    rates = terms.rates_for(usage.prompt_tokens, at)
    short_rate = rates.input_cache_write or rates.prompt
    long_rate = rates.input_cache_write_1h or short_rate
    unknown = usage.cache_write_1h_tokens is None
    cached, written_1h, written, heard, read = _parts(
        usage.prompt_tokens, usage.cached_tokens,
        *_parts(usage.cache_write_tokens, usage.cache_write_1h_tokens or 0),
        usage.audio_prompt_tokens,
    )  # fmt: skip
    drawn, spoken, said = _parts(
        usage.completion_tokens, usage.image_tokens, usage.audio_completion_tokens
    )
    return (
        read * rates.prompt
        + heard * (rates.audio or rates.prompt)
        + cached * (rates.input_cache_read or rates.prompt)
        + written * (max(short_rate, long_rate) if unknown else short_rate)
        + written_1h * long_rate
        + said * rates.completion
        + drawn * (rates.image_output or rates.completion)
        + spoken * (rates.audio_output or rates.completion)
        + rates.request
        + usage.searches * rates.web_search
    )


def worst_case_usd(
    terms: Terms,
    prompt_tokens: int,
    answer_tokens_max: int,
    *,
    inputs: Collection[str] = EVERY_MODALITY,
    outputs: Collection[str] = EVERY_MODALITY,
    searches: int = 0,
) -> Decimal:
    """The most a call of at most so many prompt and answer tokens and searches can cost.

    Every token is taken at the dearest rate it can meet in any tier within reach, caches included.
    `prompt_tokens` is a bound, not a guess. `inputs` and `outputs` name what the
    request contains and may get back: without audio, audio's rates do not count.
    """
    per_prompt, fees = _prompt_and_fees(terms, prompt_tokens, inputs, searches)
    per_answer = _dearest_answer_token(terms, prompt_tokens, outputs)
    return prompt_tokens * per_prompt + fees + answer_tokens_max * per_answer


def answer_usd(terms: Terms, prompt_tokens: int, answer_tokens: int) -> Decimal:
    """The most that many tokens of a text can cost as an answer to a prompt of up to this size."""
    return answer_tokens * _dearest_answer_token(terms, prompt_tokens, ())


def affordable_tokens(
    terms: Terms,
    prompt_tokens: int,
    nusd: int,
    *,
    markup: Decimal = Decimal(0),
    inputs: Collection[str] = EVERY_MODALITY,
    outputs: Collection[str] = EVERY_MODALITY,
    searches: int = 0,
) -> int:
    """The most answer tokens whose worst case, with the markup, `nusd` covers; 0 for none."""
    per_prompt, fees = _prompt_and_fees(terms, prompt_tokens, inputs, searches)
    left = to_usd(nusd) - (prompt_tokens * per_prompt + fees) * (1 + markup)
    if left < 0:
        return 0
    per_answer = _dearest_answer_token(terms, prompt_tokens, outputs) * (1 + markup)
    return min(UNBOUNDED_TOKENS, int(left // per_answer)) if per_answer else UNBOUNDED_TOKENS


def _parts(total: int, *parts: int) -> list[int]:
    """The parts in their order, each cut to what is left of the total, then what is left."""
    taken = []
    for part in parts:
        taken.append(min(part, total))
        total -= taken[-1]
    return [*taken, total]


def _prompt_and_fees(
    terms: Terms, prompt_tokens: int, inputs: Collection[str], searches: int
) -> tuple[Decimal, Decimal]:
    """The dearest prompt token, and the fees."""
    names = [*_BY_PROMPT_TOKEN]
    names += ["image", "image_token"] if "image" in inputs else []
    names += ["audio", "input_audio_cache"] if "audio" in inputs else []
    per_token = max(terms.dearest(name, prompt_tokens) for name in names)
    per_search = terms.dearest("web_search", prompt_tokens)
    return per_token, terms.dearest("request", prompt_tokens) + searches * per_search


def _dearest_answer_token(terms: Terms, prompt_tokens: int, outputs: Collection[str]) -> Decimal:
    names = ["completion", "internal_reasoning"]
    names += ["image_output"] if "image" in outputs else []
    names += ["audio_output"] if "audio" in outputs else []
    return max(terms.dearest(name, prompt_tokens) for name in names)
