"""Which providers this process can reach, from the settings. Without a key only the demo is offered."""

from __future__ import annotations

from core.catalog.providers import Provider
from core.settings import Settings

OPENROUTER, DEMO = "openrouter", "demo"
_CONNECTIONS_MAX = 500


def offered(settings: Settings) -> frozenset[str]:
    """The names of the providers whose models people may pick."""
    names = {OPENROUTER} if settings.openrouter_api_key else set()
    return frozenset(names | ({DEMO} if settings.development else set()))


def connect(settings: Settings, *, demo_url: str | None = None) -> dict[str, Provider]:
    """A client for each provider that is offered, for the event loop this is called on."""
    clients: dict[str, Provider] = {}
    if settings.openrouter_api_key:
        clients[OPENROUTER] = Provider(
            OPENROUTER, settings.openrouter_base_url,
            settings.openrouter_api_key.get_secret_value(), site=settings.app_url,
            max_connections=_CONNECTIONS_MAX,
        )  # fmt: skip
    if demo_url is not None:
        clients[DEMO] = Provider(
            DEMO, demo_url, "demo", site=settings.app_url, max_connections=_CONNECTIONS_MAX
        )
    return clients
