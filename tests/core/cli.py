"""Running commands in a test: what they leave, and the things most of them need first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import text

from core import db
from core.billing import ledger
from tests.factories import TESTS


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left: its exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, object]:
        """The one object on standard output."""
        return json.loads(self.out)  # type: ignore[no-any-return]


Run = Callable[..., Answer]


def a_tenant(run: Run, *more: str) -> str:
    answer = run("tenant", "create", f"Acme {uuid4().hex[:8]}", *more, "--json")
    assert answer.status == 0, answer
    return str(answer.facts["id"])


def a_member(run: Run, tenant: str) -> str:
    email = f"{uuid4().hex}@example.com"
    answer = run("user", "create", "--tenant", tenant, "--email", email, "--role", "member")
    assert answer.status == 0, answer
    return email


def wallet(tenant: str) -> ledger.Wallet:
    with db.transaction(TESTS) as session:
        return ledger.wallet(session, UUID(tenant))


def counts() -> tuple[object, ...]:
    """How much is stored of everything that commands write."""
    tables = "tenants users memberships operators api_keys limit_overrides entries lots audit_log"
    tables += " models prices catalog_syncs"
    with db.transaction(TESTS) as session:
        return tuple(
            session.scalar(text(f"select count(*) from app.{table}")) for table in tables.split()
        )
