"""Reads one row of a provider's model list into a checked `Listing`. The rows are hostile input.

Unknown fields are ignored, texts are cut, and a row that cannot be understood is refused alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.catalog.answers import mapping_of
from core.catalog.terms import RATE_NAMES, PriceRefused, Terms, parse_terms
from core.errors import BadInput

DEMO_PROVIDER = "demo"

_ID = re.compile(r"~?[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}", re.ASCII)
_WORD = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_FREE_IDS = frozenset({"openrouter/free", "demo/free-sailor"})
_NAME_CHARS = 200
_DESCRIPTION_CHARS = 2_000
_PRICE_CHARS = 40
_WORDS_MAX = 100
_TOKENS_MAX = 2**31 - 1
_UNKNOWN_CONTEXT_TOKENS = 4_096
_FILE_BYTES_MAX = 64 * 1024 * 1024


class BadRow(ValueError):
    """A row that is no model; the rest of the list is unaffected."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A model as a provider lists it. Without usable `terms`, `refusal` says why."""

    model_id: str
    name: str
    description: str
    context_tokens: int
    output_tokens_max: int | None
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    supported_parameters: tuple[str, ...]
    expires_on: date | None
    terms: Terms | None
    refusal: str | None
    stored_terms: Mapping[str, Any]

    def is_expired(self, today: date) -> bool:
        """Whether the provider's own date has come; dates far ahead are how some say never."""
        return self.expires_on is not None and self.expires_on <= today


def is_free_by_rule(model_id: str) -> bool:
    """Whether a price of zero is believed: free variants and the free router, never by the zero."""
    return model_id.endswith(":free") or model_id in _FREE_IDS


def read_id(row: object) -> str:
    """The id of a row. Raises BadRow."""
    model_id = row.get("id") if isinstance(row, Mapping) else None
    if not isinstance(model_id, str) or not _ID.fullmatch(model_id):
        raise BadRow("the id is not a model id")
    return model_id


def read_row(row: Mapping[str, object]) -> Listing:
    """One row in the shape of OpenRouter's model list. Raises BadRow for a wrong type in it."""
    model_id = read_id(row)
    shape, top = _object(row, "architecture"), _object(row, "top_provider")
    contexts = [_count(row, "context_length"), _count(top, "context_length")]
    terms, refusal = _read_terms(model_id, row.get("pricing"))
    return Listing(
        model_id=model_id,
        name=_text(row, "name", _NAME_CHARS) or model_id,
        description=_text(row, "description", _DESCRIPTION_CHARS),
        context_tokens=min((c for c in contexts if c), default=_UNKNOWN_CONTEXT_TOKENS),
        output_tokens_max=_count(top, "max_completion_tokens"),
        input_modalities=_words(shape, "input_modalities") or ("text",),
        output_modalities=_words(shape, "output_modalities") or ("text",),
        supported_parameters=_words(row, "supported_parameters"),
        expires_on=_date(row, "expiration_date"),
        terms=terms,
        refusal=refusal,
        stored_terms=terms.to_json() if terms else _remains(row.get("pricing")),
    )


def read_file(path: Path) -> list[object]:
    """The rows of a saved model list, amounts exact. Raises BadInput for anything else."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise BadInput(f"{path.name} is too large to be a model list.")
        parsed = json.loads(path.read_bytes(), parse_float=Decimal)
    except OSError as error:
        raise BadInput(f"{path.name} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise BadInput(f"{path.name} is not JSON.") from None
    rows = parsed.get("data") if isinstance(parsed, dict) else parsed
    if not isinstance(rows, list):
        raise BadInput(f"{path.name} holds no list of models.")
    return rows


def _read_terms(model_id: str, pricing: object) -> tuple[Terms | None, str | None]:
    try:
        return parse_terms(pricing, known_free=is_free_by_rule(model_id)), None
    except PriceRefused as error:
        return None, str(error)


def _remains(pricing: object) -> dict[str, str]:
    """What operators see of a price list that was refused: its known keys, cut short."""
    given = mapping_of(pricing)
    return {
        name: _clean(str(value), _PRICE_CHARS)
        for name in RATE_NAMES
        if isinstance(value := given.get(name), str | int | Decimal)
    }


def _object(row: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = row.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise BadRow(f"{name} is not an object")
    return value or {}


def _text(row: Mapping[str, object], name: str, chars_max: int) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{name} is not a text")
    return _clean(value or "", chars_max)


def _clean(text: str, chars_max: int) -> str:
    """One line that Postgres takes: no NUL, no lone surrogate, no control characters."""
    valid = text[: chars_max * 4].encode("utf-8", "ignore").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in valid).split())[:chars_max]


def _count(row: Mapping[str, object], name: str) -> int | None:
    """A positive count; zero and absence both mean that the provider does not say."""
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _TOKENS_MAX:
        raise BadRow(f"{name} is not a count of tokens")
    return value or None


def _words(row: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = row.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _WORDS_MAX:
        raise BadRow(f"{name} is not a list of words")
    words = [word for word in value if isinstance(word, str) and _WORD.fullmatch(word)]
    return tuple(dict.fromkeys(words))


def _date(row: Mapping[str, object], name: str) -> date | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        return date.fromisoformat(value[:10] if isinstance(value, str) else "")
    except ValueError:
        raise BadRow(f"{name} is not a date") from None
