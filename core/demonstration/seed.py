"""Makes the demo tenants: people who can sign in, ninety days of usage, and a few conversations.

For development only, and once: where the demo person exists, nothing is done. What it writes obeys
every invariant, as if the calls had been made.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import errors
from core.billing import accounts
from core.catalog import sync
from core.catalog.tables import Model, Price, Provider
from core.catalog.terms import read_terms
from core.catalog.tokens import guess_tokens
from core.db import System
from core.demonstration import books, history, records, script
from core.demonstration.books import Row
from core.demonstration.history import Caller, Done, Offer
from core.demonstration.script import Place, Talk
from core.identity import keys, members, passwords, tenants
from core.identity.tables import Membership, Tenant, User
from core.metering import partitions, rollups
from core.money import NANO_PER_USD
from core.settings import Settings

WHO = System("demo data")
_ONE_SEED = 7_020  # key of the advisory lock
_SYSTEM_PROMPT_TOKENS = 40

# The verbs date what they make by the clock; the demo tenants were there before their usage.
_BACKDATE = (
    "update app.tenants set created_at = :at where tenant_id = :tenant",
    "update app.memberships set created_at = :at where tenant_id = :tenant",
    "update app.api_keys set created_at = :at where tenant_id = :tenant",
)


def seed(session: Session, settings: Settings, now: datetime) -> bool:
    """Make the demo data and the catalogue it needs; False when it is there already.

    Raises errors.Forbidden in production.
    """
    if not settings.development:
        raise errors.Forbidden("Demo data is for development only (APP_ENV=development).")
    session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ONE_SEED})
    if session.scalar(select(User.user_id).where(User.email == script.DEMO_EMAIL)):
        return False
    sync.seed(session, development=True, now=now)
    since = history.first_day(now, "UTC") - timedelta(days=2)
    partitions.ensure(session, since, now.date())
    partitions.ensure_ahead(session)
    password_hash = passwords.hash_password(script.PASSWORD)
    _make_operator(session, password_hash)
    offers = _offers(session)
    for number, place in enumerate(script.places()):
        talks = script.talks() if number == 0 else ()
        _make_place(session, place, talks, offers, password_hash, now)
    return True


def _make_operator(session: Session, password_hash: str) -> None:
    operator = tenants.create_user(
        session, WHO, script.OPERATOR_EMAIL, name="Olga Operator", password_hash=password_hash
    )
    tenants.make_operator(session, WHO, operator, confirmed=False)


def _make_place(
    session: Session, place: Place, talks: Sequence[Talk], offers: Mapping[str, Offer],
    password_hash: str, now: datetime,
) -> None:  # fmt: skip
    tenant_id = accounts.open_tenant(
        session, WHO, place.name, plan=place.plan, mode=place.mode, time_zone=place.time_zone,
        markup=place.markup, credits_nusd=0,
        credit_limit_nusd=place.credit_limit_usd * NANO_PER_USD,
    )  # fmt: skip
    callers = [_make_person(session, tenant_id, person, password_hash) for person in place.people]
    key_id = None
    if place.api_key:
        key_id = keys.issue(
            session, WHO, place.api_key, tenant_id=tenant_id, user_id=callers[0].user_id
        ).key_id
    done = history.of_place(place, callers, key_id, offers, script.habits(), now)
    told = [_tell(talk, place, callers[0], offers, now) for talk in talks]
    done += [call for _, calls in told for call in calls]
    done.sort(key=lambda call: call.opened_at)
    records.write(session, place.time_zone, done, books.keep(place, tenant_id, done))
    for talk, calls in told:
        _write_talk(session, talk, calls)
    rollups.rebuild(session, tenant_id)
    for statement in _BACKDATE:
        at = datetime.combine(history.first_day(now, "UTC"), time(), UTC) - timedelta(days=2)
        session.execute(text(statement), {"at": at, "tenant": tenant_id})


def _make_person(
    session: Session, tenant_id: UUID, person: script.Person, password_hash: str
) -> Caller:
    user_id = tenants.create_user(
        session, WHO, person.email, name=person.name, password_hash=password_hash
    )
    members.add(
        session, WHO, tenant_id, user_id, person.role, confirmed=False,
        cost_center=person.cost_center,
    )  # fmt: skip
    labels = session.execute(
        select(Tenant.label_id, Membership.label_id.label("user_label_id"))
        .join(Membership, Membership.tenant_id == Tenant.tenant_id)
        .where(Tenant.tenant_id == tenant_id, Membership.user_id == user_id)
    ).one()
    return Caller(
        tenant_id, labels.label_id, user_id, labels.user_label_id, person.cost_center, person.email,
        person.weight,
    )  # fmt: skip


def _offers(session: Session) -> dict[str, Offer]:
    """The models of the demo data that have a price, by id."""
    wanted = {habit.model_id for habit in script.habits()} | {t.model_id for t in script.talks()}
    rows = session.execute(
        select(
            Model.model_id, Model.provider, Provider.keeps_generations, Price.price_id, Price.terms
        )
        .join(Price, Price.price_id == Model.price_id)
        .join(Provider, Provider.provider == Model.provider)
        .where(Model.model_id.in_(wanted))
    )
    return {
        row.model_id: Offer(
            row.model_id, row.provider, row.keeps_generations, row.price_id, read_terms(row.terms)
        )
        for row in rows
    }


def _tell(
    talk: Talk, place: Place, caller: Caller, offers: Mapping[str, Offer], now: datetime
) -> tuple[Talk, list[Done]]:
    """The calls of a conversation: each reads all that was said before it."""
    rng = random.Random(f"talk:{talk.title}")  # noqa: S311 - the same talk every time
    offer = offers.get(talk.model_id) or next(iter(offers.values()))
    at = now - timedelta(days=talk.days_ago, minutes=rng.randint(0, 180))
    conversation_id = history.made_id(rng, at)
    calls, read_tokens = [], _SYSTEM_PROMPT_TOKENS
    for exchange in talk.exchanges:
        read_tokens += guess_tokens(exchange.question)
        written = guess_tokens(exchange.answer)
        usage = history.tokens(read_tokens, written)
        calls.append(history.answered(rng, caller, offer, place.markup, at, usage, conversation_id))
        read_tokens += written
        at = calls[-1].settled_at + timedelta(seconds=rng.randint(40, 200))
    return talk, calls


def _write_talk(session: Session, talk: Talk, calls: Sequence[Done]) -> None:
    """The conversation of these calls: a question and an answer each, one after the other."""
    rng = random.Random(f"messages:{talk.title}")  # noqa: S311 - the same ids every time
    first, last = calls[0], calls[-1]
    messages: list[Row] = []
    turns: list[Row] = []
    for exchange, call in zip(talk.exchanges, calls, strict=True):
        where = {
            "tenant_id": call.caller.tenant_id, "conversation_id": call.conversation_id,
            "turn_id": history.made_id(rng, call.opened_at),
        }  # fmt: skip
        question_id = history.made_id(rng, call.opened_at)
        answer_id = history.made_id(rng, call.opened_at + timedelta(milliseconds=1))
        shared = {**where, "status": "complete", "reasoning": "", "left_out": 0}
        messages += [
            {**shared, "message_id": question_id, "role": "user", "content": exchange.question,
             "parent_id": messages[-1]["message_id"] if messages else None, "model_id": None,
             "created_at": call.opened_at},
            {**shared, "message_id": answer_id, "role": "assistant", "content": exchange.answer,
             "parent_id": question_id, "model_id": call.offer.model_id,
             "created_at": call.opened_at},
        ]  # fmt: skip
        turns.append(
            {**where, "call_id": call.call_id, "question_id": question_id, "answer_id": answer_id,
             "status": "complete", "started_at": call.opened_at, "ended_at": call.settled_at}
        )  # fmt: skip
    conversation = {
        "tenant_id": first.caller.tenant_id, "conversation_id": first.conversation_id,
        "user_id": first.caller.user_id, "title": talk.title, "model_id": first.offer.model_id,
        "leaf_id": messages[-1]["message_id"], "created_at": first.opened_at,
        "updated_at": last.settled_at,
    }  # fmt: skip
    records.insert(session, "conversations", [conversation])
    records.insert(session, "messages", messages)
    records.insert(session, "turns", turns)
