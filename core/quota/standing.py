"""Who asks, for which model, under which limits: what `resolve` read in one statement.

It decides only whether the person and the model may be used at all; amounts are the gate's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from core import crypto, db, errors
from core.catalog.reading import Deadlines
from core.identity.access import Principal, Role

_KEY_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """One row of verbs.resolve; model fields are None when there is no such model."""

    tenant_id: UUID
    user_id: UUID
    key_id: UUID | None
    tenant_label_id: UUID
    user_label_id: UUID
    cost_center: str | None
    project: str | None
    tenant_status: str
    user_status: str
    key_status: str | None
    scopes: list[str] | None
    role: str
    email: str
    name: str
    tenant_name: str
    plan: str
    mode: str
    time_zone: str
    markup: Decimal
    period: date
    period_ends: datetime
    model_id: str | None
    provider: str | None
    model_active: bool | None
    model_blocked: bool | None
    context_tokens: int | None
    output_tokens_max: int | None
    answer_tokens_default: int | None
    input_modalities: list[str] | None
    output_modalities: list[str] | None
    supported_parameters: list[str] | None
    is_free: bool | None
    price_id: int | None
    terms: dict[str, Any] | None
    sends_cost: bool | None
    keeps_generations: bool | None
    connect_ms: int | None
    first_token_ms: int | None
    idle_ms: int | None
    total_ms: int | None
    limits: list[int | None]
    available_nusd: int | None
    debt_nusd: int
    spend_left_nusd: int | None
    tokens_left: int | None

    @property
    def principal(self) -> Principal:
        """The person (and key) as everything else knows them."""
        return Principal(
            tenant_id=self.tenant_id, user_id=self.user_id, role=Role(self.role), email=self.email,
            name=self.name, tenant_name=self.tenant_name, plan=self.plan, mode=self.mode,
            time_zone=self.time_zone, session_id=None, key_id=self.key_id,
            scopes=frozenset(self.scopes or ()),
        )  # fmt: skip

    @property
    def deadlines(self) -> Deadlines:
        """How long the model's provider may take. Only for a standing with a model."""
        return Deadlines(
            self.connect_ms or 0, self.first_token_ms or 0, self.idle_ms or 0, self.total_ms or 0
        )


_COLUMNS = ", ".join(field.name for field in fields(Standing))
_RESOLVE = f"select {_COLUMNS} from verbs.resolve(%s, %s, %s, %s)"  # noqa: S608 - our own names


def of_key(secret: str, model_id: str | None) -> Standing:
    """Whoever holds this API key. Raises errors.NotSignedIn with one sentence for every reason."""
    if not secret or len(secret) > _KEY_LENGTH_MAX or not secret.isascii():
        raise errors.NotSignedIn("The API key is not valid.")
    return _active(_resolve(crypto.token_hash(secret), None, None, model_id))


def of_member(who: Principal, model_id: str | None) -> Standing:
    """A signed-in person. Raises errors.NotSignedIn when the person was disabled meanwhile."""
    return _active(_resolve(None, who.tenant_id, who.user_id, model_id))


def require_model(standing: Standing, *, offered: frozenset[str]) -> None:
    """Raise a refusal unless the model exists, is active, priced, and its provider is offered."""
    if standing.model_id is None or standing.provider not in offered:
        raise errors.ModelNotFound("There is no model of that name.", param="model")
    if not standing.model_active:
        raise errors.ModelForbidden(
            f"{standing.model_id} is no longer offered. Please choose another model.", param="model"
        )
    if standing.terms is None:
        raise errors.ModelForbidden(
            f"{standing.model_id} has no usable price, so it cannot be called.", param="model"
        )


def _resolve(
    key_hash: bytes | None, tenant_id: UUID | None, user_id: UUID | None, model_id: str | None
) -> Standing | None:
    row = db.current().call_again(_RESOLVE, (key_hash, tenant_id, user_id, (model_id or "")[:200]))
    return Standing(**row) if row and row["tenant_id"] is not None else None


def _active(standing: Standing | None) -> Standing:
    if standing is None or standing.key_status not in {None, "active"}:
        raise errors.NotSignedIn("The API key is not valid.")
    if standing.user_status != "active":
        raise errors.NotSignedIn("This account is not active.")
    if standing.tenant_status != "active":
        raise errors.Forbidden(f"{standing.tenant_name} is suspended. Please ask your operator.")
    return standing
