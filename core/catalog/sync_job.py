"""The hourly pass over the provider's model list. Does nothing where no provider is set up."""

from __future__ import annotations

from core import clock, errors, jobs
from core.catalog import sync
from core.catalog.providers import ProviderUnreachable
from core.catalog.registry import connect
from core.identity import audit
from core.identity.access import Actor, Operator, require_operator
from core.jobs import Queue
from core.settings import Settings, current


def sync_now(settings: Settings, *, asked_by: Operator | None = None) -> sync.SyncReport | None:
    """Fetch and apply OpenRouter's list; None without an OPENROUTER_API_KEY.

    Raises providers.ProviderUnreachable.
    """
    provider = connect(settings).get(sync.OPENROUTER)
    if provider is None:
        return None
    return sync.sync_from_provider(provider, now=clock.now(), asked_by=asked_by)


def ask(who: Actor, settings: Settings) -> sync.SyncReport:
    """`sync_now` for an operator. Opens its own transactions.

    Raises errors.Forbidden, errors.Conflict without a key, errors.Unavailable.
    """
    with audit.denials(who, "catalog.sync", f"provider:{sync.OPENROUTER}"):
        operator = require_operator(who)
    asked_by = operator if isinstance(operator, Operator) else None
    try:
        report = sync_now(settings, asked_by=asked_by)
    except ProviderUnreachable as error:
        raise errors.Unavailable(f"The model list could not be fetched: {error}.") from None
    if report is None:
        raise errors.Conflict("No provider is set up: OPENROUTER_API_KEY is missing.")
    return report


@jobs.periodic("25 * * * *", "catalog.sync", Queue.LONG)
def _sync() -> None:
    sync_now(current())
