"""FOCUS 1.4: every column that the specification asks of us is there and holds what it allows.

focus_columns.json is the specification's own list for its Cost and Usage dataset: 65 columns.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.db import Database, new_id
from core.finance.datasets import catalogue, focus
from core.finance.datasets.columns import Column, Type
from core.identity.access import Operator
from tests.analytics.using import colleague, correct, cost_of, use
from tests.factories import Place, make_model, make_place
from tests.finance.rows import JULY, Row, change, close_july, ever_since, read, total

SPECIFICATION = json.loads((Path(__file__).parent / "focus_columns.json").read_text())
COLUMNS: list[dict[str, Any]] = SPECIFICATION["columns"]
OPERATOR = Operator(new_id(), "op@example.com", "Op")
TYPES = {"String": Type.TEXT, "JSON": Type.TEXT, "Decimal": Type.DECIMAL, "Date/Time": Type.TIME}
# What holds of Purser, so that the columns that the specification ties to it must be there.
HOLDS = {
    "includes usage measurement": True,  # tokens are counted
    "includes tags": True,  # cost centres and projects
    "includes unit pricing": True,  # by the token
    "includes payable invoices": True,  # of bought credit and of postpaid months
    "includes multiple pricing categories": False,  # one, given all the same
    "includes list unit prices": False,  # a row's tokens are of several kinds and prices
    "includes negotiated pricing": False,  # what a call cost, plus the tenant's markup
    "includes pricing and billing currency differences": False,  # all is USD
    "includes commitment discounts": False,
    "includes commitment programs": False,
    "includes contract commitments": False,
    "includes capacity reservations": False,
    "includes provisioned resources": False,
    "includes regions": False,
    "includes availability zones": False,
    "includes split cost allocation": False,
    "includes sub accounts": False,
    "includes multiple sub account types": False,
    "includes multiple billing account types": False,
}
# Where nulls are allowed in general, but not in rows of usage that correct no closed month.
NEVER_NULL_OF_USAGE = (
    "PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit", "PricingCategory", "SkuId",
    "SkuMeter", "SkuPriceId",
)  # fmt: skip


def given() -> dict[str, Column]:
    return {column.name: column for column in catalogue.columns_of("focus", for_operators=True)}


@pytest.fixture(scope="module")
def place(database: Database) -> Place:
    """A tenant far from UTC with calls of some days, models and people, and corrections of July."""
    found = make_place(role="admin", time_zone="Pacific/Auckland", markup="0.2")
    first, second = make_model(), make_model()
    friend = colleague(found)
    for day in (1, 1, 2, 17, 31):
        moment = datetime(2026, 7, day, 2, tzinfo=UTC)
        use(found.who, first, "0.0123", at=moment)
        use(friend, first, "0.1", at=moment)
        use(found.who, second, "0.5", at=moment, source="api", outcome="error")
    change(
        "update app.tenants set cost_center = 'Lab \"1\"', project = 'Mond' where tenant_id = :t",
        t=found.tenant_id,
    )  # fmt: skip
    guesses = [use(found.who, second, at=datetime(2026, 7, 9, tzinfo=UTC),
                   cost=cost_of(usd, lookup=True)) for usd in ("0.3", "0.4")]  # fmt: skip
    correct(guesses[0], "0.2")
    close_july(found.tenant_id)
    correct(guesses[1], "0.6")
    return found


ALWAYS = ever_since(date(2026, 6, 1))


def always(place: Place) -> list[Row]:
    return read(OPERATOR, "focus", ALWAYS, place.tenant_id)


def test_the_list_is_that_of_the_version_we_name() -> None:
    assert SPECIFICATION["version"] == focus.VERSION
    assert len({column["id"] for column in COLUMNS}) == len(COLUMNS) == 65
    assert sum(column["level"] == "Mandatory" for column in COLUMNS) == 21
    assert {column["condition"] for column in COLUMNS if "condition" in column} == set(HOLDS)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column["id"])
def test_a_column_is_there_where_the_specification_asks_for_it(column: dict[str, Any]) -> None:
    asked = HOLDS[column["condition"]] if "condition" in column else True
    if asked:  # recommended ones too
        assert column["id"] in given()
    if column["id"] in given():
        assert given()[column["id"]].type is TYPES[column["type"]]


def test_columns_of_ours_are_marked_and_come_last() -> None:
    known = {column["id"] for column in COLUMNS}
    ours = [name not in known for name in given()]
    assert ours == sorted(ours)
    assert all(name.startswith("x_") for name in given() if name not in known)
    assert all(re.fullmatch(r"(x_)?([A-Z][a-z]+)+", name) for name in given())
    assert all(len(name) <= 50 for name in given())


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column["id"])
def test_values_are_those_allowed(column: dict[str, Any], place: Place) -> None:
    if column["id"] not in given():
        assert column["level"] != "Mandatory"
        return
    rows = always(place)
    assert len(rows) > 10
    for row in rows:
        value = row[column["id"]]
        if value is None:
            assert column["nulls"]
            assert column["id"] not in NEVER_NULL_OF_USAGE
            continue
        assert value != ""
        assert value in column.get("allowed", [value])
        if column["type"] == "JSON":
            assert isinstance(json.loads(value), dict)
        if column["type"] == "Date/Time":
            assert value.tzinfo is not None


def test_periods_are_whole_days_and_months_of_the_tenants_zone(place: Place) -> None:
    for row in always(place):
        begins, ends = row["ChargePeriodStart"], row["ChargePeriodEnd"]
        assert row["BillingPeriodStart"] <= begins < ends <= row["BillingPeriodEnd"]
        assert timedelta(hours=23) <= ends - begins <= timedelta(hours=25)
    (first,) = {
        (row["ChargePeriodStart"], row["BillingPeriodStart"], row["BillingPeriodEnd"])
        for row in always(place) if row["x_Day"] == date(2026, 7, 17)
    }  # fmt: skip
    assert first == (
        datetime(2026, 7, 16, 12, tzinfo=UTC), datetime(2026, 6, 30, 12, tzinfo=UTC),
        datetime(2026, 7, 31, 12, tzinfo=UTC),
    )  # fmt: skip


def test_a_row_is_a_day_of_a_model_and_a_source(place: Place) -> None:
    rows = [row for row in read(place.who, "focus", JULY) if row["x_Day"] == date(2026, 7, 1)]
    assert sorted((row["x_Source"], row["x_Requests"]) for row in rows) == [("api", 2), ("chat", 4)]
    assert sorted(row["ConsumedQuantity"] for row in rows) == [300, 600]
    assert sorted(row["BilledCost"] for row in rows) == [Decimal("0.26952"), Decimal("1.2")]


def test_an_adjustment_corrects_only_a_month_that_was_closed(place: Place) -> None:
    adjusted = [row for row in always(place) if row["x_Kind"] == "adjustment"]
    assert [(row["ChargeClass"], row["BilledCost"]) for row in adjusted] == [
        (None, Decimal("-0.12")), ("Correction", Decimal("0.24")),
    ]  # fmt: skip
    assert [row["x_Day"].month for row in adjusted] == [7, datetime.now(UTC).month]
    assert all(row["ChargeClass"] is None for row in always(place) if row["x_Kind"] == "call")


def test_every_cost_is_what_the_tenant_pays(place: Place) -> None:
    rows = read(place.who, "focus", ALWAYS)
    for row in rows:
        assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"] == row["ListCost"]
    assert total(rows, "BilledCost") == total(read(place.who, "usage", ALWAYS)) > 0


def test_tags_are_the_cost_centre_and_project(place: Place) -> None:
    tags = {row["x_CostCenter"]: json.loads(row["Tags"]) for row in always(place)}
    assert tags == {None: {}, 'Lab "1"': {"cost_center": 'Lab "1"', "project": "Mond"}}
