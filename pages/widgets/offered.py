"""The catalogue as the pages show it, read anew after some seconds: the platform's models once for all,
and of each tenant which of them it switched off. What may be called is still the gate's to say."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from uuid import UUID

from core import db, settings
from core.catalog import blocks, models, registry
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
    """What was read and when, shared by all runs of this process; offers are kept by tenant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[ModelRow] = []
        self._offers: dict[UUID, Offer] = {}
        self._read_at = float("-inf")

    def now(self, who: Principal) -> Offer:
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_S:
                self._rows = _read(who)
                self._offers = {}
                self._read_at = time.monotonic()
            if who.tenant_id not in self._offers:
                self._offers[who.tenant_id] = _offer(who, self._rows)
            return self._offers[who.tenant_id]

    def clear(self) -> None:
        with self._lock:
            self._read_at = float("-inf")


_shelf = _Shelf()


def now(who: Principal) -> Offer:
    """The models that the person's tenant can pick now. Raises errors.Unavailable for none."""
    return _shelf.now(who)


def clear() -> None:
    """Forget every offer, so that the next run reads it anew."""
    _shelf.clear()


def _read(who: Principal) -> list[ModelRow]:
    """What the platform offers to everybody."""
    configured = settings.current()
    with db.transaction(who) as session:
        return models.list_models(
            session, tenant_id=None, offered_to="chat", development=configured.development,
            configured=registry.offered(configured),
        )  # fmt: skip


def _offer(who: Principal, rows: list[ModelRow]) -> Offer:
    """Of these, what the person's tenant left on."""
    configured = settings.current()
    with db.transaction(who) as session:
        switched_off = blocks.of_tenant(session, who.tenant_id)
    left = [row for row in rows if row.model_id not in switched_off]
    default = models.default_of(left, wanted=configured.openrouter_default_model)
    return Offer(
        {row.model_id: row for row in left}, default.model_id, registry.offered(configured)
    )
