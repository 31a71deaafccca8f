"""Turns a provider's HTTP refusal into one of our kinds of failure.

It never repeats the provider's sentences: they may hold a key, a prompt or another tenant's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from core.catalog.answers import Failure, FailureKind, known_codes, mapping_of

_KIND_OF_STATUS: dict[int, FailureKind] = {
    400: "bad_request",
    401: "provider_unavailable",
    402: "provider_unavailable",
    403: "content_refused",
    404: "model_unavailable",
    408: "provider_timeout",
    413: "bad_request",
    422: "bad_request",
    429: "provider_overloaded",
    503: "provider_overloaded",
    504: "provider_timeout",
    524: "provider_timeout",
    529: "provider_overloaded",
}
_TOO_LONG_CODES = {"context_length_exceeded", "token_limit_exceeded"}
_MAX_RETRY_AFTER_S = 24 * 60 * 60
_MAX_REASONS = 5
# A moderation category such as "violence/graphic". No digits: keys and ids never match.
_CATEGORY = re.compile(r"[a-z][a-z_/ -]{1,39}")


def read_refusal(status: int, headers: Mapping[str, str], body: object) -> Failure:
    """The failure of an HTTP answer other than 200.

    `body` is the inner `error` object where there is one; an HTML page or nothing else.
    """
    error = mapping_of(body)
    codes = known_codes(error)
    kind = _kind(status, codes, str(error.get("message", "")))
    return Failure(
        kind,
        status,
        _retry_after_s(headers, error),
        _reason(kind, status, codes, error),
    )


def _kind(status: int, codes: list[str], message: str) -> FailureKind:
    kind = _KIND_OF_STATUS.get(status, "provider_error")
    if kind == "bad_request":
        # Older answers name neither case by a code, only in their sentence.
        if _TOO_LONG_CODES.intersection(codes) or "maximum context length" in message:
            return "context_too_long"
        if "model_not_found" in codes or "not a valid model" in message:
            return "model_not_found"
    if kind == "content_refused" and "region_restricted" in codes:
        return "model_unavailable"
    return kind


def _reason(kind: FailureKind, status: int, codes: list[str], error: Mapping[str, object]) -> str:
    if kind == "content_refused" and (categories := _categories(error)):
        return ", ".join(categories)
    return " ".join([f"http {status}", *codes])


def _categories(error: Mapping[str, object]) -> list[str]:
    reasons = mapping_of(error.get("metadata")).get("reasons")
    if not isinstance(reasons, list):
        return []
    return [r for r in reasons if isinstance(r, str) and _CATEGORY.fullmatch(r)][:_MAX_REASONS]


def _retry_after_s(headers: Mapping[str, str], error: Mapping[str, object]) -> int | None:
    said = headers.get("retry-after") or mapping_of(error.get("availability")).get("retry_after")
    text = str(said)
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return None
    return min(int(text), _MAX_RETRY_AFTER_S)
