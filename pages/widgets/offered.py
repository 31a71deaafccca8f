"""The catalogue as the pages show it, read anew after some seconds. It keeps platform data only:
nothing here belongs to a tenant, and what may be called is still the gate's to say."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from core import db, settings
from core.catalog import models, registry
from core.catalog.models import ModelRow
from core.identity.access import Principal

_FRESH_S = 15.0


@dataclass(frozen=True, slots=True)
class Offer:
    """The models of Chat by id, in the order of their names, and the one for who chose none."""

    by_id: dict[str, ModelRow]
    default_id: str
    providers: frozenset[str]

    def name(self, model_id: str | None) -> str:
        """A model's name; its id where it is no longer offered."""
        row = self.by_id.get(model_id or "")
        return row.name if row else (model_id or "a model")


class _Shelf:
    """The offer and when it was read, shared by all runs of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offer: Offer | None = None
        self._read_at = 0.0

    def now(self, who: Principal) -> Offer:
        with self._lock:
            if self._offer is None or time.monotonic() - self._read_at > _FRESH_S:
                self._offer = _read(who)
                self._read_at = time.monotonic()
            return self._offer

    def clear(self) -> None:
        with self._lock:
            self._offer = None


_shelf = _Shelf()


def now(who: Principal) -> Offer:
    """The models that can be picked now. Raises errors.Unavailable where there is none."""
    return _shelf.now(who)


def clear() -> None:
    """Forget the offer, so that the next run reads it anew."""
    _shelf.clear()


def _read(who: Principal) -> Offer:
    configured = settings.current()
    providers = registry.offered(configured)
    with db.transaction(who) as session:
        rows = models.list_models(
            session, offered_to="chat", development=configured.development, configured=providers
        )
        default = models.default_model(
            session, wanted=configured.openrouter_default_model,
            development=configured.development, configured=providers,
        )  # fmt: skip
    return Offer({row.model_id: row for row in rows}, default.model_id, providers)
