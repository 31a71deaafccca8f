"""Reads the catalogue: which AI models may be offered, at what price, and which to take first.

It changes nothing. Whether a provider has a key is the caller's to know: `configured` names those
that do. Providers for development only count as configured there, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from core import clock
from core.catalog import blocks
from core.catalog.tables import Model, Price, Provider
from core.catalog.terms import Terms, readable
from core.errors import ModelForbidden, ModelNotFound, Unavailable

BUILT_IN = "demo/purser"

_TYPICAL_PROMPT_TOKENS = 3_000
_TYPICAL_ANSWER_TOKENS = 1_000
_CHEAPER_MAX = 3


@dataclass(frozen=True, slots=True)
class ModelRow:
    """An AI model as people and programs see it. Without `terms` it cannot be called."""

    model_id: str
    provider: str
    name: str
    description: str
    context_tokens: int
    output_tokens_max: int | None
    answer_tokens_default: int
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    supported_parameters: tuple[str, ...]
    is_free: bool
    is_active: bool
    is_built_in: bool
    expires_on: date | None
    price_id: int | None
    terms: Terms | None

    @property
    def prompt_usd_per_million(self) -> Decimal | None:
        """For display: exact USD per million prompt tokens, without overrides."""
        return self.terms.prompt_usd_per_million if self.terms else None

    @property
    def completion_usd_per_million(self) -> Decimal | None:
        """For display: exact USD per million answer tokens, without overrides."""
        return self.terms.completion_usd_per_million if self.terms else None

    @property
    def typical_usd(self) -> Decimal:
        """What 3,000 prompt and 1,000 answer tokens cost: the measure of cheaper and dearer."""
        if self.terms is None:
            return Decimal("Infinity")
        rates = self.terms.rates_for(_TYPICAL_PROMPT_TOKENS)
        tokens = _TYPICAL_PROMPT_TOKENS * rates.prompt + _TYPICAL_ANSWER_TOKENS * rates.completion
        return tokens + rates.request

    @property
    def converses(self) -> bool:
        """Whether it answers text with text, as Chat needs."""
        return "text" in self.input_modalities and "text" in self.output_modalities

    def refusal(self, today: date) -> str | None:
        """Why it cannot be called, as a sentence for the person; None when it can."""
        if not self.is_active or (self.expires_on is not None and self.expires_on <= today):
            return f"{self.name} is no longer offered."
        if self.terms is None:
            return f"{self.name} has no price that it can be charged by, so it cannot be called."
        return None


def list_models(
    session: Session,
    *,
    tenant_id: UUID | None,
    offered_to: Literal["chat", "api"],
    development: bool,
    configured: Collection[str],
) -> list[ModelRow]:
    """The models that can be called now, by name: text to text in Chat, any text answer by API.

    Without those that the tenant switched off; None is for nobody in particular.
    """
    today = _today()
    switched_off = blocks.of_tenant(session, tenant_id) if tenant_id else frozenset()
    rows = (
        _row(found)
        for found in session.execute(_offered(development=development, configured=configured))
    )
    return [
        row
        for row in rows
        if row.refusal(today) is None
        and row.model_id not in switched_off
        and (row.converses if offered_to == "chat" else "text" in row.output_modalities)
    ]


def every(session: Session) -> list[ModelRow]:
    """All models there ever were, by name, whatever their state."""
    return [_row(found) for found in session.execute(_select())]


def find(session: Session, model_id: str) -> ModelRow | None:
    """A model whatever its state, for showing what was used; None when it was never known."""
    found = session.execute(_select().where(Model.model_id == model_id)).one_or_none()
    return _row(found) if found else None


def require(
    session: Session, model_id: str, *, development: bool, configured: Collection[str]
) -> ModelRow:
    """A model that can be called now. Raises ModelNotFound, and ModelForbidden saying why not."""
    statement = _offered(development=development, configured=configured).where(
        Model.model_id == model_id
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        raise ModelNotFound(f"There is no model {model_id[:100]!r}.", param="model")
    row = _row(found)
    if (refusal := row.refusal(_today())) is not None:
        raise ModelForbidden(refusal, param="model")
    return row


def default_of(offered: Sequence[ModelRow], *, wanted: str) -> ModelRow:
    """Of the models offered, the one for who chose none: `wanted` if it is there, else the cheapest
    that costs something.

    Free ones come after: providers allow them few calls a day, for all tenants together. Those for
    development are last, BUILT_IN before the others. Raises Unavailable when none is offered.
    """
    by_id = {row.model_id: row for row in offered}
    if wanted in by_id:
        return by_id[wanted]
    if not offered:
        raise Unavailable(
            "No model can be called: no provider is set up, or your team switched every model off."
        )
    return min(offered, key=_preference)


def _preference(row: ModelRow) -> tuple[bool, bool, bool, Decimal, str]:
    is_other_demo = row.is_built_in and row.model_id != BUILT_IN
    return row.is_built_in, is_other_demo, row.is_free, *_by_price(row)


def _by_price(row: ModelRow) -> tuple[Decimal, str]:
    return row.typical_usd, row.model_id


def _today() -> date:
    return clock.now().date()


def _select() -> Select[Any]:
    return (
        select(Model, Price.terms, Provider.development_only)
        .join(Provider, Provider.provider == Model.provider)
        .outerjoin(Price, Price.price_id == Model.price_id)
        .order_by(Model.name, Model.model_id)
    )


def _offered(*, development: bool, configured: Collection[str]) -> Select[Any]:
    """Models of the providers that can be reached from here."""
    is_reachable = ~Provider.development_only & Provider.provider.in_(tuple(configured))
    if development:
        is_reachable |= Provider.development_only
    return _select().where(is_reachable)


def _row(found: Any) -> ModelRow:
    model: Model = found.Model
    return ModelRow(
        model_id=model.model_id,
        provider=model.provider,
        name=model.name,
        description=model.description,
        context_tokens=model.context_tokens,
        output_tokens_max=model.output_tokens_max,
        answer_tokens_default=model.answer_tokens_default,
        input_modalities=tuple(model.input_modalities),
        output_modalities=tuple(model.output_modalities),
        supported_parameters=tuple(model.supported_parameters),
        is_free=model.is_free,
        is_active=model.active,
        is_built_in=found.development_only,
        expires_on=model.expires_on,
        price_id=model.price_id,
        # a price that cannot be read makes its own model uncallable, never the list
        terms=readable(found.terms),
    )
