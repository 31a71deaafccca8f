"""What the stand-in answers when it refuses, in the shape of Stripe's errors.

Only a failure of execution (a declined card) is kept under an idempotency key; a request that was
never begun is not, as at Stripe.
"""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]  # one of Stripe's own objects, as it goes over the wire


class Refused(Exception):
    """An answer other than 200. `is_kept`: the same key will get the same answer again."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error",
        code: str | None = None, param: str | None = None, more: Obj | None = None,
        is_kept: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.is_kept = is_kept
        given = {"code": code, "param": param, "message": message, "type": kind}
        self.error: Obj = {k: v for k, v in given.items() if v is not None} | (more or {})


def missing(kind: str, object_id: str, *, param: str = "id", status: int = 404) -> Refused:
    """Nothing of that kind has this id."""
    noun = kind.rpartition(".")[2]
    message = f"No such {noun}: '{object_id}'"
    return Refused(status, message, code="resource_missing", param=param)


def wrong(param: str, message: str, code: str = "parameter_invalid") -> Refused:
    """A parameter that cannot be taken as it is."""
    return Refused(400, message, code=code, param=param)


def key_reused(key: str) -> Refused:
    """The idempotency key came before with other parameters."""
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first"
        f" used with. Try using a key other than '{key}' if you meant to execute a different"
        " request."
    )
    return Refused(400, message, kind="idempotency_error")


def scripted(kind: str) -> Refused:
    """The answer of a fault ordered by a test."""
    if kind == "409":
        message = "This object cannot be accessed right now because another request holds it."
        return Refused(409, message, code="lock_timeout")
    if kind == "429":
        return Refused(429, "Too many requests in too short a time.", code="rate_limit")
    return Refused(500, "An unknown error occurred.", kind="api_error")
