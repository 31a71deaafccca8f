"""Renders refusals for programs: one table from core.errors to OpenAI's error shape.

It invents no sentence and shows nothing of an unexpected error but the id it is logged under.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from core import errors, telemetry

NO_STORE = "no-store"
_CONTENT_TYPE = "application/json"


class MethodNotAllowed(errors.Refusal):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class Misdirected(errors.Refusal):
    """The request names another host than this server's: a page of a stranger's name was led here."""

    code = "misdirected"
    status = 421


class LengthRequired(errors.Refusal):
    """An upload must say how long it is before it is read."""

    code = "length_required"
    status = 411


class _Unexpected(errors.Refusal):
    """Something broke on our side; what it was is in the log only."""

    code = "internal_error"
    status = 500
    kind = "server_error"


UNEXPECTED = _Unexpected("Something went wrong on our side. Please tell us the request id.")


def as_json(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON response that no cache keeps."""
    return Response(
        orjson.dumps(content), status,
        {"content-type": _CONTENT_TYPE, "cache-control": NO_STORE, **(headers or {})},
    )  # fmt: skip


def response(refusal: errors.Refusal, headers: Mapping[str, str] | None = None) -> Response:
    """The refusal as an HTTP response, with Retry-After where waiting helps."""
    shown = dict(headers or {})
    if (wait_s := getattr(refusal, "retry_after_s", None)) is not None:
        shown["retry-after"] = str(wait_s)
    if isinstance(refusal, errors.NotSignedIn):
        shown["www-authenticate"] = "Bearer"
    return as_json(body(refusal), status=refusal.status, headers=shown)


def body(refusal: errors.Refusal) -> dict[str, object]:
    """The refusal in OpenAI's error shape; limits also say what is used and when they reset."""
    error: dict[str, object] = {
        "message": refusal.message,
        "type": refusal.kind,
        "code": refusal.code,
        "param": refusal.param,
        "request_id": telemetry.request_id.get(),
    }
    if isinstance(refusal, errors.LimitReached):
        error |= {
            "limit": refusal.limit,
            "scope": refusal.scope,
            "used": refusal.used,
            "maximum": refusal.maximum,
            "resets_at": refusal.resets_at.isoformat() if refusal.resets_at else None,
            "still_works": refusal.still_works,
        }
    return {"error": error}
