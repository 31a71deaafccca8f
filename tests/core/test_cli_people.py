"""`user` and `limit show` on the command line: what they print, and what has changed afterwards."""

from __future__ import annotations

from uuid import UUID, uuid4

from core import db
from core.identity import invites, members, sessions
from core.identity.access import Role
from core.identity.limits import LimitName
from core.identity.members import Place
from core.money import NANO_PER_USD
from tests.core.cli import Run, a_member, a_tenant
from tests.factories import TESTS
from tests.identity.people import PASSWORD, an_address, sign_in


def _place(tenant: str, email: str) -> Place:
    with db.transaction(TESTS) as session:
        places = members.of_tenant(session, TESTS, UUID(tenant))
    return next(place for place in places if place.email == email)


def test_an_invitations_link_is_printed_once_and_lets_one_person_in(run: Run) -> None:
    tenant, email = a_tenant(run), f"{uuid4().hex}@example.com"
    answer = run(
        "user", "invite", "--tenant", tenant, "--email", email.upper(), "--role", "finance"
    )
    assert answer.status == 0
    link = answer.out.strip()
    token = link.partition("/?invite=")[2]
    assert token
    assert token not in answer.err
    assert invites.accept(token, PASSWORD, name="Grace", address=an_address())
    assert _place(tenant, email).role is Role.FINANCE
    again = run("user", "invite", "--tenant", tenant, "--email", email)
    assert (again.status, again.out) == (1, "")
    assert "member already" in again.err
    as_json = run("user", "invite", "--tenant", tenant, "--email", f"x{email}", "--json")
    assert set(as_json.facts) == {"id", "link", "expires_at"}
    assert as_json.err == ""


def test_a_person_is_disabled_and_enabled_in_a_tenant_and_everywhere(run: Run) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    for only in (("--tenant", tenant), ()):
        assert run("user", "disable", email, *only).status == 0
        assert _place(tenant, email).state.value == ("disabled" if only else "blocked")
        answer = run("user", "enable", email, *only, "--json")
        assert answer.facts["id"] == str(_place(tenant, email).user_id)
        assert _place(tenant, email).state.value == "active"
    assert run("user", "enable", f"{uuid4().hex}@example.com").status == 2


def test_a_role_is_changed_and_a_wrong_one_refused(run: Run) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    assert run("user", "role", email, "admin", "--tenant", tenant).status == 0
    assert _place(tenant, email).role is Role.ADMIN
    assert run("user", "role", email, "owner", "--tenant", tenant).status == 2
    assert run("user", "role", email, "member", "--tenant", a_tenant(run)).status == 2
    assert _place(tenant, email).role is Role.ADMIN


def test_signing_out_ends_every_session_and_says_how_many(run: Run) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    user_id = _place(tenant, email).user_id
    tokens = [sign_in(user_id).token for _ in range(2)]
    assert run("user", "sign-out", email).out.strip() == "2"
    assert [sessions.who(token) for token in tokens] == [None, None]
    assert run("user", "sign-out", email, "--json").facts["sessions_ended"] == 0


def test_limits_are_shown_with_what_is_used_of_them(run: Run) -> None:
    tenant = a_tenant(run, "--plan", "starter")
    email = a_member(run, tenant)
    run("limit", "set", "--tenant", tenant, "--user", email, "--monthly-usd", "2.5")
    answer = run("limit", "show", "--tenant", tenant)
    assert answer.status == 0
    assert f"user {email}: monthly_nusd: used $0, held $0 of $2.5, resets " in answer.out
    rows = run("limit", "show", "--tenant", tenant, "--json").facts["limits"]
    assert isinstance(rows, list)
    assert len(rows) == 2 * len(LimitName)
    mine = next(r for r in rows if (r["label"], r["name"]) == (email, "monthly_nusd"))
    assert (mine["maximum"], mine["is_set"], mine["state"]) == (2.5 * NANO_PER_USD, True, "free")


def test_an_account_that_a_link_made_goes_nowhere_until_its_e_mail_is_confirmed(run: Run) -> None:
    """Whoever made the link may have opened it: neither command gives them more unasked."""
    attacker, victim, email = a_tenant(run), a_tenant(run), f"{uuid4().hex}@example.com"
    link = run("user", "invite", "--tenant", attacker, "--email", email).out.strip()
    user_id = invites.accept(link.partition("/?invite=")[2], PASSWORD, name="M", address=None)
    for wanted in (
        ("user", "create", "--tenant", victim, "--role", "admin"),
        ("operator", "create"),
    ):
        told = run(*wanted, "--email", email)
        assert (told.status, told.out) == (1, "")
        assert "--existing" in told.err
        assert "unproven" in told.err
        refused = run(*wanted, "--email", email, "--existing")
        assert (refused.status, refused.out) == (1, "")
        assert "user confirm-email" in refused.err
    assert run("user", "confirm-email", email, "--json").facts["id"] == str(user_id)
    assert run("user", "create", "--tenant", victim, "--email", email, "--existing").status == 0
    assert run("operator", "create", "--email", email, "--existing").status == 0
    assert run("user", "confirm-email", f"{uuid4().hex}@example.com").status == 2
