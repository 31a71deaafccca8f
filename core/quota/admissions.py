"""What is asked of the database when a call is to be admitted: the argument of verbs.admit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Admission:
    """The argument of verbs.admit, field by field."""

    call_id: UUID
    tenant_id: UUID
    user_id: UUID
    key_id: UUID | None
    tenant_label_id: UUID
    user_label_id: UUID
    cost_center: str | None
    project: str | None
    source: str
    purpose: str
    conversation_id: UUID | None
    provider: str
    model_id: str
    price_id: int
    markup: str
    prompt_tokens_guess: int
    answer_tokens_max: int
    tokens_held: int
    hold_nusd: int
    period: date
    idempotency_key: str | None
    lease_token: UUID
    lease_s: int
    total_ms: int
    limits: list[int | None]
