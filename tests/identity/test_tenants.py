"""core/identity/tenants.py"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, errors
from core.identity import audit, passwords, sessions, tenants
from core.identity.access import Principal, Role
from core.identity.tables import Label, Membership, Tenant
from tests.identity.people import (
    PASSWORD,
    SYSTEM,
    a_browser,
    a_tenant,
    a_user,
    an_address,
    an_email,
    audit_rows,
    join,
    sign_in,
)

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def tenant_id() -> UUID:
    return a_tenant()


def _entry(tenant_id: UUID) -> tenants.TenantEntry:
    with db.transaction(SYSTEM) as session:
        return next(t for t in tenants.every_tenant(session, SYSTEM) if t.tenant_id == tenant_id)


def test_a_tenant_has_its_terms_and_its_label() -> None:
    with db.transaction(SYSTEM) as session:
        tenant_id = tenants.create_tenant(
            session, SYSTEM, " Größe & Söhne ", plan="pro", mode="postpaid",
            time_zone="Europe/Berlin", markup="0.125",
        )  # fmt: skip
    entry = _entry(tenant_id)
    assert (entry.name, entry.plan, entry.mode) == ("Größe & Söhne", "pro", "postpaid")
    assert (entry.time_zone, entry.markup) == ("Europe/Berlin", Decimal("0.125"))
    assert (entry.active, entry.members) == (True, ())
    with db.transaction(SYSTEM) as session:
        tenant = session.get_one(Tenant, tenant_id)
        assert session.get_one(Label, (tenant_id, tenant.label_id)).name == "Größe & Söhne"
    assert audit_rows(f"tenant:{tenant_id}") == [
        ("tenant.create", "done", "system:tests", tenant_id)
    ]


def test_creating_a_tenant_leaves_money_to_the_room_above(tenant_id: UUID) -> None:
    with db.transaction(SYSTEM) as session:
        accounts = session.execute(
            text("select count(*) from app.accounts where tenant_id = :tenant"),
            {"tenant": tenant_id},
        ).scalar_one()
    assert accounts == 0


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"plan": "gold"}, "plan"),
        ({"plan": "\0"}, "plan"),
        ({"mode": "gratis"}, "mode"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"time_zone": "Europe"}, "time_zone"),
        ({"time_zone": "localtime"}, "time_zone"),
        ({"time_zone": "europe/berlin"}, "time_zone"),
        ({"markup": "-0.1"}, "markup"),
        ({"markup": "100"}, "markup"),
        ({"markup": "NaN"}, "markup"),
        ({"markup": "much"}, "markup"),
        ({"markup": "0.0000001"}, "markup"),
    ],
)
def test_bad_terms_are_refused_by_name(terms: dict[str, str], param: str) -> None:
    with pytest.raises(errors.BadInput) as refusal, db.transaction(SYSTEM) as session:
        tenants.create_tenant(session, SYSTEM, **({"name": "Acme"} | terms))
    assert refusal.value.param == param


def test_a_tenant_is_put_on_another_plan_with_one_line_in_the_log(tenant_id: UUID) -> None:
    with db.transaction(SYSTEM) as session:
        tenants.set_plan(session, SYSTEM, tenant_id, "pro")
    assert _entry(tenant_id).plan == "pro"
    assert audit_rows(f"tenant:{tenant_id}")[1:] == [
        ("plan.change", "done", "system:tests", tenant_id)
    ]
    with db.transaction(SYSTEM) as session:
        entry = audit.recent(session, SYSTEM, tenant_id=tenant_id)[0]
    assert (entry.before, entry.after) == ({"plan": "free"}, {"plan": "pro"})


def test_a_plan_or_tenant_that_is_not_there_is_refused(tenant_id: UUID) -> None:
    with db.transaction(SYSTEM) as session, pytest.raises(errors.BadInput):
        tenants.set_plan(session, SYSTEM, tenant_id, "gold")
    with db.transaction(SYSTEM) as session, pytest.raises(errors.NotFound):
        tenants.set_plan(session, SYSTEM, uuid4(), "pro")
    assert _entry(tenant_id).plan == "free"


def test_a_label_is_made_once_per_name(tenant_id: UUID) -> None:
    subject = uuid4()
    with db.transaction(SYSTEM) as session:
        first = tenants.label(session, tenant_id, subject, "ada@example.com")
        assert tenants.label(session, tenant_id, subject, "ada@example.com") == first
        assert tenants.label(session, tenant_id, subject, "lovelace@example.com") != first
        assert tenants.label(session, tenant_id, uuid4(), "ada@example.com") != first


def test_an_e_mail_names_one_person_whatever_its_case() -> None:
    email = an_email()
    user_id = a_user(email)
    with pytest.raises(errors.Conflict):
        a_user(email.upper())
    with db.transaction(SYSTEM) as session:
        assert tenants.find_user(session, SYSTEM, email.upper()) == user_id
        with pytest.raises(errors.NotFound):
            tenants.find_user(session, SYSTEM, an_email())


def test_a_member_has_the_role_and_a_label_with_the_e_mail(tenant_id: UUID) -> None:
    email = an_email()
    user_id = a_user(email)
    join(tenant_id, user_id, Role.FINANCE)
    assert _entry(tenant_id).members == (
        tenants.Member(user_id, email, "Ada", Role.FINANCE, active=True),
    )
    with db.transaction(SYSTEM) as session:
        member = session.get_one(Membership, (tenant_id, user_id))
        assert session.get_one(Label, (tenant_id, member.label_id)).name == email
    assert ("member.add", "done", "system:tests", tenant_id) in audit_rows(f"user:{user_id}")
    with pytest.raises(errors.Conflict):
        join(tenant_id, user_id)


def test_who_does_not_exist_joins_nothing(tenant_id: UUID) -> None:
    with pytest.raises(errors.NotFound):
        join(tenant_id, uuid4())
    with pytest.raises(errors.NotFound):
        join(uuid4(), a_user())


def test_a_changed_role_counts_at_the_next_call(tenant_id: UUID) -> None:
    browser = a_browser(tenant_id)
    user_id = browser.principal.user_id
    with db.transaction(SYSTEM) as session:
        tenants.change_member(session, SYSTEM, tenant_id, user_id, role=Role.ADMIN)
    signed_in = sessions.who(browser.token)
    assert signed_in is not None
    assert signed_in.principal is not None
    assert signed_in.principal.role is Role.ADMIN
    with db.transaction(SYSTEM) as session:
        tenants.change_member(session, SYSTEM, tenant_id, user_id, active=False)
    assert sessions.who(browser.token) is None
    assert not _entry(tenant_id).members[0].active
    changes = [row for row in audit_rows(f"user:{user_id}") if row[0] == "member.change"]
    assert len(changes) == 2
    with pytest.raises(errors.NotFound), db.transaction(SYSTEM) as session:
        tenants.change_member(session, SYSTEM, tenant_id, uuid4(), active=False)


def test_disabling_a_person_ends_sessions_and_tickets_for_good(tenant_id: UUID) -> None:
    browser = a_browser(tenant_id)
    user_id = browser.principal.user_id
    ticket = sessions.issue_ticket(user_id)
    with db.transaction(SYSTEM) as session:
        tenants.disable_user(session, SYSTEM, user_id)
    assert sessions.who(browser.token) is None
    assert sessions.redeem(ticket, None, None) is None
    with db.transaction(SYSTEM) as session:
        tenants.enable_user(session, SYSTEM, user_id)
    assert sessions.who(browser.token) is None
    assert sessions.redeem(ticket, None, None) is None
    assert sessions.who(sign_in(user_id).token) is not None
    assert [row[0] for row in audit_rows(f"user:{user_id}")][-2:] == ["user.disable", "user.enable"]
    with pytest.raises(errors.NotFound), db.transaction(SYSTEM) as session:
        tenants.disable_user(session, SYSTEM, uuid4())


def test_a_new_password_ends_the_sessions(tenant_id: UUID) -> None:
    browser = a_browser(tenant_id)
    who = browser.principal
    with db.transaction(SYSTEM) as session:
        hashed = passwords.hash_password(PASSWORD)
        tenants.set_password(session, SYSTEM, who.user_id, hashed)
    assert sessions.who(browser.token) is None
    assert passwords.verify(who.email, PASSWORD, an_address()) == who.user_id
    assert ("user.set_password", "done", "system:tests", None) in audit_rows(f"user:{who.user_id}")


def test_members_sees_the_own_tenant_only(tenant_id: UUID) -> None:
    principal = a_browser(tenant_id).principal
    colleague = a_browser(tenant_id, Role.ADMIN).principal
    a_browser(a_tenant("Other"))
    with db.transaction(principal) as session:
        seen = {member.user_id for member in tenants.members(session, principal)}
    assert seen == {principal.user_id, colleague.user_id}


def test_a_tenants_admin_can_do_none_of_an_operators_acts(tenant_id: UUID) -> None:
    admin = a_browser(tenant_id, Role.ADMIN).principal
    for act in _operators_acts(admin):
        with pytest.raises(errors.Forbidden), db.transaction(admin) as session:
            act(session)


def _operators_acts(who: Principal) -> list[Callable[[Session], object]]:
    tenant, user = who.tenant_id, who.user_id
    return [
        lambda s: tenants.create_tenant(s, who, "Mine"),
        lambda s: tenants.set_plan(s, who, tenant, "enterprise"),
        lambda s: tenants.create_user(s, who, an_email()),
        lambda s: tenants.find_user(s, who, who.email),
        lambda s: tenants.disable_user(s, who, user),
        lambda s: tenants.enable_user(s, who, user),
        lambda s: tenants.set_password(s, who, user, ""),
        lambda s: tenants.add_member(s, who, tenant, user, Role.ADMIN),
        lambda s: tenants.change_member(s, who, tenant, user, role=Role.ADMIN),
        lambda s: tenants.make_operator(s, who, user),
        lambda s: tenants.dismiss_operator(s, who, user),
        lambda s: tenants.every_tenant(s, who),
    ]
