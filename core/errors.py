"""The tree of refusals: each has a code, an HTTP status and a sentence for the person.

A refusal is expected and never pages anyone; two tables render it (the pages and the API).
"""

from __future__ import annotations

from datetime import datetime


class Refusal(Exception):
    """Something asked for that will not be done, and why. `message` is shown to the person."""

    code = "refused"
    status = 400
    kind = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BadInput(Refusal):
    """The input is malformed, out of range, or names a field that is not taken."""

    code = "invalid_input"


class NotSignedIn(Refusal):
    """No valid session or API key came with the request."""

    code = "invalid_api_key"
    status = 401
    kind = "authentication_error"


class Forbidden(Refusal):
    """Signed in, but the role or the key's scopes do not allow this."""

    code = "forbidden"
    status = 403
    kind = "permission_error"


class NotFound(Refusal):
    """Missing, or somebody else's: the two look the same from outside."""

    code = "not_found"
    status = 404
    kind = "not_found_error"


class Conflict(Refusal):
    """The same thing was already asked for, or something else is in the way."""

    code = "conflict"
    status = 409
    kind = "conflict_error"


class TooLarge(Refusal):
    """The body or a field is larger than what is read."""

    code = "too_large"
    status = 413


class LimitReached(Refusal):
    """A limit said no. Names the limit, its scope, what is used, when it resets, what still works."""

    kind = "limit_error"

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        scope: str,
        used: str,
        maximum: str,
        resets_at: datetime | None = None,
        retry_after_s: int | None = None,
        still_works: str | None = None,
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.scope = scope
        self.used = used
        self.maximum = maximum
        self.resets_at = resets_at
        self.retry_after_s = retry_after_s
        self.still_works = still_works


class InsufficientCredit(LimitReached):
    """The wallet cannot cover the worst case of the call, or has debt."""

    code = "insufficient_credit"
    status = 402


class BudgetReached(LimitReached):
    """A monthly budget in USD of the tenant, the person or the key is used up."""

    code = "budget_reached"
    status = 402


class QuotaReached(LimitReached):
    """The month's messages or tokens are used up."""

    code = "quota_reached"
    status = 403


class RateLimited(LimitReached):
    """Too many requests in the minute or the hour."""

    code = "rate_limited"
    status = 429


class ModelNotFound(Refusal):
    """No model of that name is known."""

    code = "model_not_found"


class ModelForbidden(Refusal):
    """The model exists but may not be used: inactive, without a usable price, or not allowed."""

    code = "model_forbidden"
    status = 403
    kind = "permission_error"


class ModelUnavailable(Refusal):
    """The provider no longer serves the model under these conditions."""

    code = "model_unavailable"
    status = 404
    kind = "not_found_error"


class ContentRefused(Refusal):
    """The provider's moderation or a guardrail refused the content."""

    code = "content_refused"
    status = 403


class Unavailable(Refusal):
    """We cannot charge, record or decrypt right now, so nothing is started."""

    code = "unavailable"
    status = 503
    kind = "server_error"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Busy(Unavailable):
    """Too much at once: a lock, a statement or a free connection did not come in time. Wait, then ask
    again; whoever repeats at once makes it worse."""

    code = "busy"


class DatabaseAway(Unavailable):
    """The database cannot be reached, or the connection to it was lost. The only one to be retried."""

    code = "database_away"


class Draining(Unavailable):
    """The process is about to end, or has not begun: another one answers, or this one soon."""

    code = "draining"


class ProviderUnavailable(Unavailable):
    """The provider refuses our own account (401, 402): our trouble, never the caller's."""

    code = "provider_unavailable"


class ProviderOverloaded(Unavailable):
    """The provider is busy; waiting helps."""

    code = "provider_overloaded"


class ProviderFailed(Refusal):
    """The provider failed."""

    code = "provider_error"
    status = 502
    kind = "server_error"


class ProviderTimedOut(Refusal):
    """The provider did not answer within our deadline."""

    code = "provider_timeout"
    status = 504
    kind = "server_error"
