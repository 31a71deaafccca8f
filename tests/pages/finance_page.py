"""The Finance page in tests: a team with usage of two months, and what a drawn page says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from uuid import uuid4

import pandas as pd
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from core import db
from core.finance import months
from core.finance.months import State
from core.identity import tenants
from core.identity.access import Role
from pages.widgets import finance_desk, tenant_pick
from tests.analytics.using import use
from tests.factories import Place, make_model
from tests.finance.books import last_month, within
from tests.identity.people import SYSTEM, change
from tests.pages.conftest import Person


def a_team(person: Callable[..., Person]) -> Person:
    """Finance of a team with a name of its own, that used two calls last month and one in this."""
    found = person(Role.FINANCE, time_zone="Europe/Berlin")
    place, model = place_of(found), make_model()
    called(place, f"Acme {uuid4().hex[:8]}")
    change(
        "update app.tenants set created_at = now() - interval '1 year' where tenant_id = :tenant",
        tenant=place.tenant_id,
    )
    for usd, at in (("0.02", within(place, last_month(place))), ("0.03", None)):
        use(place.who, model, usd, at=at)
    use(place.who, model, "0.000000001", at=within(place, last_month(place)))
    return found


def place_of(person: Person) -> Place:
    who = person.principal
    return Place(who.tenant_id, who.user_id, who)


def called(place: Place, name: str) -> str:
    with db.transaction(SYSTEM) as session:
        tenants.rename(session, SYSTEM, place.tenant_id, name)
    return name


def name_of(person: Person) -> str:
    with db.transaction(SYSTEM) as session:
        return str(
            session.scalar(
                text("select name from app.tenants where tenant_id = :tenant"),
                {"tenant": person.principal.tenant_id},
            )
        )


def said(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.toast)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def table(app: AppTest, column: str) -> pd.DataFrame:
    """The first table that has this column."""
    return next(element.value for element in app.dataframe if column in element.value)


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def labels(app: AppTest) -> set[str]:
    return {button.label for button in app.button}


def spelled(month: date) -> str:
    return finance_desk.month_name(month)


def state(person: Person) -> State:
    place = place_of(person)
    with db.transaction(SYSTEM) as session:
        found = months.of_tenant(session, SYSTEM, place.tenant_id)
    return next(row.state for row in found if row.month == last_month(place))


def of_operator(
    open_page: Callable[..., AppTest], operator: Person, of: Person, **query: str
) -> AppTest:
    app = open_page(operator, "finance.py", **query)
    return app.selectbox(tenant_pick.KEY).set_value(of.principal.tenant_id).run()
