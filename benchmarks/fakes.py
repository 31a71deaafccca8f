"""What the fake models promise: pace, length, text and price, all read from a model's name.

Both ends use it: the upstream to keep the promise, the load client to check that it was kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

PROMPT_PRICE_NUSD = 100
"""Nano-USD per prompt token of every fake model."""
COMPLETION_PRICE_NUSD = 400
"""Nano-USD per completion token of every fake model."""

STREAM_MODEL = "fake/ttft100-tps50-n100"
BROWSER_MODEL = "fake/ttft100-tps50-n20"
SHORT_MODEL = "fake/ttft0-tps0-n8"
LISTED_MODELS = (STREAM_MODEL, BROWSER_MODEL, SHORT_MODEL)

_NAME = re.compile(r"fake/ttft(\d{1,5})-tps(\d{1,5})-n(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Pace:
    """First token after `first_token_s`, then `chunks_per_s` (0: all at once), `chunks` in all."""

    first_token_s: float
    chunks_per_s: int
    chunks: int

    def due_s(self, index: int) -> float:
        """When chunk `index` is due, in seconds after the request."""
        if not self.chunks_per_s:
            return self.first_token_s
        return self.first_token_s + index / self.chunks_per_s


def pace_of(model: str) -> Pace | None:
    """The pace a model's name promises; None for any other name."""
    match = _NAME.fullmatch(model)
    if match is None or int(match[3]) == 0:
        return None
    return Pace(int(match[1]) / 1000, int(match[2]), int(match[3]))


def text_of(chunks: int) -> str:
    """The whole answer of so many chunks, with the trailing space the chunks carry."""
    return "".join(f"tok{index} " for index in range(chunks))


def cost_usd(prompt_tokens: int, completion_tokens: int) -> Decimal:
    """The exact price of one call."""
    nusd = prompt_tokens * PROMPT_PRICE_NUSD + completion_tokens * COMPLETION_PRICE_NUSD
    return Decimal(nusd).scaleb(-9)
