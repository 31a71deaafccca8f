"""What a person can still do when money says no: free models, and dearer ones whose answer would fit.

It promises nothing: the gate decides again. It is asked on refusals only, never on the way of a call.
"""

from __future__ import annotations

from core import db, settings
from core.catalog import models, pricing, registry
from core.catalog.models import ModelRow
from core.money import billed_nusd
from core.quota.admissions import Admission
from core.quota.standing import Standing

_NAMED_MAX = 2
_SHORT_ANSWER_TOKENS = 256


def still_works(standing: Standing, admission: Admission) -> str | None:
    """A sentence naming models that would still be admitted; None when there are none."""
    configured = settings.current()
    with db.transaction(standing.principal) as session:
        rows = models.list_models(
            session, tenant_id=standing.tenant_id, offered_to="chat",
            development=configured.development, configured=registry.offered(configured),
        )  # fmt: skip
    callable_rows = [row for row in rows if row.terms and row.model_id != admission.model_id]
    free = [row for row in callable_rows if row.is_free][:_NAMED_MAX]
    prompt_tokens = admission.tokens_held - admission.answer_tokens_max
    left = _left_nusd(standing)
    fitting = [
        row
        for row in callable_rows
        if not row.is_free and _fits(row, standing, prompt_tokens, left)
    ]
    fitting.sort(key=lambda row: row.typical_usd, reverse=True)
    named = [f"{row.model_id} (free)" for row in free]
    named += [row.model_id for row in fitting[:_NAMED_MAX]]
    return f"Still possible: {', '.join(named)}." if named else None


def _left_nusd(standing: Standing) -> int | None:
    money = [n for n in (standing.available_nusd, standing.spend_left_nusd) if n is not None]
    return max(0, min(money)) if money else None


def _fits(row: ModelRow, standing: Standing, prompt_tokens: int, left_nusd: int | None) -> bool:
    if row.terms is None or left_nusd is None:
        return False
    worst_usd = pricing.worst_case_usd(
        row.terms, prompt_tokens, _SHORT_ANSWER_TOKENS, inputs=("text",),
        outputs=row.output_modalities,
    )  # fmt: skip
    return billed_nusd(worst_usd, standing.markup) <= left_nusd
