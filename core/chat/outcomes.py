"""How an answer's end is told: the message's status, and the refusal a provider's failure becomes."""

from __future__ import annotations

from core import errors
from core.catalog.answers import Answer, Failure, Outcome
from core.metering.charges import Charge

_STATUS: dict[Outcome, str] = {
    "ok": "complete",
    "stopped": "stopped",
    "cut": "interrupted",
    "error": "interrupted",
    "timeout": "interrupted",
    "running": "interrupted",
}


def message_status(answer: Answer) -> str:
    """complete, stopped, interrupted (some text came), or error (nothing came)."""
    if answer.outcome in {"error", "timeout"} and not answer.has_output:
        return "error"
    return _STATUS[answer.outcome]


def refusal_of(failure: Failure | None, charge: Charge) -> errors.Refusal:
    """What the caller is told about a provider's failure and what it is charged; never the provider's
    own words."""
    refusal = _refusal(failure)
    refusal.message = f"{refusal.message} {charge.sentence()}"
    return refusal


def _refusal(failure: Failure | None) -> errors.Refusal:
    kind = failure.kind if failure else "provider_error"
    retry_after_s = failure.retry_after_s if failure else None
    match kind:
        case "model_not_found":
            return errors.ModelNotFound("The provider knows no model of that name.", param="model")
        case "bad_request":
            return errors.BadInput("The provider did not accept this request for this model.")
        case "context_too_long":
            return errors.BadInput("The conversation is longer than this model can read.")
        case "content_refused":
            reason = failure.reason if failure and not failure.reason.startswith("http") else ""
            why = f" ({reason})" if reason else ""
            return errors.ContentRefused(f"The provider's rules refused this content{why}.")
        case "model_unavailable":
            return errors.ModelUnavailable(
                "This model is not available right now. Please choose another.", param="model"
            )
        case "provider_unavailable":
            return errors.ProviderUnavailable(
                "The provider cannot be used right now. Our operators are informed."
            )
        case "provider_overloaded":
            return errors.ProviderOverloaded(
                "The provider is busy. Please try again in a moment, or choose another model.",
                retry_after_s=retry_after_s or 10,
            )
        case "provider_timeout":
            return errors.ProviderTimedOut("The provider did not answer in time.")
        case "provider_error":
            return errors.ProviderFailed("The provider failed while answering.")
