"""core/identity/limits.py"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, errors
from core.analytics import budgets
from core.identity import keys, limits
from core.identity.access import Actor, Principal, Role
from core.identity.limits import LimitName, Limits, LimitUse, State, Subject
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import colleague, cost_of, use
from tests.factories import TESTS, make_model, make_place
from tests.identity.cast import MAY_NOT, Cast, a_cast, asks, logged, refused
from tests.identity.people import SYSTEM, a_browser, a_tenant, audit_rows, change

pytestmark = pytest.mark.usefixtures("database")

ASK = Ask("api", "test", prompt_tokens_guess=100, max_tokens=1_000)
Act = Callable[[Session, Actor, UUID, Subject, UUID], object]
ACTS: dict[str, Act] = {
    "limit.set": lambda s, w, t, kind, i: limits.set_limit(
        s, w, t, kind, i, LimitName.MONTHLY_TOKENS, 5
    ),
    "limit.unset": lambda s, w, t, kind, i: limits.unset_limit(
        s, w, t, kind, i, LimitName.MONTHLY_TOKENS
    ),
    "overview": lambda s, w, t, kind, i: limits.overview(s, w, t),
}


@pytest.fixture(scope="module")
def cast(database: object) -> Cast:
    return a_cast(plan="enterprise")


@pytest.fixture
def member() -> Principal:
    return a_browser(a_tenant(plan="starter"), Role.ADMIN).principal


def _of(member: Principal, subject: Subject, subject_id: UUID) -> Limits:
    with db.transaction(member) as session:
        return limits.of(session, member.tenant_id, subject, subject_id)


def _set(
    member: Principal, subject: Subject, subject_id: UUID, name: LimitName, to: int | None
) -> None:
    with db.transaction(SYSTEM) as session:
        limits.set_limit(session, SYSTEM, member.tenant_id, subject, subject_id, name, to)


def test_the_plans_limits_apply(member: Principal) -> None:
    of_tenant = _of(member, Subject.TENANT, member.tenant_id)
    assert (of_tenant.monthly_messages, of_tenant.monthly_tokens) == (1_000, 1_000_000)
    assert (of_tenant.requests_per_minute, of_tenant.requests_per_hour) == (100, None)
    of_user = _of(member, Subject.USER, member.user_id)
    assert of_user == Limits(requests_per_minute=20, requests_per_hour=100)


def test_what_is_set_for_one_subject_wins_and_touches_no_other(member: Principal) -> None:
    colleague = a_browser(member.tenant_id).principal
    _set(member, Subject.USER, member.user_id, LimitName.REQUESTS_PER_MINUTE, 5)
    _set(member, Subject.USER, member.user_id, LimitName.REQUESTS_PER_HOUR, None)
    assert _of(member, Subject.USER, member.user_id) == Limits(requests_per_minute=5)
    assert _of(member, Subject.USER, colleague.user_id).requests_per_minute == 20


def test_zero_is_a_limit_and_none_is_none(member: Principal) -> None:
    _set(member, Subject.TENANT, member.tenant_id, LimitName.MONTHLY_NUSD, 0)
    assert _of(member, Subject.TENANT, member.tenant_id).monthly_nusd == 0
    _set(member, Subject.TENANT, member.tenant_id, LimitName.MONTHLY_NUSD, None)
    assert _of(member, Subject.TENANT, member.tenant_id).monthly_nusd is None


def test_an_unset_limit_is_the_plans_again(member: Principal) -> None:
    _set(member, Subject.USER, member.user_id, LimitName.REQUESTS_PER_MINUTE, 5)
    with db.transaction(SYSTEM) as session:
        limits.unset_limit(
            session, SYSTEM, member.tenant_id, Subject.USER, member.user_id,
            LimitName.REQUESTS_PER_MINUTE,
        )  # fmt: skip
    assert _of(member, Subject.USER, member.user_id).requests_per_minute == 20
    acts = [row[:2] for row in audit_rows(f"user:{member.user_id}") if row[0].startswith("limit")]
    assert acts == [("limit.set", "done"), ("limit.unset", "done")]


def test_what_was_not_set_cannot_be_unset(member: Principal) -> None:
    with pytest.raises(errors.NotFound), db.transaction(SYSTEM) as session:
        limits.unset_limit(
            session, SYSTEM, member.tenant_id, Subject.USER, member.user_id,
            LimitName.MONTHLY_TOKENS,
        )  # fmt: skip


def test_a_keys_budget_is_its_limit(member: Principal) -> None:
    with db.transaction(member) as session:
        issued = keys.issue(session, member, "ci", budget_nusd=7)
    assert _of(member, Subject.KEY, issued.key_id) == Limits(monthly_nusd=7)


@pytest.mark.parametrize("subject", list(Subject))
def test_a_foreign_subject_looks_like_a_missing_one(member: Principal, subject: Subject) -> None:
    stranger = a_browser(a_tenant("Other")).principal
    with db.transaction(stranger) as session:
        key = keys.issue(session, stranger, "ci").key_id
    foreign = {"tenant": stranger.tenant_id, "user": stranger.user_id, "key": key}[subject]
    messages = set()
    for subject_id in (foreign, uuid4()):
        with pytest.raises(errors.NotFound) as refusal:
            _of(member, subject, subject_id)
        messages.add(refusal.value.message)
        with pytest.raises(errors.NotFound):
            _set(member, subject, subject_id, LimitName.MONTHLY_NUSD, 1)
    assert len(messages) == 1


@pytest.mark.parametrize("maximum", [-1, 2**63])
def test_a_maximum_that_cannot_be_kept_is_refused(member: Principal, maximum: int) -> None:
    with pytest.raises(errors.BadInput):
        _set(member, Subject.USER, member.user_id, LimitName.MONTHLY_TOKENS, maximum)


@pytest.mark.parametrize("name", MAY_NOT)
@pytest.mark.parametrize("act", ACTS)
def test_only_admins_in_a_browser_touch_limits(cast: Cast, name: str, act: str) -> None:
    who, user_id = cast.named(name), cast.user_id
    before = len(logged(act, f"user:{user_id}"))
    refused(who, lambda s: ACTS[act](s, who, cast.tenant_id, Subject.USER, user_id))
    if act != "overview":
        denied = logged(act, f"user:{user_id}")[before:]
        assert denied == [("denied", cast.tenant_id, None, None)]
    assert _of(cast.admin, Subject.USER, user_id) == Limits()


@pytest.mark.parametrize("act", ["limit.set", "limit.unset"])
def test_the_tenants_own_limits_are_the_operators(cast: Cast, act: str) -> None:
    who, tenant_id = cast.admin, cast.tenant_id
    refused(who, lambda s: ACTS[act](s, who, tenant_id, Subject.TENANT, tenant_id))
    assert ("denied", tenant_id, None, None) in logged(act, f"tenant:{tenant_id}")
    with db.transaction(cast.operator) as session:
        ACTS["limit.set"](session, cast.operator, tenant_id, Subject.TENANT, tenant_id)
    assert _of(who, Subject.TENANT, tenant_id).monthly_tokens == 5
    with db.transaction(cast.operator) as session:
        ACTS["limit.unset"](session, cast.operator, tenant_id, Subject.TENANT, tenant_id)


@pytest.mark.parametrize("act", ACTS)
def test_another_tenants_admin_finds_neither_tenant_nor_person(cast: Cast, act: str) -> None:
    who, user_id = cast.stranger, cast.user_id
    _set(cast.admin, Subject.USER, user_id, LimitName.MONTHLY_TOKENS, 9)
    args = (cast.tenant_id, Subject.USER, user_id)
    refused(who, lambda s: ACTS[act](s, who, *args), errors.NotFound)
    if act != "overview":
        refused(
            who, lambda s: ACTS[act](s, who, who.tenant_id, Subject.USER, user_id), errors.NotFound
        )
    assert _of(cast.admin, Subject.USER, user_id).monthly_tokens == 9
    with db.transaction(cast.admin) as session:
        ACTS["limit.unset"](session, cast.admin, *args)


def test_the_web_role_sets_no_other_tenants_limits_and_no_tenants_at_all(cast: Cast) -> None:
    stranger, admin = cast.stranger, cast.admin
    ids = {"t": cast.tenant_id, "u": cast.user_id}
    put = "select code from verbs.set_limit(:t, :s, :u, 'monthly_tokens', 1)"
    unset = "select code from verbs.unset_limit(:t, :s, :u, 'monthly_tokens')"
    for statement in (put, unset):
        assert asks(stranger, statement, s="user", **ids) == "no_subject"
        assert asks(stranger, statement, s="user", t=stranger.tenant_id, u=ids["u"]) == "no_subject"
        for who in (stranger, admin):
            own = {"s": "tenant", "t": who.tenant_id, "u": who.tenant_id}
            assert asks(who, statement, **own) == "no_subject"
    assert asks(stranger, "select count(*) from verbs.uses_of(:t)", t=cast.tenant_id) == 0
    assert _of(admin, Subject.USER, cast.user_id) == Limits()
    assert _of(admin, Subject.TENANT, admin.tenant_id).monthly_tokens is None


def test_what_an_admin_sets_is_logged_with_what_was_there(member: Principal) -> None:
    with db.transaction(member) as session:
        key_id = keys.issue(session, member, "ci", budget_nusd=7).key_id
    args = (member.tenant_id, Subject.KEY, key_id, LimitName.MONTHLY_NUSD)
    with db.transaction(member) as session:
        limits.set_limit(session, member, *args, None)
        limits.set_limit(session, member, *args, 3)
        limits.unset_limit(session, member, *args)
    tenant = member.tenant_id
    assert logged("limit.set", f"key:{key_id}") == [
        ("done", tenant, {"monthly_nusd": 7}, {"monthly_nusd": None}),
        ("done", tenant, {"monthly_nusd": None}, {"monthly_nusd": 3}),
    ]
    assert logged("limit.unset", f"key:{key_id}") == [("done", tenant, {"monthly_nusd": 3}, None)]


def test_a_limit_an_admin_sets_holds_for_the_next_call() -> None:
    place, model = make_place(role="admin"), make_model()
    other = colleague(place)
    with db.transaction(place.who) as session:
        limits.set_limit(session, place.who, place.tenant_id, Subject.USER, other.user_id,
                         LimitName.MONTHLY_MESSAGES, 1)  # fmt: skip
    use(other, model)
    with pytest.raises(errors.QuotaReached) as refusal:
        use(other, model)
    assert (refusal.value.used, refusal.value.maximum) == ("1", "1")
    use(place.who, model)
    with db.transaction(place.who) as session:
        limits.set_limit(session, place.who, place.tenant_id, Subject.USER, other.user_id,
                         LimitName.MONTHLY_MESSAGES, 2)  # fmt: skip
    use(other, model)


def _overview(who: Actor, tenant_id: UUID) -> dict[tuple[UUID, LimitName], LimitUse]:
    with db.transaction(who) as session:
        found = limits.overview(session, who, tenant_id)
    return {(row.subject_id, row.name): row for row in found}


def test_the_overview_says_what_is_used_held_and_left_of_each_limit() -> None:
    place, model = make_place(role="admin", plan="pro"), make_model()
    with db.transaction(place.who) as session:
        issued = keys.issue(session, place.who, "ci", budget_nusd=1_000_000_000)
        gone = keys.issue(session, place.who, "gone")
        keys.revoke(session, place.who, gone.key_id)
    other = colleague(place)
    use(place.who, model, "0.25")
    done = gate.open_call(standing.of_key(issued.secret, model), ASK)
    gate.close(gate.settlement(done, cost_of("0.5"), outcome="ok", gave_output=True, latency_ms=1))
    running = gate.open_call(standing.of_key(issued.secret, model), ASK)
    found = _overview(place.who, place.tenant_id)
    assert found == _overview(a_cast().operator, place.tenant_id)
    assert {row.subject_id for row in found.values()} == {
        place.tenant_id, place.user_id, other.user_id, issued.key_id,
    }  # fmt: skip
    spent = {
        row.subject_id: (row.used, row.held) for row in found.values()
        if row.name is LimitName.MONTHLY_NUSD
    }  # fmt: skip
    held = running.hold_nusd
    assert spent == {
        place.tenant_id: (750_000_000, held), place.user_id: (750_000_000, held),
        issued.key_id: (500_000_000, held), other.user_id: (0, 0),
    }  # fmt: skip
    assert found[issued.key_id, LimitName.MONTHLY_MESSAGES].used == 2
    assert found[place.user_id, LimitName.REQUESTS_PER_MINUTE].used in (2, 3)  # a minute may turn
    of_key = found[issued.key_id, LimitName.MONTHLY_NUSD]
    assert (of_key.label, of_key.owner) == ("ci", place.who.email)
    assert (of_key.maximum, of_key.is_set) == (1_000_000_000, True)
    assert found[place.user_id, LimitName.REQUESTS_PER_MINUTE].maximum == 20
    assert not found[place.user_id, LimitName.REQUESTS_PER_MINUTE].is_set
    assert found[other.user_id, LimitName.REQUESTS_PER_MINUTE].resets_at is None


def test_the_overviews_maxima_are_those_the_gate_applies() -> None:
    place = make_place(role="admin", plan="starter")
    with db.transaction(place.who) as session:
        key_id = keys.issue(session, place.who, "ci", budget_nusd=7).key_id
    with db.transaction(TESTS) as session:
        for subject, subject_id in (
            (Subject.TENANT, place.tenant_id),
            (Subject.USER, place.user_id),
        ):
            limits.set_limit(session, TESTS, place.tenant_id, subject, subject_id,
                             LimitName.REQUESTS_PER_HOUR, None)  # fmt: skip
            limits.set_limit(session, TESTS, place.tenant_id, subject, subject_id,
                             LimitName.MONTHLY_TOKENS, 0)  # fmt: skip
        applied = session.execute(
            text("select verbs.limits_of(:t, :u, :k, 'starter')"),
            {"t": place.tenant_id, "u": place.user_id, "k": key_id},
        ).scalar_one()
    found = _overview(place.who, place.tenant_id)
    subjects = (place.user_id, key_id, place.tenant_id)
    assert applied == [found[i, name].maximum for i in subjects for name in LimitName]
    for subject, subject_id in zip(
        (Subject.USER, Subject.KEY, Subject.TENANT), subjects, strict=True
    ):
        said = _of(place.who, subject, subject_id)
        assert all(found[subject_id, n].maximum == getattr(said, n) for n in LimitName)


def test_a_month_resets_with_the_tenants_own_month_and_old_use_does_not_count() -> None:
    place, model = make_place(role="admin", time_zone="Pacific/Kiritimati"), make_model()
    use(place.who, model, "0.25")
    found = _overview(place.who, place.tenant_id)
    row = found[place.tenant_id, LimitName.MONTHLY_NUSD]
    assert row.resets_at is not None
    local = row.resets_at.astimezone(ZoneInfo("Pacific/Kiritimati"))
    assert (local.day, local.hour, local.minute) == (1, 0, 0)
    assert timedelta(0) < row.resets_at - datetime.now(UTC) <= timedelta(days=31)
    change(
        "update app.counters set period = period - interval '1 month' where tenant_id = :t",
        t=place.tenant_id,
    )
    after = _overview(place.who, place.tenant_id)
    assert after[place.tenant_id, LimitName.MONTHLY_NUSD].used == 0
    assert after[place.user_id, LimitName.REQUESTS_PER_HOUR].used == 1  # the hour goes on


def test_a_window_slides_out_as_the_gate_lets_it() -> None:
    place, model = make_place(role="admin"), make_model()
    use(place.who, model)
    key = (place.user_id, LimitName.REQUESTS_PER_HOUR)
    row = _overview(place.who, place.tenant_id)[key]
    assert row.resets_at is not None
    assert timedelta(hours=1) < row.resets_at - datetime.now(UTC) <= timedelta(hours=2)
    change("update app.counters set hour = hour - 1 where tenant_id = :t", t=place.tenant_id)
    row = _overview(place.who, place.tenant_id)[key]
    assert row.used == 1
    assert row.resets_at is not None
    assert row.resets_at - datetime.now(UTC) <= timedelta(hours=1)
    change("update app.counters set hour = hour - 1 where tenant_id = :t", t=place.tenant_id)
    row = _overview(place.who, place.tenant_id)[key]
    assert (row.used, row.resets_at) == (0, None)


@pytest.mark.parametrize(
    ("used", "held", "maximum", "state"),
    [(0, 0, None, State.FREE), (9**9, 0, None, State.FREE), (0, 0, 0, State.REACHED),
     (79, 0, 100, State.FREE), (80, 0, 100, State.NEAR), (70, 10, 100, State.NEAR),
     (99, 0, 100, State.NEAR), (100, 0, 100, State.REACHED), (60, 41, 100, State.REACHED)],
)  # fmt: skip
def test_a_limit_is_near_from_eighty_percent(
    used: int, held: int, maximum: int | None, state: State
) -> None:
    row = LimitUse(Subject.USER, uuid4(), "", "", LimitName.MONTHLY_TOKENS, maximum, False, used,
                   held, None)  # fmt: skip
    assert row.state is state


@pytest.mark.parametrize(
    ("used", "maximum", "percent", "is_passed"),
    [(443, 100, 443, True), (1_001, 1_000, 100, True), (100, 100, 100, False), (0, 0, 100, False),
     (999, 1_000, 99, False), (5, None, None, False)],
)  # fmt: skip
def test_a_limit_says_how_much_of_it_is_used_also_beyond_all(
    used: int, maximum: int | None, percent: int | None, is_passed: bool
) -> None:
    mine = LimitUse(Subject.USER, uuid4(), "", "", LimitName.MONTHLY_NUSD, maximum, False, used, 0,
                    None)  # fmt: skip
    theirs = budgets.LimitUse("user", LimitName.MONTHLY_NUSD, used, 0, maximum)
    for limit in (mine, theirs):
        assert (limit.percent, limit.is_passed) == (percent, is_passed)
