"""Makes what a test needs through the product's own verbs: tenants, people, models, open calls."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from core import db
from core.billing import ledger
from core.catalog.tables import Model, Price
from core.db import System, new_id
from core.identity import members, tenants
from core.identity.access import Principal, Role
from core.metering import rollups
from core.money import NANO_PER_USD

TESTS = System("tests")
ROUND_PRICE = {"prompt": "0.000001", "completion": "0.000002"}  # USD per token


@dataclass(frozen=True, slots=True)
class Place:
    """A tenant with one person, made for one test."""

    tenant_id: UUID
    user_id: UUID
    who: Principal


def make_place(
    *,
    credit_usd: int | str = 10,
    plan: str = "enterprise",
    mode: str = "prepaid",
    role: str = "member",
    credit_limit_nusd: int = 0,
    time_zone: str = "UTC",
    markup: str = "0",
) -> Place:
    """A new tenant with a wallet and one member. Enterprise: no rates and quotas in the way."""
    with db.transaction(TESTS) as session:
        name = f"Tenant {new_id().hex[-8:]}"
        tenant_id = tenants.create_tenant(
            session, TESTS, name, plan=plan, mode=mode, time_zone=time_zone, markup=markup
        )
        ledger.open_account(session, tenant_id, mode=mode, credit_limit_nusd=credit_limit_nusd)
        email = f"{new_id().hex}@example.com"
        user_id = tenants.create_user(session, TESTS, email, name="Ada")
        members.add(session, TESTS, tenant_id, user_id, Role(role), confirmed=True)
        if float(credit_usd):
            ledger.grant(
                session, tenant_id, int(float(credit_usd) * NANO_PER_USD), kind="manual",
                key="start", actor="tests", reason="start",
            )  # fmt: skip
    who = Principal(
        tenant_id=tenant_id, user_id=user_id, role=Role(role), email=email, name="Ada",
        tenant_name=name, plan=plan, mode=mode, time_zone=time_zone,
    )  # fmt: skip
    return Place(tenant_id, user_id, who)


def make_model(
    *, terms: dict[str, object] | None = None, provider: str = "openrouter", free: bool = False,
    model_id: str | None = None,
) -> str:  # fmt: skip
    """A callable model with a price of its own; returns its id."""
    with db.transaction(TESTS) as session:
        name = model_id or f"test/model-{new_id().hex[-8:]}"
        model = Model(
            model_id=name, provider=provider, name=name, context_tokens=128_000,
            output_tokens_max=16_000, input_modalities=["text", "image"],
            output_modalities=["text"], is_free=free, active=True,
            supported_parameters=["tools", "tool_choice", "temperature", "max_tokens", "top_p",
                                  "response_format", "reasoning", "stop", "seed"],
        )  # fmt: skip
        session.add(model)
        session.flush()
        price = Price(model_id=name, terms=terms or ROUND_PRICE, state="accepted")
        session.add(price)
        session.flush()
        model.price_id = price.price_id
    return name


def sum_up() -> None:
    """Have all usage so far in the sums, as a worker has it within a second."""
    with db.transaction(TESTS) as session:
        rollups.flush(session)
