"""How a call to Stripe can end other than well. None of them carries a secret, a person's data or the
text of Stripe's answer: codes, names of parameters and ids only.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from core import errors

SignatureReason: TypeAlias = Literal[
    "no_secret", "no_header", "bad_signature", "too_old", "in_the_future",
    "not_utf8", "not_json", "not_an_object", "other_mode",
]  # fmt: skip


class StripeDown(errors.Unavailable):
    """Not known to be done: no connection, no answer in time, 409, 429, 5xx, or no answer of Stripe's.

    It may be repeated with the same idempotency key, and only with that one.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"The payment provider {what}. Try again in a minute.", retry_after_s=60)


class StripeRefused(Exception):
    """Stripe will not do this, however often it is asked; `code` and `param` say what is wrong.

    code "unreadable": the answer was not of the pinned version's shape; what was asked is done.
    code "too_many": a list had more pages than are read.
    """

    def __init__(
        self,
        code: str,
        *,
        param: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        named = [f"param {param}" if param else "", f"status {status}" if status else ""]
        parts = ", ".join(part for part in [code, *named, request_id or ""] if part)
        super().__init__(f"Stripe refused: {parts}")
        self.code = code
        self.param = param
        self.status = status
        self.request_id = request_id


class CardDeclined(Exception):
    """The bank said no (402), or wants the buyer: code "authentication_required"."""

    def __init__(
        self, code: str, *, decline_code: str | None, payment_intent_id: str | None
    ) -> None:
        super().__init__(f"Card declined: {code}" + (f" ({decline_code})" if decline_code else ""))
        self.code = code
        self.decline_code = decline_code
        self.payment_intent_id = payment_intent_id


class SignatureRefused(Exception):
    """A message to the webhook that is not Stripe's, not of now, or not for this mode."""

    def __init__(self, reason: SignatureReason) -> None:
        super().__init__(f"webhook refused: {reason}")
        self.reason: SignatureReason = reason
