"""Which column of an uploaded bill means what. Names are compared without case, spaces and signs;
columns nobody asked for are ignored, and a bill whose meaning is not certain is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from core import errors

Field: TypeAlias = Literal[
    "generation", "time", "model", "variant", "cost", "upstream", "requests", "prompt", "completion",
    "tokens",
]  # fmt: skip

# The first name that is there counts: exports carry several of a kind.
NAMES: dict[Field, tuple[str, ...]] = {
    "generation": ("generation_id", "generation", "gen_id"),
    "time": ("created_at", "timestamp", "created", "occurred_at", "time", "date", "day"),
    "model": ("model", "model_slug", "model_id", "model_permaslug", "model_name"),
    "variant": ("variant",),
    "cost": ("cost_total", "total_cost", "cost_usd", "usage_usd", "cost", "usage", "amount_usd",
             "amount", "spend"),
    "upstream": ("byok_usage_inference", "byok_cost"),
    "requests": ("requests", "request_count", "num_requests", "calls"),
    "prompt": ("tokens_prompt", "prompt_tokens", "native_tokens_prompt", "input_tokens"),
    "completion": ("tokens_completion", "completion_tokens", "native_tokens_completion",
                   "output_tokens"),
    "tokens": ("tokens", "total_tokens", "tokens_total"),
}  # fmt: skip
_REQUIRED: tuple[Field, ...] = ("time", "model", "cost")
_SIGNS = re.compile(r"[^a-z0-9]+")


def find(header: Sequence[str]) -> dict[Field, int]:
    """The place of every field that is there. Raises errors.BadInput, naming what is missing."""
    plain = [_SIGNS.sub("_", name.strip().lower()).strip("_") for name in header]
    found: dict[Field, int] = {}
    for field, names in NAMES.items():
        name = next((name for name in names if name in plain), None)
        if name is None:
            continue
        if plain.count(name) > 1:
            raise errors.BadInput(f"Row 1: there are several columns {name!r}.", param="file")
        found[field] = plain.index(name)
    for field in _REQUIRED:
        if field not in found:
            known = ", ".join(NAMES[field])
            raise errors.BadInput(
                f"Row 1: no column says the {field}. It is called one of: {known}.", param="file"
            )
    return found
