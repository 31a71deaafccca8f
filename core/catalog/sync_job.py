"""The hourly pass over the provider's model list. Does nothing where no provider is set up."""

from __future__ import annotations

from datetime import UTC, datetime

from core import jobs
from core.catalog import sync
from core.catalog.registry import connect
from core.settings import Settings, current


def sync_now(settings: Settings) -> sync.SyncReport | None:
    """Fetch and apply OpenRouter's list; None without an OPENROUTER_API_KEY.

    Raises providers.ProviderUnreachable.
    """
    provider = connect(settings).get(sync.OPENROUTER)
    if provider is None:
        return None
    return sync.sync_from_provider(provider, now=datetime.now(UTC))


@jobs.periodic("25 * * * *", "catalog.sync")
def _sync() -> None:
    sync_now(current())
