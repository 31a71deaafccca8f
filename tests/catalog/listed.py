"""A catalogue of a test's own: model rows as a provider lists them, synced hour by hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.catalog import prices, sync
from core.catalog.tables import Model, Price
from core.db import new_id
from core.identity import audit
from core.identity.access import Operator, Principal, Role
from tests.identity.people import SYSTEM

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def row(
    model_id: str, prompt: object = "0.000001", completion: object = "0.000002", **more: Any
) -> dict[str, Any]:
    pricing = {"prompt": prompt, "completion": completion} | more.pop("pricing", {})
    return {"id": model_id, "name": model_id, "context_length": 8_000, "pricing": pricing} | more


@dataclass
class Catalogue:
    """A provider of this test alone, synced hour by hour in a transaction that is rolled back."""

    session: Session
    now: datetime = NOW

    def sync(self, *rows: object, retire_any: bool = False) -> sync.SyncReport:
        self.now += HOUR
        report = sync.apply(
            self.session, "testing", rows, source="file", now=self.now, retire_any=retire_any
        )
        self.session.flush()
        self.session.expire_all()
        return report

    def model(self, model_id: str) -> Model:
        found = self.session.get(Model, model_id)
        assert found is not None
        return found

    def prices(self, model_id: str) -> list[Price]:
        mine = select(Price).where(Price.model_id == model_id).order_by(Price.price_id)
        return list(self.session.scalars(mine))

    def charged(self, model_id: str) -> str | None:
        """The prompt price that applies now."""
        price_id = self.model(model_id).price_id
        price = self.session.get(Price, price_id) if price_id else None
        return price.terms["prompt"] if price else None

    def held(self) -> int:
        """The id of the only price that waits for an operator."""
        (price,) = [p for p in prices.list_held(self.session) if p.model_id.startswith("t/")]
        return price.price_id

    def audited(self, object_: str) -> list[audit.Entry]:
        """What the audit log says of one object, oldest first."""
        entries = audit.recent(self.session, SYSTEM)
        return [entry for entry in reversed(entries) if entry.object == object_]


def an_operator() -> Operator:
    return Operator(new_id(), "olga@example.com", "Olga")


def a_member() -> Principal:
    """An admin of a tenant, who is no platform operator."""
    return Principal(
        tenant_id=new_id(), user_id=new_id(), role=Role.ADMIN, email="ada@example.com", name="Ada",
        tenant_name="Acme", plan="pro", mode="prepaid", time_zone="UTC",
    )  # fmt: skip


def others(count: int) -> list[dict[str, Any]]:
    return [row(f"t/other-{n}") for n in range(count)]
