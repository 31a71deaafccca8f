"""core/identity/tenants.py"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import db, errors
from core.identity import audit, members, passwords, sessions, tenants
from core.identity.access import Principal, Role
from core.identity.tables import Label, Tenant
from core.quota import gate, standing
from core.quota.gate import Ask
from tests.analytics.using import cost_of, use
from tests.factories import make_model, make_place
from tests.identity.people import (
    PASSWORD,
    SYSTEM,
    a_browser,
    a_tenant,
    a_user,
    an_address,
    an_email,
    audit_rows,
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


def test_a_new_name_leaves_the_old_one_on_what_was_used_before() -> None:
    place, model = make_place(role="admin"), make_model()
    old = place.who.tenant_name
    use(place.who, model)
    for name in ("Birch & Co", old, " Birch & Co "):
        with db.transaction(SYSTEM) as session:
            tenants.rename(session, SYSTEM, place.tenant_id, name)
        use(place.who, model)
    with db.transaction(SYSTEM) as session:
        names = session.scalars(
            text("select l.name from app.usage_events e join app.labels l"
                 " on l.tenant_id = e.tenant_id and l.label_id = e.tenant_label_id"
                 " where e.tenant_id = :tenant order by e.event_id"),
            {"tenant": place.tenant_id},
        ).all()  # fmt: skip
        labels = session.scalars(select(Label.name).where(Label.subject_id == place.tenant_id))
        assert sorted(labels) == sorted(["Birch & Co", old])
    assert names == [old, "Birch & Co", old, "Birch & Co"]
    assert _entry(place.tenant_id).name == "Birch & Co"
    with db.transaction(SYSTEM) as session:
        entry = audit.recent(session, SYSTEM, tenant_id=place.tenant_id)[0]
    assert (entry.action, entry.before, entry.after) == (
        "tenant.rename", {"name": old}, {"name": "Birch & Co"},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb"])
def test_a_name_that_cannot_be_shown_is_not_taken(tenant_id: UUID, name: str) -> None:
    with db.transaction(SYSTEM) as session, pytest.raises(errors.BadInput):
        tenants.rename(session, SYSTEM, tenant_id, name)
    assert _entry(tenant_id).name == "Acme"


def test_a_markup_counts_from_the_next_call_on() -> None:
    place, model = make_place(role="admin"), make_model()
    running = gate.open_call(standing.of_member(place.who, model), Ask("chat", "test", 100))
    with db.transaction(SYSTEM) as session:
        tenants.set_markup(session, SYSTEM, place.tenant_id, "0.5")
    gate.close(
        gate.settlement(running, cost_of("0.01"), outcome="ok", gave_output=True, latency_ms=1)
    )
    later = use(place.who, model, "0.01")
    with db.transaction(SYSTEM) as session:
        billed = dict(
            session.execute(
                text("select call_id, billed_nusd from app.usage_events where tenant_id = :tenant"),
                {"tenant": place.tenant_id},
            ).all()
        )
    assert billed == {running.call_id: 10_000_000, later.call_id: 15_000_000}
    assert ("tenant.markup", "done", "system:tests", place.tenant_id) in audit_rows(
        f"tenant:{place.tenant_id}"
    )


@pytest.mark.parametrize("markup", ["-0.1", "100", "NaN", "much", "0.0000001"])
def test_a_markup_that_is_none_changes_nothing(tenant_id: UUID, markup: str) -> None:
    with db.transaction(SYSTEM) as session, pytest.raises(errors.BadInput):
        tenants.set_markup(session, SYSTEM, tenant_id, markup)
    assert _entry(tenant_id).markup == 0


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


def test_a_tenants_admin_can_do_none_of_an_operators_acts(tenant_id: UUID) -> None:
    admin = a_browser(tenant_id, Role.ADMIN).principal
    for act in _operators_acts(admin):
        with pytest.raises(errors.Forbidden), db.transaction(admin) as session:
            act(session)
    denied = {row[0] for row in audit_rows(f"tenant:{tenant_id}") if row[1] == "denied"}
    assert denied == {"plan.change", "tenant.markup", "tenant.rename", "tenant.suspend"}


def _operators_acts(who: Principal) -> list[Callable[[Session], object]]:
    tenant, user = who.tenant_id, who.user_id
    return [
        lambda s: tenants.create_tenant(s, who, "Mine"),
        lambda s: tenants.set_plan(s, who, tenant, "enterprise"),
        lambda s: tenants.rename(s, who, tenant, "Ours"),
        lambda s: tenants.set_markup(s, who, tenant, 0),
        lambda s: tenants.set_tenant_active(s, who, tenant, active=False),
        lambda s: tenants.create_user(s, who, an_email()),
        lambda s: tenants.find_user(s, who, who.email),
        lambda s: tenants.disable_user(s, who, user),
        lambda s: tenants.enable_user(s, who, user),
        lambda s: tenants.set_password(s, who, user, ""),
        lambda s: members.add(s, who, tenant, user, Role.ADMIN, confirmed=True),
        lambda s: tenants.make_operator(s, who, user, confirmed=True),
        lambda s: tenants.dismiss_operator(s, who, user),
        lambda s: tenants.every_tenant(s, who),
    ]
