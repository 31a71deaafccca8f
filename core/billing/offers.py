"""What is for sale: packages and plans as operators set them, and the Stripe prices they are sold at.

Terms that were sold are never changed: each version of an offer is an offer_prices row of its own,
with a Stripe price of its own. Nothing here takes money.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from core import db, errors, jobs, telemetry
from core.billing import stripe_api
from core.billing.ledger import BILLING
from core.billing.sales_tables import OfferPrice, Package, PlanOffer
from core.billing.stripe_api import StripeRefused
from core.identity import audit, names
from core.identity.access import Actor, require_operator
from core.identity.tables import Plan
from core.jobs import Queue
from core.money import NANO_PER_USD

Kind: TypeAlias = Literal["package", "plan"]
MIRROR = "billing.mirror"
PRICE_MINOR_MIN, PRICE_MINOR_MAX = 50, 99_999_999  # what Stripe charges in USD at least and at most
_CREDITS_NUSD_MAX = 10_000_000 * NANO_PER_USD
_DAYS_MAX = 3650
_RANK_MAX = 1000
_TITLE_LENGTH_MAX, _BADGE_LENGTH_MAX = 80, 30
_FEATURES_MAX, _FEATURE_LENGTH_MAX = 10, 120
_PACKAGE_FACTS = (
    "title", "price_minor", "credits_nusd", "bonus_nusd", "expires_after_days",
    "bonus_expires_after_days", "badge", "features", "rank", "active",
)  # fmt: skip
_PLAN_FACTS = ("price_minor", "allowance_nusd", "grace_days", "badge", "features", "active")
_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PlanForSale:
    """A plan with what it costs a month and the credit it brings (cents, nano-USD)."""

    plan: str
    title: str
    rank: int
    price_minor: int
    currency: str
    allowance_nusd: int
    grace_days: int
    badge: str | None
    features: tuple[str, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class _Terms:
    """An offer as Stripe must know it."""

    kind: Kind
    code: str
    title: str
    price_minor: int
    credits_nusd: int

    def fit(self, price: OfferPrice) -> bool:
        return (price.price_minor, price.credits_nusd) == (self.price_minor, self.credits_nusd)


def packages(session: Session, *, every: bool = False) -> list[Package]:
    """The packages for sale by rank; `every`: also those that are not sold any more."""
    query = select(Package).order_by(Package.rank, Package.price_minor, Package.package_code)
    return list(session.scalars(query if every else query.where(Package.active)))


def package(session: Session, code: str) -> Package:
    """The package for sale under this code. Raises errors.NotFound."""
    found = session.get(Package, code)
    if found is None or not found.active:
        raise errors.NotFound("There is no such package for sale.", param="package")
    return found


def plans(session: Session, *, every: bool = False) -> list[PlanForSale]:
    """The plans for sale by rank, the free one too; `every`: also those not sold any more."""
    query = select(Plan, PlanOffer).join(PlanOffer, PlanOffer.plan == Plan.plan)
    rows = session.execute((query if every else query.where(PlanOffer.active)).order_by(Plan.rank))
    return [_for_sale(named, offer) for named, offer in rows]


def plan(session: Session, plan: str) -> PlanForSale:
    """The plan for sale under this name. Raises errors.NotFound."""
    named, offer = session.get(Plan, plan), session.get(PlanOffer, plan)
    if named is None or offer is None or not offer.active:
        raise errors.NotFound("There is no such plan for sale.", param="plan")
    return _for_sale(named, offer)


def value_per_usd(package: Package) -> Decimal:
    """USD of credit, bonus included, that one USD of the package's price buys (exact)."""
    credit = Decimal(package.credits_nusd + package.bonus_nusd) / NANO_PER_USD
    return credit / (Decimal(package.price_minor) / 100)


def price_for(session: Session, kind: str, code: str) -> OfferPrice | None:
    """The Stripe price new buyers of an offer get; None until it was mirrored."""
    return session.scalar(
        select(OfferPrice).where(
            OfferPrice.kind == kind, OfferPrice.code == code, OfferPrice.current
        )
    )


def of_price(session: Session, price_id: str) -> OfferPrice | None:
    """The terms that were sold under a Stripe price; None for a price that is not ours."""
    return session.get(OfferPrice, price_id)


def set_package(
    session: Session,
    who: Actor,
    code: str,
    *,
    title: str,
    price_minor: int,
    credits_nusd: int,
    bonus_nusd: int = 0,
    expires_after_days: int | None = None,
    bonus_expires_after_days: int | None = None,
    badge: str | None = None,
    features: Sequence[str] = (),
    rank: int = 0,
    active: bool = True,
) -> Package:
    """Make a package or replace its terms, for those who buy from now on. Raises errors.BadInput."""
    require_operator(who)
    if not _CODE.fullmatch(code):
        raise errors.BadInput("The code has small letters, digits and _ only.", param="code")
    _check(price_minor, "price", PRICE_MINOR_MIN, PRICE_MINOR_MAX)
    _check(credits_nusd, "credits", 1, _CREDITS_NUSD_MAX)
    _check(bonus_nusd, "bonus", 0, _CREDITS_NUSD_MAX)
    _check(rank, "rank", 0, _RANK_MAX)
    for days, param in ((expires_after_days, "expiry"), (bonus_expires_after_days, "bonus expiry")):
        if days is not None:
            _check(days, param, 1, _DAYS_MAX)
    row = session.get(Package, code, with_for_update=True, populate_existing=True)
    before = _package_facts(row)
    row = row or Package(package_code=code)
    row.title = names.name(title, "title", length_max=_TITLE_LENGTH_MAX)
    row.price_minor, row.credits_nusd, row.bonus_nusd = price_minor, credits_nusd, bonus_nusd
    row.expires_after_days = expires_after_days
    row.bonus_expires_after_days = bonus_expires_after_days
    row.badge, row.features, row.rank, row.active = _badge(badge), _lines(features), rank, active
    session.add(row)
    _changed(session, who, f"package:{code}", before, _package_facts(row))
    return row


def set_plan_offer(
    session: Session,
    who: Actor,
    plan: str,
    *,
    price_minor: int,
    allowance_nusd: int,
    grace_days: int = 3,
    badge: str | None = None,
    features: Sequence[str] = (),
    active: bool = True,
) -> PlanForSale:
    """Set what a plan costs and brings, for those who subscribe from now on.

    Raises errors.NotFound for a plan that is not known, errors.BadInput.
    """
    require_operator(who)
    named = session.get(Plan, plan)
    if named is None:
        raise errors.NotFound("There is no such plan.", param="plan")
    if price_minor:
        _check(price_minor, "price", PRICE_MINOR_MIN, PRICE_MINOR_MAX)
    elif allowance_nusd:
        raise errors.BadInput("A plan that costs nothing brings no credit.", param="allowance")
    _check(allowance_nusd, "allowance", 0, _CREDITS_NUSD_MAX)
    _check(grace_days, "grace days", 0, 365)
    row = session.get(PlanOffer, plan, with_for_update=True, populate_existing=True)
    before = _plan_facts(row)
    row = row or PlanOffer(plan=plan, currency="usd")
    row.price_minor, row.allowance_nusd, row.grace_days = price_minor, allowance_nusd, grace_days
    row.badge, row.features, row.active = _badge(badge), _lines(features), active
    session.add(row)
    _changed(session, who, f"plan:{plan}", before, _plan_facts(row))
    return _for_sale(named, row)


@jobs.task(MIRROR, Queue.MONEY)
def mirror() -> None:
    """Make Stripe know a price for every offer with the terms of today; opens its own transactions.

    Nothing to do where Stripe is not set up. Raises stripe_api.StripeDown (the job comes again).
    """
    if not stripe_api.configured():
        return
    with db.transaction(BILLING) as session:
        missing = [terms for terms in _for_stripe(session) if _fitting(session, terms) is None]
    for terms in missing:
        _mirror(terms)


def sellable(kind: Kind, code: str) -> OfferPrice:
    """The price of an offer's terms of today, made in Stripe if need be (own transactions).

    Raises errors.NotFound, errors.Unavailable.
    """
    with db.transaction(BILLING) as session:
        terms = _terms_of(session, kind, code)
        price = _fitting(session, terms)
    try:
        return price or _mirror(terms)
    except StripeRefused as refused:
        telemetry.alarm("price_refused", code=refused.code)
        raise errors.Unavailable("This cannot be sold right now. Please try later.") from None


def fitting(session: Session, kind: Kind, code: str) -> OfferPrice | None:
    """The current price, if it is of the offer's terms of this moment. Raises errors.NotFound."""
    return _fitting(session, _terms_of(session, kind, code))


def forget(price_id: str) -> None:
    """Stripe does not know this price (any more): the next buyer's is made anew (own transaction)."""
    with db.transaction(BILLING) as session:
        gone = update(OfferPrice).where(OfferPrice.price_id == price_id)
        session.execute(gone.values(current=False))


def _mirror(terms: _Terms) -> OfferPrice:
    """Two tries: an unchanged amount keeps its price in Stripe, which was sold with other credit."""
    for again in (False, True):
        made = stripe_api.current().mirror_price(
            kind=terms.kind, code=terms.code, title=terms.title, price_minor=terms.price_minor,
            monthly=terms.kind == "plan", again=again,
        )  # fmt: skip
        with db.transaction(BILLING) as session:
            if row := _record(session, terms, made.price_id, made.product_id):
                return row
    raise errors.Unavailable("This cannot be sold right now. Please try again.", retry_after_s=5)


def _record(session: Session, terms: _Terms, price_id: str, product_id: str) -> OfferPrice | None:
    """Make the price the current one; None when it was sold with other credit before."""
    session.execute(text("select pg_advisory_xact_lock(hashtext('billing.offers'))"))
    row = session.get(OfferPrice, price_id, populate_existing=True)
    if row is not None and not (terms.fit(row) and (row.kind, row.code) == _key(terms)):
        return None
    older = update(OfferPrice).where(
        OfferPrice.kind == terms.kind, OfferPrice.code == terms.code,
        OfferPrice.price_id != price_id, OfferPrice.current,
    )  # fmt: skip
    session.execute(older.values(current=False))
    row = row or OfferPrice(
        price_id=price_id, kind=terms.kind, code=terms.code, product_id=product_id,
        price_minor=terms.price_minor, credits_nusd=terms.credits_nusd,
    )  # fmt: skip
    row.current = True
    session.add(row)
    session.flush()
    return row


def _key(terms: _Terms) -> tuple[str, str]:
    return (terms.kind, terms.code)


def _fitting(session: Session, terms: _Terms) -> OfferPrice | None:
    price = price_for(session, terms.kind, terms.code)
    return price if price is not None and terms.fit(price) else None


def _for_stripe(session: Session) -> list[_Terms]:
    """Everything that somebody may pay for."""
    return [_package_terms(row) for row in packages(session)] + [
        _plan_terms(row) for row in plans(session) if row.price_minor
    ]


def _terms_of(session: Session, kind: Kind, code: str) -> _Terms:
    if kind == "package":
        return _package_terms(package(session, code))
    return _plan_terms(plan(session, code))


def _package_terms(row: Package) -> _Terms:
    title = f"{row.title}: credit"
    return _Terms("package", row.package_code, title, row.price_minor, row.credits_nusd)


def _plan_terms(row: PlanForSale) -> _Terms:
    return _Terms("plan", row.plan, f"{row.title} plan", row.price_minor, row.allowance_nusd)


def _for_sale(named: Plan, offer: PlanOffer) -> PlanForSale:
    return PlanForSale(
        named.plan, named.title, named.rank, offer.price_minor, offer.currency,
        offer.allowance_nusd, offer.grace_days, offer.badge, tuple(offer.features), offer.active,
    )  # fmt: skip


def _changed(
    session: Session, who: Actor, offer: str, before: audit.Facts | None, after: audit.Facts | None
) -> None:
    session.flush()
    audit.record(session, who, "offer.set", offer, before=before, after=after)
    jobs.defer(session, MIRROR)


def _package_facts(row: Package | None) -> audit.Facts | None:
    return None if row is None else {name: getattr(row, name) for name in _PACKAGE_FACTS}


def _plan_facts(row: PlanOffer | None) -> audit.Facts | None:
    return None if row is None else {name: getattr(row, name) for name in _PLAN_FACTS}


def _check(value: int, param: str, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise errors.BadInput(f"The {param} must be from {least} to {most}.", param=param)


def _badge(badge: str | None) -> str | None:
    return names.name(badge, "badge", length_max=_BADGE_LENGTH_MAX) if badge else None


def _lines(features: Sequence[str]) -> list[str]:
    if len(features) > _FEATURES_MAX:
        raise errors.BadInput(f"At most {_FEATURES_MAX} features are shown.", param="features")
    return [names.name(line, "feature", length_max=_FEATURE_LENGTH_MAX) for line in features]
