"""A tenant's terms, cost centres and models from the command line."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest

from core import db, errors
from core.catalog import models
from core.identity import cost_centres, terms
from core.identity.cost_centres import Assignment
from core.identity.limits import Subject
from core.identity.terms import Terms
from core.quota import standing
from tests.analytics.using import use
from tests.core.cli import Run, a_member, a_tenant
from tests.factories import TESTS, make_model, make_place


def _terms(tenant: str) -> Terms:
    with db.transaction(TESTS) as session:
        return terms.of_tenant(session, TESTS, UUID(tenant))


def _assignment(tenant: str, subject: Subject, subject_id: str) -> Assignment:
    with db.transaction(TESTS) as session:
        return cost_centres.of_subject(session, TESTS, UUID(tenant), subject, UUID(subject_id))


def test_terms_are_set_together_and_the_zone_comes_with_the_next_month(run: Run) -> None:
    tenant = a_tenant(run, "--timezone", "Europe/Berlin")
    answer = run(
        "tenant", "set", tenant, "--timezone", "America/New_York", "--markup", "0.1",
        "--plan", "pro", "--name", "Nord & See", "--suspend", "--json",
    )  # fmt: skip
    assert (answer.status, answer.err) == (0, "")
    facts = answer.facts
    assert (facts["name"], facts["plan"], facts["markup"], facts["status"]) == (
        "Nord & See", "pro", "0.100000", "suspended",
    )  # fmt: skip
    assert (facts["time_zone"], facts["next_time_zone"]) == ("Europe/Berlin", "America/New_York")
    assert date.fromisoformat(str(facts["next_time_zone_from"])).day == 1
    assert not _terms(tenant).active
    answer = run("tenant", "set", tenant, "--timezone", "Europe/Berlin", "--activate")
    assert answer.out == "Nord & See: active, pro, markup 0.100000, Europe/Berlin\n"


def test_of_terms_that_cannot_all_be_set_none_is(run: Run) -> None:
    tenant = a_tenant(run)
    before = _terms(tenant)
    for wrong in (["--plan", "gold"], ["--markup", "-1"], ["--timezone", "Mars/Base"]):
        answer = run("tenant", "set", tenant, "--name", "Other", *wrong)
        assert answer.status == 2
        assert answer.err.count("\n") == 1
    assert run("tenant", "set", tenant).status == 2
    assert run("tenant", "set", "No Such Tenant", "--plan", "pro").status == 2
    assert run("tenant", "set", tenant, "--timezone", "UTC").status == 2
    assert _terms(tenant) == before


def test_use_is_booked_to_what_was_set_last(run: Run) -> None:
    tenant = a_tenant(run)
    email = a_member(run, tenant)
    key = run("key", "create", "--tenant", tenant, "--user", email, "--name", "k", "--json").facts
    set_ = ("cost-centre", "set", "--tenant", tenant)
    assert run(*set_, "--centre", "House", "--project", "Web").status == 0
    answer = run(*set_, "--user", email, "--centre", "Sales", "--json")
    assert (answer.facts["cost_center"], answer.facts["project"]) == ("Sales", "Web")
    answer = run(*set_, "--key", str(key["id"]), "--project", "Robot")
    assert answer.out == "cost centre: Sales\nproject: Robot\n"
    found = standing.of_key(str(key["key"]), None)
    assert (found.cost_center, found.project) == ("Sales", "Robot")
    assert run(*set_, "--key", str(key["id"]), "--project", "").status == 0
    left = _assignment(tenant, Subject.KEY, str(key["id"]))
    assert (left.project, left.booked_project, left.booked_cost_center) == (None, "Web", "Sales")


@pytest.mark.parametrize("wrong", [
    [], ["--centre", "x" * 101], ["--centre", "C", "--user", "nobody@nowhere.example"],
    ["--centre", "C", "--key", "nonsense"],
    ["--centre", "C", "--user", "a@b.example", "--key", str(UUID(int=1))],
])  # fmt: skip
def test_what_cannot_be_booked_is_refused(run: Run, wrong: list[str]) -> None:
    tenant = a_tenant(run)
    assert run("cost-centre", "set", "--tenant", tenant, *wrong).status == 2
    assert _assignment(tenant, Subject.TENANT, tenant).cost_center is None


def test_another_tenants_key_is_not_found(run: Run) -> None:
    tenant, other = a_tenant(run), a_tenant(run)
    email = a_member(run, other)
    key = run("key", "create", "--tenant", other, "--user", email, "--name", "k", "--json").facts
    named = ("--key", str(key["id"]), "--centre", "C")
    assert run("cost-centre", "set", "--tenant", tenant, *named).status == 2
    assert _assignment(other, Subject.KEY, str(key["id"])).cost_center is None


def test_a_model_is_switched_off_for_one_tenant_or_for_all(run: Run) -> None:
    place, other, model = make_place(), make_place(), make_model()
    tenant = str(place.tenant_id)
    assert run("models", "disable", model, "--tenant", tenant).status == 0
    with pytest.raises(errors.ModelForbidden):
        use(place.who, model)
    use(other.who, model)
    assert run("models", "disable", model, "--tenant", tenant).status == 1
    assert run("models", "enable", model, "--tenant", tenant).status == 0
    use(place.who, model)
    answer = run("models", "disable", model, "--json")
    assert answer.facts == {"id": model, "active": False, "tenant": None}
    with db.transaction(TESTS) as session:
        row = models.find(session, model)
    assert row is not None and not row.is_active
    assert run("models", "enable", model).out == f"{model} is on.\n"
    assert run("models", "disable", "nobody/nothing").status == 2
    assert run("models", "disable", "nobody/nothing", "--tenant", tenant).status == 2
