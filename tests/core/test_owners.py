"""Every function of core that takes an id, called by a colleague and by a stranger: they learn and change
no more than with an id that does not exist. Found by their signatures, so a new one is walked too."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from types import ModuleType
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

import core
from core import db, errors
from core.alerts import notices
from core.billing.sales_tables import Order
from core.chat import turns
from core.chat.turns import Live
from core.db import Database, new_id
from core.finance import exports
from core.finance.checks import Code
from core.finance.files.writing import Progress
from core.identity import invites, keys
from core.identity.access import Principal, Role, SignedIn
from core.identity.limits import LimitName, Subject
from core.periods import month_of
from tests.chat.conftest import EngineThread
from tests.factories import TESTS, make_model, make_place
from tests.identity.people import a_browser
from tests.upstream import Upstream

# Of a whole tenant: whoever has one of these roles in it may, also with what a colleague made.
ADMIN, BOOKS = {Role.ADMIN}, {Role.ADMIN, Role.FINANCE}
TENANT_WIDE: dict[str, set[Role]] = {
    "billing.checkout.pages.cancel": BOOKS,
    "billing.topups.pay_now": BOOKS,
    "finance.exports.find": BOOKS,
    "finance.exports.look": BOOKS,
    "finance.exports.download": BOOKS,
    "finance.exports.columns": BOOKS,
    "finance.months.files": BOOKS,
    "identity.cost_centres.assign": ADMIN,
    "identity.cost_centres.of_subject": ADMIN,
    "identity.invites.reissue": ADMIN,
    "identity.invites.revoke": ADMIN,
    "identity.keys.revoke": ADMIN,
    "identity.limits.set_limit": ADMIN,
    "identity.limits.unset_limit": ADMIN,
    "identity.members.change": ADMIN,
    "identity.members.sign_out": ADMIN,
}


class _Enough(Exception):
    """A follower that got a foreign answer would follow it for long."""


def _stop_soon() -> None:
    raise _Enough


_MONTH = month_of(date(2026, 1, 1))
_GIVEN: dict[str, object] = {
    "amount_nusd": 10**9, "amount_minor": 100, "key": "tests", "reason": "for a test",
    "mode": "prepaid", "credit_limit_nusd": 0, "grant": True, "note": "for a test", "limit": 10,
    "model_id": "test/none", "title": "Taken over", "text": "Hello?", "lines": (), "bills": False,
    "offered": frozenset({"openrouter"}), "period": _MONTH, "month": _MONTH.first,
    "kind": "statement", "format_name": "csv", "rows": 1, "sha256": "0" * 64, "action": "tests",
    "object": "tests:1", "cost_center": "Taken over", "project": None, "maximum": 1, "markup": 0,
    "active": False, "before": {}, "after": {}, "plan": "pro", "password_hash": "x",
    "time_zone": "UTC", "payment_intent_id": "pi_none", "email": "nobody@example.com",
    "tick": _stop_soon, "confirmed": True,
}  # fmt: skip
_GIVEN_OF: dict[object, Callable[[], object]] = {
    Role: lambda: Role.MEMBER, Subject: lambda: Subject.USER, Code: lambda: Code.ENDED,
    LimitName: lambda: LimitName.MONTHLY_TOKENS, Progress: Progress, str: lambda: "Taken over",
}  # fmt: skip


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(core.__path__, "core."):
        if not found.name.endswith(("__main__", "postgres_keeper")):
            yield importlib.import_module(found.name)


def _names(of: object, wanted: tuple[object, ...]) -> bool:
    return of in wanted or any(_names(part, wanted) for part in typing.get_args(of))


def _is_object(name: str, of: object) -> bool:
    """Whether a parameter names an object: an id, or a small record of ids."""
    if name.endswith("_id") and _names(of, (UUID,)):
        return True
    return of is Live


@dataclass(frozen=True)
class Verb:
    """A public function of core, who asks in it, and the objects it is told of."""

    function: Callable[..., object]
    types: Mapping[str, object]
    asker: str
    objects: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.function.__module__.removeprefix('core.')}.{self.function.__name__}"


@cache
def verbs() -> tuple[Verb, ...]:
    found = []
    for module in _modules():
        for name, function in vars(module).items():
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            if function.__module__ != module.__name__:
                continue
            types = typing.get_type_hints(function)
            types.pop("return", None)
            askers = [n for n, of in types.items() if _names(of, (Principal, SignedIn))]
            objects = [n for n, of in types.items() if n not in askers and _is_object(n, of)]
            if askers and objects:
                found.append(Verb(function, types, askers[0], tuple(objects)))
    return tuple(found)


@dataclass(frozen=True)
class World:
    """What one admin has in their tenant, and others who would like to have it."""

    owner: SignedIn
    planted: Mapping[str, object]
    callers: Mapping[str, SignedIn]

    def missing(self) -> dict[str, object]:
        """The same objects, but none of them exists."""
        return {name: _missing(value) for name, value in self.planted.items()}


def _missing(value: object) -> object:
    if isinstance(value, UUID):
        return new_id()
    assert isinstance(value, Live)
    return Live(new_id(), new_id(), new_id(), new_id())


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as served:
        yield served


@pytest.fixture(scope="module")
def world(database: Database, upstream: Upstream) -> Iterator[World]:
    thread = EngineThread(upstream.url)
    place = make_place(role="admin")
    upstream.play_until("01_normal_usage_cost.txt", 3, "silence")
    owner = SignedIn(principal=place.who, operator=None, session_id=uuid4())
    live = turns.start(
        place.who, "Hello?", model_id=make_model(), offered=frozenset({"openrouter"})
    )
    planted = _plant(place.who, live)
    team = {f"colleague, {role}": a_browser(place.tenant_id, role).signed_in for role in Role}
    stranger = a_browser(make_place().tenant_id, Role.ADMIN).signed_in
    yield World(owner, planted, team | {"stranger": stranger})
    turns.stop(place.who, live)
    thread.close()


def _plant(who: Principal, live: Live) -> dict[str, object]:
    with db.transaction(TESTS) as session:
        notices.post(
            session, who.tenant_id, kind="conversation.dear", key="tests", audience="user",
            user_id=who.user_id, facts={"billed_nusd": 1, "user_id": str(who.user_id)},
        )  # fmt: skip
        order = Order(
            tenant_id=who.tenant_id, click_key="tests", kind="package", code="pro", title="Pro",
            price_minor=100, credits_nusd=10**9, ordered_by=who.user_id,
        )  # fmt: skip
        session.add(order)
        session.flush()
        order_id = order.order_id
    with db.transaction(who) as session:
        asked = exports.ask(session, who, "statement", "csv", _MONTH, tenant_id=None)
        return {
            "tenant_id": who.tenant_id, "user_id": who.user_id, "subject_id": who.user_id,
            "conversation_id": live.conversation_id, "message_id": live.answer_id,
            "answer_id": live.answer_id, "question_id": live.answer_id, "live": live,
            "notice_id": notices.inbox(session, who)[0].notice_id, "order_id": order_id,
            "key_id": keys.issue(session, who, "mine").key_id,
            "export_id": asked.export_id, "request_id": new_id(),
            "closing_id": new_id(), "session_id": a_session_of(who),
            "invite_id": invites.invite(
                session, who, who.tenant_id, "new@example.com", Role.MEMBER
            ).invite_id,
        }  # fmt: skip


def a_session_of(who: Principal) -> UUID:
    session_id = new_id()
    with db.transaction(TESTS) as session:
        session.execute(
            text(
                "insert into app.sessions(session_id, token_hash, user_id, door, expires_at)"
                " values (:id, :hash, :user, 'password', now() + interval '1 h')"
            ),
            {"id": session_id, "hash": session_id.bytes, "user": who.user_id},
        )
    return session_id


_STATE = """
select md5(string_agg(t.line, '|' order by t.line)) from (
  select c.title || coalesce(c.deleted_at::text, '-') || c.user_id || coalesce(c.leaf_id::text, '-')
      as line from app.conversations c where tenant_id = :tenant
  union all select m.message_id::text from app.messages m where tenant_id = :tenant
  union all select t.turn_id || t.status from app.turns t where tenant_id = :tenant
  union all select c.call_id || c.state || coalesce(c.stop_requested_at::text, '-')
    from app.calls c where tenant_id = :tenant
  union all select k.key_id || coalesce(k.revoked_at::text, '-') from app.api_keys k
    where tenant_id = :tenant
  union all select r::text from app.notice_reads r where tenant_id = :tenant
  union all select o.order_id || o.state from app.orders o where tenant_id = :tenant
  union all select i::text from app.invites i where i.of_tenant = :tenant
  union all select e.export_id::text from app.exports e where tenant_id = :tenant
  union all select l::text from app.limit_overrides l where tenant_id = :tenant
  union all select p.user_id || p.role || p.status || coalesce(p.cost_center, '-')
    from app.memberships p where tenant_id = :tenant
  union all select t::text from app.tenants t where tenant_id = :tenant
  union all select s.session_id || coalesce(s.revoked_at::text, '-') from app.sessions s
    where s.user_id = :user) t
"""


def state_of(owner: SignedIn) -> object:
    """Everything the owner and their tenant have, as one hash."""
    with db.transaction(TESTS) as session:
        return session.execute(
            text(_STATE), {"tenant": owner.in_tenant.tenant_id, "user": owner.user_id}
        ).scalar_one()


def outcome(
    verb: Verb, caller: SignedIn, ids: Mapping[str, object], world_ids: Mapping[str, object]
) -> str:
    """What came of a call, with the ids it was told taken out."""
    try:
        with db.transaction(caller.in_tenant) as session:
            given = {name: _value(verb, name, caller, session, ids) for name in verb.types}
            asked = {n: v for n, v in given.items() if v is not inspect.Parameter.empty}
            found = verb.function(**asked)
            said = repr([*found] if isinstance(found, Iterator) else found)
    except errors.Refusal as refusal:
        said = f"{type(refusal).__name__} {refusal.code} {refusal.param}: {refusal.message}"
    except (_Enough, ValueError, KeyError) as error:
        said = f"{type(error).__name__}: {error}"
    for name, value in [*ids.items(), *world_ids.items()]:
        said = said.replace(repr(value), f"<{name}>").replace(str(value), f"<{name}>")
    return said


def _value(
    verb: Verb, name: str, caller: SignedIn, session: Session, ids: Mapping[str, object]
) -> object:
    of = verb.types[name]
    if name == verb.asker:
        return caller if _names(of, (SignedIn,)) else caller.in_tenant
    if _names(of, (Session,)):
        return session
    if name in verb.objects:
        return ids[name]
    is_optional = inspect.signature(verb.function).parameters[name].default is not (
        inspect.Parameter.empty
    )
    if is_optional and name != "tick":
        return inspect.Parameter.empty
    if of in _GIVEN_OF and name not in _GIVEN:
        return _GIVEN_OF[of]()
    assert name in _GIVEN or of is UUID, f"say how to call {verb.name}: {name}"
    return _GIVEN.get(name)


@pytest.mark.parametrize("verb", verbs(), ids=lambda verb: verb.name)
def test_somebody_elses_object_is_like_a_missing_one(verb: Verb, world: World) -> None:
    for name, caller in world.callers.items():
        is_colleague = name != "stranger"
        if is_colleague and caller.in_tenant.role in TENANT_WIDE.get(verb.name, set()):
            continue
        if is_colleague and verb.objects == ("tenant_id",):
            continue  # their own tenant, and nobody's object in it: the role decides
        missing = world.missing()
        if is_colleague:  # their own tenant is nobody else's; what is in it may be
            missing["tenant_id"] = world.planted["tenant_id"]
        before = state_of(world.owner)
        foreign = outcome(verb, caller, world.planted, world.planted)
        assert foreign == outcome(verb, caller, missing, world.planted), name
        assert state_of(world.owner) == before, name


def test_the_owner_is_told_apart(world: World) -> None:
    """The walk would be worth nothing if everybody was refused: the owner has what was planted."""
    found = {verb.name: outcome(verb, world.owner, world.planted, world.planted) for verb in verbs()
             if verb.name in {"chat.conversations.find", "chat.turns.running", "chat.turns.follow",
                              "finance.exports.find"}}  # fmt: skip
    assert "NotFound" not in str(found)
    assert found["chat.turns.running"].startswith(("Live(", "<live>"))
    assert found["chat.turns.follow"].startswith("_Enough")
    assert len(found) == 4


def test_what_is_listed_as_tenant_wide_exists() -> None:
    assert set(TENANT_WIDE) <= {verb.name for verb in verbs()}


def test_an_answer_named_with_ones_own_conversation_stays_its_owners(world: World) -> None:
    """Each id of a record is checked, not the first that is one's own."""
    live = world.planted["live"]
    assert isinstance(live, Live)
    colleague = world.callers["colleague, member"].in_tenant
    with db.transaction(TESTS) as session:
        own = new_id()
        session.execute(
            text(
                "insert into app.conversations(tenant_id, conversation_id, user_id, title)"
                " values (:tenant, :id, :user, 'Mine')"
            ),
            {"tenant": colleague.tenant_id, "id": own, "user": colleague.user_id},
        )
    before = state_of(world.owner)
    mixed = replace(live, conversation_id=own)
    assert list(turns.follow(colleague, mixed, tick=_stop_soon)) == []
    turns.stop(colleague, mixed)
    assert state_of(world.owner) == before
