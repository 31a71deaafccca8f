"""The bell in the sidebar: what each role is told, in which words, with which way on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.alerts import notices, rules
from core.identity import keys, limits, tenants, zones
from core.identity.access import Operator, Principal, Role
from core.identity.limits import LimitName, Subject
from core.money import NANO_PER_USD
from pages.widgets import inbox
from tests.analytics.using import use
from tests.factories import make_model
from tests.identity.people import SYSTEM
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Make = Callable[..., Person]
Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    inbox.forget()


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


def _tell(tenant_id: UUID, kind: str, facts: dict[str, object], **more: Any) -> None:
    with db.transaction(SYSTEM) as session:
        assert notices.post(
            session, tenant_id, kind=kind, key=uuid4().hex, facts=facts,
            **{"audience": "admins", **more},
        )  # fmt: skip


def _dear(tenant_id: UUID, user_id: UUID, usd: int = 12) -> None:
    facts: dict[str, object] = {
        "conversation_id": str(uuid4()), "user_id": str(user_id), "model": "x",
        "billed_nusd": usd * NANO_PER_USD,
    }  # fmt: skip
    _tell(tenant_id, "conversation.dear", facts)


def _export(tenant_id: UUID, user_id: UUID) -> None:
    facts: dict[str, object] = {
        "export_id": str(uuid4()), "kind": "daily", "format": "xlsx", "first_day": "2026-10-01",
        "last_day": "2026-10-31",
    }  # fmt: skip
    _tell(tenant_id, "export.ready", facts, audience="user", user_id=user_id)


def _opened(open_page: Open, who: Person, page: str = "account.py") -> AppTest:
    """A page with the bell open."""
    app = open_page(who, page)
    assert not app.exception
    app.session_state["inbox"] = True
    return app.run()


def _said(app: AppTest) -> list[str]:
    """The notices that are shown."""
    return [
        line.value for line in app.sidebar.markdown
        if any(word in line.value for word in ("has cost", "used", "ready", "says"))
    ]  # fmt: skip


def _ways(app: AppTest) -> list[tuple[str, dict[str, list[str]]]]:
    """Where the notices lead: the page and what its address says."""
    found = [urlsplit(link.proto.url) for link in app.get("link_button")]
    return [(to.path, parse_qs(to.query)) for to in found]


def _bells(app: AppTest) -> list[str]:
    return [
        found.proto.popover.label for found in app.sidebar.get("popover")
        if "notifications" in found.proto.popover.icon
    ]  # fmt: skip


def _waiting(who: Principal | Operator) -> int:
    with db.transaction(who) as session:
        return notices.unread(session, who)


def test_no_bell_where_nothing_waits(person: Make, open_page: Open) -> None:
    who = person(Role.ADMIN)
    assert _bells(open_page(who, "account.py")) == []
    _dear(who.principal.tenant_id, who.principal.user_id)
    inbox.forget()
    assert _bells(open_page(who, "account.py")) == ["1"]


def test_an_admin_is_told_of_a_dear_conversation_and_goes_to_it(
    person: Make, open_page: Open
) -> None:
    admin = person(Role.ADMIN, credit_nusd=100 * NANO_PER_USD)
    member = person(tenant_id=admin.principal.tenant_id)
    use(member.principal, make_model(), "12.341", conversation_id=uuid4())
    with db.transaction(SYSTEM) as session:
        rules.look(session)
    app = _opened(open_page, admin)
    (said,) = _said(app)
    assert said.replace("\\", "").replace("\N{WORD JOINER}", "") == (
        f"A conversation of {member.principal.email} has cost $12.34."
    )
    ((path, asked),) = _ways(app)
    assert path == "/admin"
    there = open_page(admin, "admin.py", **{name: values[0] for name, values in asked.items()})
    (row,) = there.dataframe[0].value.to_dict("records")
    assert (row["person"], row["cost"]) == (member.principal.email, "$12.341")
    assert _said(_opened(open_page, member)) == []


def test_one_who_is_near_a_limit_is_told_alone(person: Make, open_page: Open) -> None:
    admin = person(Role.ADMIN)
    member = person(tenant_id=admin.principal.tenant_id)
    who = member.principal
    with db.transaction(SYSTEM) as session:
        limits.set_limit(
            session, SYSTEM, who.tenant_id, Subject.USER, who.user_id, LimitName.MONTHLY_MESSAGES, 5
        )
    for _ in range(4):
        use(who, make_model(), "0.001")
    with db.transaction(SYSTEM) as session:
        rules.look(session)
        today = zones.calendar_of(session, who.tenant_id).today()
    app = _opened(open_page, member)
    assert _said(app) == [f"You have used 80 % of the messages of {today:%B}: 4 of 5."]
    assert _ways(app) == [("/usage", {})]
    assert _said(_opened(open_page, admin)) == []


def test_a_keys_limit_is_told_to_its_owner(person: Make, open_page: Open) -> None:
    owner = person()
    who = owner.principal
    with db.transaction(who) as session:
        key_id = keys.issue(session, who, "nightly *job*").key_id
    facts: dict[str, object] = {
        "scope": "key", "subject_id": str(key_id), "limit": "monthly_nusd", "used": 9 * 10**9,
        "maximum": 10**10, "month": "2026-11-01",
    }  # fmt: skip
    _tell(who.tenant_id, "quota.near", facts, audience="user", user_id=who.user_id)
    app = _opened(open_page, owner)
    (said,) = _said(app)
    assert said.replace("\\", "") == (
        "Your API key nightly *job* has used 90 % of the budget of November: $9.00 of $10.00."
    )
    assert "\\*job\\*" in said
    assert _ways(app) == [("/account", {})]


def test_the_teams_limit_is_told_to_admins_and_operators_each_in_their_words(
    person: Make, operator: Person, open_page: Open
) -> None:
    admin = person(Role.ADMIN)
    tenant_id = admin.principal.tenant_id
    with db.transaction(SYSTEM) as session:
        tenants.rename(session, SYSTEM, tenant_id, name := f"Acme {uuid4().hex[:6]}")
    facts: dict[str, object] = {
        "scope": "tenant", "subject_id": str(tenant_id), "limit": "monthly_tokens", "used": 85_000,
        "maximum": 100_000, "month": "2026-11-01",
    }  # fmt: skip
    _tell(tenant_id, "quota.near", facts)
    app = _opened(open_page, admin)
    rest = "has used 85 % of the tokens of November: 85,000 of 100,000."
    assert _said(app) == [f"Your team {rest}"]
    assert _ways(app) == [("/admin", {"part": ["Limits"]})]
    app = _opened(open_page, operator, "finance.py")
    assert f"{name} {rest}" in _said(app)
    ((path, asked),) = [way for way in _ways(app) if str(tenant_id) in str(way)]
    assert (path, asked) == ("/admin", {"part": ["Tenants"], "tenant": [str(tenant_id)]})
    there = open_page(operator, "admin.py", part="Tenants", tenant=str(tenant_id))
    assert there.selectbox("tenant").value == tenant_id


def test_a_notice_of_one_of_two_namesakes_opens_that_one(
    person: Make, operator: Person, open_page: Open
) -> None:
    name = f"Twin {uuid4().hex[:6]}"
    told, other = (person(Role.ADMIN).principal.tenant_id for _ in range(2))
    with db.transaction(SYSTEM) as session:
        for tenant_id in (told, other):
            tenants.rename(session, SYSTEM, tenant_id, name)
    facts: dict[str, object] = {
        "scope": "tenant", "subject_id": str(told), "limit": "monthly_tokens", "used": 90_000,
        "maximum": 100_000, "month": "2026-11-01",
    }  # fmt: skip
    _tell(told, "quota.near", facts)
    ((path, asked),) = [way for way in _ways(_opened(open_page, operator)) if str(told) in str(way)]
    assert path == "/admin"
    there = open_page(operator, "admin.py", **{key: values[0] for key, values in asked.items()})
    said = "\n".join(line.value for line in there.markdown)
    assert f"`{told}`" in said
    assert f"`{other}`" not in said


def test_an_export_is_told_to_who_asked_for_it(person: Make, open_page: Open) -> None:
    finance, admin = person(Role.FINANCE), person(Role.ADMIN)
    _export(finance.principal.tenant_id, finance.principal.user_id)
    app = _opened(open_page, finance)
    assert _said(app) == ["Your export is ready: Daily usage, October 2026."]
    assert _ways(app) == [("/finance", {"part": ["Exports"]})]
    assert _said(_opened(open_page, admin)) == []


def test_who_may_not_open_finance_any_more_gets_no_way_there(person: Make, open_page: Open) -> None:
    member = person(Role.MEMBER)
    _export(member.principal.tenant_id, member.principal.user_id)
    app = _opened(open_page, member)
    assert len(_said(app)) == 1
    assert _ways(app) == []


def test_operators_are_told_of_a_bill_that_differs(operator: Person, open_page: Open) -> None:
    with db.transaction(SYSTEM) as session:
        notices.post_operators(
            session, kind="provider_bill.differs", key=uuid4().hex,
            facts={"provider": "maker", "day": "2026-11-18", "ours_usd": "3.412",
                   "theirs_usd": "3.5", "cause": "missing"},
        )  # fmt: skip
    app = _opened(open_page, operator)
    said = [line.replace("\\", "") for line in _said(app)]
    assert "The bill of maker for November 18 says $3.5, our books say $3.412." in said
    assert ("/finance", {"part": ["Provider bill"]}) in _ways(app)


def test_putting_away_is_each_readers_own(person: Make, open_page: Open) -> None:
    first = person(Role.ADMIN)
    second = person(Role.ADMIN, tenant_id=first.principal.tenant_id)
    for usd in (11, 12, 13):
        _dear(first.principal.tenant_id, first.principal.user_id, usd)
    app = _opened(open_page, first)
    assert [line[-7:] for line in _said(app)] == ["$13.00.", "$12.00.", "$11.00."]
    next(button for button in app.button if str(button.key).startswith("read_0")).click().run()
    assert not app.exception
    app = _opened(open_page, first)
    assert [line[-7:] for line in _said(app)] == ["$12.00.", "$11.00."]
    assert (_waiting(first.principal), _waiting(second.principal)) == (2, 3)
    app.button("read_all").click().run()
    assert _bells(app) == []
    assert (_waiting(first.principal), _waiting(second.principal)) == (0, 3)
