"""Brings a provider's model list into the catalogue: models, dated prices, what is no longer sold.

It deletes nothing, overwrites no price, and lets nothing odd apply before an operator agreed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import db
from core.catalog import passes, prices
from core.catalog.demo_models import DEMO_MODELS
from core.catalog.listing import (
    DEMO_PROVIDER,
    BadRow,
    Listing,
    read_file,
    read_id,
    read_row,
)
from core.catalog.passes import Found
from core.catalog.tables import CatalogSync, Model, Provider
from core.errors import BadInput, Conflict, NotFound
from core.identity import audit
from core.identity.access import Actor, Operator, require_operator

OPENROUTER = "openrouter"
SEED_FILE = Path(__file__).with_name("openrouter_models.json")

_ONE_SYNC = 7_010
_MISSED_SYNCS_MAX = 2
_RETIRED_PERCENT_MAX = 20
_ANSWER_TOKENS_DEFAULT = 4_096
_ROWS_MAX = 20_000

log = structlog.get_logger(__name__)


class Lister(Protocol):
    """A provider that can say which models it sells."""

    @property
    def name(self) -> str: ...
    async def models(self) -> list[dict[str, object]]: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What came of one pass. 'held': nothing was retired, `would_retire` models were kept."""

    provider: str
    source: str
    outcome: Literal["applied", "held"]
    seen: int
    added: int
    repriced: int
    held: int
    retired: int
    returned: int
    skipped: int
    would_retire: int


@dataclass(slots=True)
class _Read:
    """The rows, sorted out. `mentioned` also holds the ids of rows that could not be read."""

    listings: dict[str, Listing] = field(default_factory=dict)
    mentioned: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)


def apply(
    session: Session,
    provider: str,
    rows: Sequence[object],
    *,
    source: str,
    now: datetime,
    retire_any: bool = False,
) -> SyncReport:
    """Bring the catalogue of `provider` in line with its list.

    A pass that would retire more than a fifth of the active models is held: prices and new models
    apply, nothing is retired; `retire_any` is an operator's word that the list is right. Which models
    changed, and how, is kept in the same transaction. Raises NotFound for a provider that is not
    known, BadInput for an absurd number of rows.
    """
    if len(rows) > _ROWS_MAX:
        raise BadInput("The model list is too long to be one.")
    _one_at_a_time(session, provider)
    read = _read(rows, provider, _foreign_ids(session, provider))
    known = {
        m.model_id: m for m in session.scalars(select(Model).where(Model.provider == provider))
    }
    leaving = _leaving(known.values(), read, now)
    active = sum(model.active for model in known.values())
    is_too_much = len(leaving) * 100 > active * _RETIRED_PERCENT_MAX
    is_held = not read.listings or (is_too_much and not retire_any)
    retiring = set() if is_held else leaving
    kept = leaving - retiring
    added, returned = _upsert(session, provider, known, read, kept=kept, now=now)
    if read.listings:
        _retire(known.values(), read, retiring)
    moved = prices.update(session, known, read.listings, now)
    found = [
        *(Found(model_id, "would_retire") for model_id in kept),
        *(Found(model_id, "retired") for model_id in retiring),
        *(Found(model_id, "returned") for model_id in returned),
        *_with_prices(known, added, moved),
    ]
    counts = Counter(each.kind for each in found)
    report = SyncReport(
        provider, source, "held" if is_held else "applied", len(read.listings), counts["added"],
        counts["repriced"], counts["held"], counts["retired"], counts["returned"],
        len(read.refusals), len(leaving),
    )  # fmt: skip
    _record(session, report, found, now)
    return report


def sync_from_provider(
    provider: Lister, *, now: datetime, asked_by: Operator | None = None
) -> SyncReport:
    """Fetch the list with no transaction open, then apply it in one. Closes the provider.

    An operator who asked for it stands in the log. Raises providers.ProviderUnreachable; then nothing
    has changed.
    """
    rows = asyncio.run(_fetch(provider))
    with db.transaction(asked_by or db.System("catalogue sync")) as session:
        report = apply(session, provider.name, rows, source="provider", now=now)
        if asked_by is not None:
            audit.record(
                session, asked_by, "catalog.sync", f"provider:{provider.name}", after=asdict(report)
            )
        return report


def seed(session: Session, *, development: bool, now: datetime) -> list[SyncReport]:
    """Fill the catalogue on the first start; a provider that has models already is left alone."""
    seeds: dict[str, Sequence[object]] = {OPENROUTER: read_file(SEED_FILE)}
    if development:
        seeds[DEMO_PROVIDER] = [model.catalogue_row() for model in DEMO_MODELS.values()]
    reports = []
    for provider, rows in seeds.items():
        _one_at_a_time(session, provider)
        if not session.scalar(select(func.count()).where(Model.provider == provider)):
            reports.append(apply(session, provider, rows, source="seed", now=now))
    return reports


def set_model_active(
    session: Session, who: Actor, model_id: str, *, active: bool, now: datetime
) -> None:
    """An operator takes a model out of the offer, or back in; no sync undoes either.

    Raises NotFound, and Conflict for putting back a model whose own end has come.
    """
    action = "model.activate" if active else "model.deactivate"
    with audit.denials(who, action, f"model:{model_id}"):
        require_operator(who)
    model = session.get(Model, model_id, with_for_update=True)
    if model is None:
        raise NotFound("There is no such model.")
    if active and model.expires_on is not None and model.expires_on <= now.date():
        raise Conflict(f"The provider stopped serving this model on {model.expires_on}.")
    before, model.active, model.missed_syncs = model.active, active, 0
    session.flush()
    audit.record(
        session, who, action, f"model:{model_id}", before={"active": before},
        after={"active": active},
    )  # fmt: skip


def _one_at_a_time(session: Session, provider: str) -> None:
    session.execute(select(func.pg_advisory_xact_lock(_ONE_SYNC)))
    if session.get(Provider, provider) is None:
        raise NotFound("There is no such provider.")


async def _fetch(provider: Lister) -> list[dict[str, object]]:
    try:
        return await provider.models()
    finally:
        await provider.close()


def _foreign_ids(session: Session, provider: str) -> set[str]:
    return set(session.scalars(select(Model.model_id).where(Model.provider != provider)))


def _read(rows: Sequence[object], provider: str, foreign: set[str]) -> _Read:
    """Sort the rows out; ids of another provider, and a second row of one id, are skipped."""
    read = _Read()
    for row in rows:
        try:
            model_id = read_id(row)
        except BadRow as error:
            read.refusals.append(str(error))
            continue
        is_ours = model_id.startswith(f"{DEMO_PROVIDER}/") == (provider == DEMO_PROVIDER)
        if model_id in foreign or model_id in read.listings or not is_ours:
            read.refusals.append("the id belongs to another model")
            continue
        read.mentioned.add(model_id)
        try:
            read.listings[model_id] = read_row(row)  # type: ignore[arg-type]  # read_id looked
        except BadRow as error:
            read.refusals.append(str(error))
    if read.refusals:
        log.warning("catalog.rows_skipped", provider=provider, reasons=read.refusals[:5])
    return read


def _leaving(known: Iterable[Model], read: _Read, now: datetime) -> set[str]:
    """Ids of active models that this list ends: absent once too often, or past their own date."""
    leaving = set()
    for model in known:
        listing = read.listings.get(model.model_id)
        if listing is not None:
            is_over = listing.is_expired(now.date())
        else:
            is_absent = model.model_id not in read.mentioned
            is_over = is_absent and model.missed_syncs + 1 >= _MISSED_SYNCS_MAX
            is_over = is_over or (model.expires_on is not None and model.expires_on <= now.date())
        if model.active and is_over:
            leaving.add(model.model_id)
    return leaving


def _upsert(
    session: Session,
    provider: str,
    known: dict[str, Model],
    read: _Read,
    *,
    kept: set[str],
    now: datetime,
) -> tuple[set[str], set[str]]:
    """Write what the list says of each model; the ids of new ones and of those that came back."""
    added, returned = set(), set()
    for listing in read.listings.values():
        model = known.get(listing.model_id)
        if model is None:
            model = _new_model(provider, listing)
            session.add(model)
            known[listing.model_id] = model
            model.active = not listing.is_expired(now.date())
            added.add(model.model_id)
        elif _comes_back(model, listing, now):
            model.active = True
            returned.add(model.model_id)
        if listing.model_id not in kept:
            model.expires_on = listing.expires_on
        _describe(model, listing, now)
    session.flush()
    return added, returned


def _with_prices(
    known: dict[str, Model], added: set[str], moved: Iterable[Found]
) -> Iterator[Found]:
    """New models, each with its first price in one; then the prices of those known before."""
    for model_id in added:
        yield Found(model_id, "added", price_id=known[model_id].price_id)
    for found in moved:
        if found.kind != "priced" or found.model_id not in added:
            yield found


def _comes_back(model: Model, listing: Listing, now: datetime) -> bool:
    """Whether an inactive model was retired by a sync whose reason is gone, not by an operator."""
    was_expired = model.expires_on is not None and model.expires_on <= now.date()
    was_absent = model.missed_syncs >= _MISSED_SYNCS_MAX
    return not model.active and not listing.is_expired(now.date()) and (was_expired or was_absent)


def _new_model(provider: str, listing: Listing) -> Model:
    answer_tokens = min(_ANSWER_TOKENS_DEFAULT, listing.output_tokens_max or _ANSWER_TOKENS_DEFAULT)
    return Model(
        model_id=listing.model_id,
        provider=provider,
        answer_tokens_default=answer_tokens,
        is_free=False,
        missed_syncs=0,
    )


def _describe(model: Model, listing: Listing, now: datetime) -> None:
    model.name, model.description = listing.name, listing.description
    model.context_tokens = listing.context_tokens
    model.output_tokens_max = listing.output_tokens_max
    model.input_modalities = list(listing.input_modalities)
    model.output_modalities = list(listing.output_modalities)
    model.supported_parameters = list(listing.supported_parameters)
    model.missed_syncs = 0
    model.synced_at = now


def _retire(models: Iterable[Model], read: _Read, retiring: set[str]) -> None:
    """Take `retiring` out of the offer, and count the absences of the rest."""
    for model in models:
        if not model.active:
            continue
        if model.model_id in read.mentioned:
            model.missed_syncs = 0
        elif model.model_id in retiring:
            model.missed_syncs = _MISSED_SYNCS_MAX
        else:
            model.missed_syncs = min(model.missed_syncs + 1, _MISSED_SYNCS_MAX - 1)
        if model.model_id in retiring:
            model.active = False


def _record(session: Session, report: SyncReport, found: Sequence[Found], now: datetime) -> None:
    counts = {"provider", "source", "seen", "added", "repriced", "held", "retired", "outcome"}
    values = {name: value for name, value in asdict(report).items() if name in counts}
    passes.record(session, CatalogSync(**values, synced_at=now), found)
    log.info("catalog.synced", **asdict(report))
