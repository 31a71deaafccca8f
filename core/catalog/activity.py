"""Asks OpenRouter what closed UTC days cost, by model: its bill, as its activity endpoint tells it.

Sends the management key and nothing else, and keeps nothing. An answer with one row that cannot be a
bill is refused as a whole; a refusal names what came of the asking, never the key or the answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2

from core import errors
from core.catalog.answers import mapping_of, usd_of

T = TypeVar("T")
EXACT = Context(prec=200)  # what is summed and compared here has fewer digits
DAYS_KEPT = 30  # so many closed UTC days can be asked for
_CONNECT_S, _READ_S, _TOTAL_S = 5.0, 20.0, 60.0
_ANSWER_BYTES_MAX = 32 * 1024 * 1024
_ROWS_MAX = 200_000
_COUNT_MAX = 10**12
_FRACTION_DIGITS_MAX = 30
_NAME_CHARS_MAX = 200
_LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}
_SILENT = "OpenRouter did not say in time what its days cost."
_BROKEN = "OpenRouter's activity could not be read"


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """What one endpoint of a model served on a UTC day.

    `cost_usd` is exact: what OpenRouter took, plus what the upstream took where the key there is ours.
    """

    day: date
    model: str
    requests: int
    tokens: int
    cost_usd: Decimal


def read(base_url: str, key: str, *, day: date | None = None) -> tuple[ActivityRow, ...]:
    """The rows of one closed UTC day, or of the last 30.

    Raises errors.ProviderUnavailable for a refused key, errors.ProviderOverloaded,
    errors.ProviderTimedOut, and errors.ProviderFailed for every other answer.
    """
    query = {} if day is None else {"date": day.isoformat()}
    status, content = _ask(f"{base_url}/activity", key, query)
    if status != 200:
        raise _refusal(status)
    try:
        answer = json.loads(content, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        answer = None
    data = mapping_of(answer).get("data")
    if not isinstance(data, list) or len(data) > _ROWS_MAX:
        raise errors.ProviderFailed(f"{_BROKEN}: it is not a list of rows.")
    rows = tuple(_row(number, mapping_of(raw)) for number, raw in enumerate(data, 1))
    return rows if day is None else tuple(row for row in rows if row.day == day)


def bill_usd(value: object) -> Decimal | None:
    """An amount on a bill exactly as written; None for what is none: negative, vast, or endless."""
    amount = usd_of(value)
    if amount is None:
        return None
    exponent = amount.as_tuple().exponent
    return amount if isinstance(exponent, int) and exponent >= -_FRACTION_DIGITS_MAX else None


def _ask(url: str, key: str, query: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body of one request. The caught errors carry the key, so none is raised from them."""
    try:
        return _get(url, key, query)
    except (httpx2.TimeoutException, _TooSlow):
        refusal: errors.Refusal = errors.ProviderTimedOut(_SILENT)
    except _TooLong:
        refusal = errors.ProviderFailed(f"{_BROKEN}: it is too long.")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        refusal = errors.ProviderFailed(f"OpenRouter was not reached ({type(error).__name__}).")
    raise refusal


def _get(url: str, key: str, query: Mapping[str, str]) -> tuple[int, bytes]:
    until = time.monotonic() + _TOTAL_S
    headers = {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "Purser",
    }
    timeout = httpx2.Timeout(_READ_S, connect=_CONNECT_S)
    # A proxy set for the machine must not be asked for a server on this machine.
    trust_env = urlsplit(url).hostname not in _LOOPBACK_HOSTS
    content = bytearray()
    with httpx2.Client(timeout=timeout, trust_env=trust_env) as client:
        request = client.build_request("GET", url, params=dict(query), headers=headers)
        with closing(client.send(request, stream=True)) as response:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > _ANSWER_BYTES_MAX:
                    raise _TooLong
                if time.monotonic() > until:
                    raise _TooSlow
    return response.status_code, bytes(content)


class _TooSlow(Exception):
    """The answer drips."""


class _TooLong(Exception):
    """The answer is larger than any bill."""


def _refusal(status: int) -> errors.Refusal:
    if status in (401, 402, 403):
        return errors.ProviderUnavailable(
            f"OpenRouter refuses OPENROUTER_MANAGEMENT_KEY (HTTP {status})."
        )
    if status in (429, 503, 529):
        return errors.ProviderOverloaded(f"OpenRouter is busy (HTTP {status}). Try again later.")
    if status in (408, 504, 524):
        return errors.ProviderTimedOut(_SILENT)
    return errors.ProviderFailed(f"OpenRouter did not say what its days cost (HTTP {status}).")


def _row(number: int, raw: Mapping[str, object]) -> ActivityRow:
    def must(name: str, found: T | None) -> T:
        if found is None:
            raise errors.ProviderFailed(f"{_BROKEN}: row {number}, {name}.")
        return found

    own = must("usage", bill_usd(raw.get("usage")))
    upstream = must("byok_usage_inference", bill_usd(_given(raw, "byok_usage_inference")))
    return ActivityRow(
        day=must("date", _day(raw.get("date"))),
        model=must("model", _name(raw.get("model")) or _name(raw.get("model_permaslug"))),
        requests=must("requests", _count(raw.get("requests"))),
        tokens=must("prompt_tokens", _count(_given(raw, "prompt_tokens")))
        + must("completion_tokens", _count(_given(raw, "completion_tokens"))),
        cost_usd=EXACT.add(own, upstream),
    )


def _given(raw: Mapping[str, object], name: str) -> object:
    """A field that may be missing: nothing then."""
    found = raw.get(name)
    return 0 if found is None else found


def _day(value: object) -> date | None:
    """A day that may carry a time of day behind it."""
    if not isinstance(value, str) or value[10:11] not in ("", " ", "T"):
        return None
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return None


def _name(value: object) -> str | None:
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _NAME_CHARS_MAX:
        return value
    return None


def _count(value: object) -> int | None:
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _COUNT_MAX:
        return value
    return None


def _no_number(word: str) -> object:
    raise ValueError(word)
