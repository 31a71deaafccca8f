"""pages/widgets/tenant_pick.py on the pages that have it: which tenant an operator's address opens."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.identity import tenants
from core.identity.access import Role
from pages.widgets import tenant_pick
from tests.identity.people import SYSTEM, a_tenant
from tests.pages.conftest import Person
from tests.pages.finance_page import said
from tests.pages.operators import an_operator

Open = Callable[..., AppTest]
NO_SUCH = "There is no such tenant"


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


def _unique(stem: str = "Acme") -> str:
    return f"{stem} {uuid4().hex[:8]}"


def _shows(app: AppTest, page: str, tenant_id: UUID) -> bool:
    """Whether the page has opened that tenant, and says so in its address."""
    assert not app.exception
    opened = f"`{tenant_id}`" in said(app) if page == "admin.py" else "all tenants" not in said(app)
    found: object = app.selectbox(tenant_pick.KEY).value
    return opened and found == tenant_id and app.query_params["tenant"] == str(tenant_id)


@pytest.mark.parametrize("page", ["admin.py", "finance.py"])
def test_of_two_with_one_name_each_opens_by_its_id(
    operator: Person, open_page: Open, page: str
) -> None:
    name = _unique("Twin")
    twins = [a_tenant(name), a_tenant(name)]
    for twin in twins:
        app = open_page(operator, page, tenant=str(twin))
        assert _shows(app, page, twin)
        assert not app.warning
    titles = [title for title in app.selectbox(tenant_pick.KEY).options if title.startswith(name)]
    assert sorted(titles) == sorted(f"{name} ({twin.hex[-6:]})" for twin in twins)


@pytest.mark.parametrize("page", ["admin.py", "finance.py"])
def test_a_choice_makes_the_address_and_clearing_takes_it_away(
    operator: Person, open_page: Open, page: str
) -> None:
    first, second = a_tenant(_unique()), a_tenant(_unique())
    app = open_page(operator, page)
    assert "tenant" not in app.query_params
    for chosen in (first, second):
        app.selectbox(tenant_pick.KEY).set_value(chosen).run()
        assert _shows(app, page, chosen)
    app.selectbox(tenant_pick.KEY).set_value(None).run()
    assert not app.exception
    assert "tenant" not in app.query_params
    assert app.selectbox(tenant_pick.KEY).value is None


@pytest.mark.parametrize("page", ["admin.py", "finance.py"])
def test_an_old_address_by_a_name_that_only_one_bears_opens_it_by_its_id(
    operator: Person, open_page: Open, page: str
) -> None:
    name = _unique("Søren & Co. ?")
    tenant_id = a_tenant(name)
    assert _shows(open_page(operator, page, tenant=name), page, tenant_id)


@pytest.mark.parametrize("page", ["admin.py", "finance.py"])
@pytest.mark.parametrize(
    "forged",
    [
        str(UUID(int=0)), "0190b5f0-0000-7000-8000-000000000000", "Nobody at all", "' or 1=1 --",
        "<script>alert(1)</script>", "x" * 5_000, "\N{BELL}",
    ],
)  # fmt: skip
def test_an_address_of_no_tenant_says_so_and_opens_none(
    operator: Person, open_page: Open, page: str, forged: str
) -> None:
    app = open_page(operator, page, tenant=forged)
    assert not app.exception
    (warning,) = app.warning
    assert NO_SUCH in warning.value
    assert forged not in warning.value
    assert app.selectbox(tenant_pick.KEY).value is None
    chosen = a_tenant(_unique())
    app = open_page(operator, page, tenant=forged)
    app.selectbox(tenant_pick.KEY).set_value(chosen).run()
    assert _shows(app, page, chosen)
    assert not app.warning


@pytest.mark.parametrize("page", ["admin.py", "finance.py"])
def test_a_name_that_several_bear_opens_none_of_them(
    operator: Person, open_page: Open, page: str
) -> None:
    name = _unique("Twin")
    for _ in range(2):
        a_tenant(name)
    app = open_page(operator, page, tenant=name)
    assert not app.exception
    assert [NO_SUCH in warning.value for warning in app.warning] == [True]
    assert app.selectbox(tenant_pick.KEY).value is None


def test_a_renamed_tenants_address_still_opens_it(operator: Person, open_page: Open) -> None:
    tenant_id = a_tenant(_unique())
    with db.transaction(SYSTEM) as session:
        tenants.rename(session, SYSTEM, tenant_id, _unique("Renamed"))
    assert _shows(open_page(operator, "admin.py", tenant=str(tenant_id)), "admin.py", tenant_id)


@pytest.mark.parametrize("page", ["admin.py", "finance.py"])
def test_a_teams_own_see_nothing_of_the_tenant_in_the_address(
    person: Callable[..., Person], open_page: Open, page: str
) -> None:
    name = _unique("Foreign")
    foreign = a_tenant(name)
    for said_tenant in (str(foreign), name):
        app = open_page(person(Role.ADMIN), page, tenant=said_tenant)
        assert not app.exception
        assert name not in said(app)
        assert not app.warning
        assert tenant_pick.KEY not in [box.key for box in app.selectbox]
