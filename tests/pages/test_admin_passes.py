"""The passes over a provider's list as operators read them: which models changed, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.catalog import passes, prices, sync
from core.catalog.tables import CatalogSync, Provider
from core.db import new_id
from tests.catalog.listed import row
from tests.identity.people import SYSTEM
from tests.pages.conftest import Person
from tests.pages.operators import an_operator

Open = Callable[..., AppTest]


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


@dataclass
class Shop:
    """A provider of one test, whose list is read when the test says so."""

    provider: str = field(default_factory=lambda: f"shop-{new_id().hex[-8:]}")

    def __post_init__(self) -> None:
        with db.transaction(SYSTEM) as session:
            session.add(
                Provider(
                    provider=self.provider, title="Shop", sends_cost=True, keeps_generations=True
                )
            )  # fmt: skip

    def model(self, name: str, prompt: str = "0.000001", **more: object) -> dict[str, object]:
        return row(f"{self.provider}/{name}", prompt, name=f"The {name}", **more)

    def read(self, *rows: object) -> int:
        """One pass; returns its id."""
        with db.transaction(SYSTEM) as session:
            sync.apply(session, self.provider, rows, source="tests", now=datetime.now(UTC))
            return passes.history(session, SYSTEM, limit=1)[0].sync_id

    def held(self) -> int:
        """The id of this provider's only price that waits."""
        with db.transaction(SYSTEM) as session:
            (price,) = [p for p in prices.list_held(session) if self.provider in p.model_id]
        return price.price_id


@pytest.fixture
def shop(answering: object) -> Shop:
    return Shop()


def _opened(open_page: Open, operator: Person, sync_id: int) -> AppTest:
    app = open_page(operator, "admin.py", part="Models")
    assert not app.exception
    app.selectbox("pass_open").set_value(sync_id).run()
    assert not app.exception
    return app


def _lines(app: AppTest) -> list[dict[str, str]]:
    """What the table of changes shows, its id aside; none where there is no such table."""
    tables = [t.value for t in app.dataframe if {"change", "before"} <= set(t.value)]
    return [
        {k: v for k, v in line.items() if k != "id"}
        for t in tables
        for line in t.to_dict("records")
    ]


def _captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption)


def _line(change: str, name: str, before: str, after: str, note: str = "") -> dict[str, str]:
    return {
        "change": change, "name": f"The {name}", "before": before, "after": after, "note": note,
    }  # fmt: skip


def test_no_pass_is_open_until_one_is_chosen(operator: Person, open_page: Open, shop: Shop) -> None:
    shop.read(shop.model("a"))
    app = open_page(operator, "admin.py", part="Models")
    assert app.selectbox("pass_open").value is None
    assert _lines(app) == []


def test_new_and_repriced_models_stand_with_their_prices(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    first = shop.read(shop.model("a"), shop.model("b"))
    second = shop.read(shop.model("a", "0.00000125"), shop.model("b"), shop.model("c"))
    app = _opened(open_page, operator, first)
    assert _lines(app) == [
        _line("New", "a", "", "$1 in · $2 out"), _line("New", "b", "", "$1 in · $2 out"),
    ]  # fmt: skip
    app = _opened(open_page, operator, second)
    assert _lines(app) == [
        _line("Repriced", "a", "$1 in · $2 out", "$1.25 in · $2 out"),
        _line("New", "c", "", "$1 in · $2 out"),
    ]
    assert "Repriced 1 · New 1" in _captions(app)


def test_a_change_of_another_rate_shows_that_rate(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    steps = [
        {"min_prompt_tokens": 200_000, "prompt": "0.000002"},
        {"utc_start": "2200", "utc_end": "0600", "completion": "0.000001"},
    ]
    shop.read(shop.model("a"), shop.model("b", pricing={"request": "0.01"}))
    sync_id = shop.read(
        shop.model("a", pricing={"input_cache_read": "0.00000025", "overrides": steps}),
        shop.model("b", pricing={"request": "0.02"}),
    )
    assert _lines(_opened(open_page, operator, sync_id)) == [
        _line(
            "Repriced", "a", "$1 in · $2 out · $0 input cache read",
            "$1 in · $2 out · $0.25 input cache read; above 200,000 tokens: $2 in;"
            " 22:00 to 06:00 UTC: $1 out",
        ),
        _line("Repriced", "b", "$1 in · $2 out · $0.01 per call", "$1 in · $2 out · $0.02 per call"),
    ]  # fmt: skip


def test_a_held_price_says_that_it_waits_until_it_is_decided(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    shop.read(shop.model("a"))
    sync_id = shop.read(shop.model("a", "0.000009"))
    why = "the prompt price moved from 0.000001 to 0.000009 USD"
    was, listed = "$1 in · $2 out", "$9 in · $2 out"
    app = _opened(open_page, operator, sync_id)
    assert _lines(app) == [_line("Price held", "a", was, listed, f"Waits for approval: {why}")]
    app.button(f"accept_{shop.held()}").click().run()
    app = _opened(open_page, operator, sync_id)
    assert _lines(app) == [_line("Price held", "a", was, listed, "Approved since")]


def test_a_rejected_price_says_so(operator: Person, open_page: Open, shop: Shop) -> None:
    shop.read(shop.model("a"))
    sync_id = shop.read(shop.model("a", "0.000009"))
    app = _opened(open_page, operator, sync_id)
    app.button(f"reject_{shop.held()}").click().run()
    (line,) = _lines(_opened(open_page, operator, sync_id))
    assert line["note"].startswith("Not approved: ")
    assert line["note"].endswith("rejected: by an operator")


def test_a_price_that_nobody_could_charge_by_is_named_as_such(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    sync_id = shop.read(shop.model("a", "-1"))
    held, added = _lines(_opened(open_page, operator, sync_id))
    assert (held["before"], held["after"]) == ("None", "Cannot be charged by")
    assert "varies from call to call" in held["note"]
    assert (added["before"], added["after"]) == ("", "None")
    sync_id = shop.read(shop.model("a"))
    assert _lines(_opened(open_page, operator, sync_id)) == [
        _line("First price", "a", "None", "$1 in · $2 out")
    ]


def test_retired_returned_and_would_be_retired_models_are_told_apart(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    every = [shop.model(f"m{n}") for n in range(10)]
    shop.read(*every)
    shop.read(*every[:9])
    retired = shop.read(*every[:9])
    returned = shop.read(*every)
    shop.read(*every[:7])
    held = shop.read(*every[:7])
    assert _lines(_opened(open_page, operator, retired)) == [_line("Retired", "m9", "", "")]
    assert _lines(_opened(open_page, operator, returned)) == [_line("Returned", "m9", "", "")]
    kept = "Kept: the list was held, because too many models would have gone"
    app = _opened(open_page, operator, held)
    assert _lines(app) == [_line("Would retire", f"m{n}", "", "", kept) for n in (7, 8, 9)]
    assert "Would retire 3" in _captions(app)


def test_an_idle_pass_says_that_nothing_changed(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    shop.read(shop.model("a"))
    app = _opened(open_page, operator, shop.read(shop.model("a")))
    assert _lines(app) == []
    assert "Nothing changed." in _captions(app).splitlines()
    app = _opened(open_page, operator, shop.read())
    assert "The list was empty, so it was held. Nothing changed." in _captions(app)


def test_a_pass_older_than_its_details_does_not_claim_that_nothing_changed(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    with db.transaction(SYSTEM) as session:
        old = CatalogSync(
            provider=shop.provider, source="provider", synced_at=datetime.now(UTC), seen=9, added=9,
            repriced=0, held=0, retired=0, outcome="applied",
        )  # fmt: skip
        session.add(old)
        session.flush()
        sync_id = old.sync_id
    app = _opened(open_page, operator, sync_id)
    assert "only its counts are known" in _captions(app)
    assert "Nothing changed" not in _captions(app)


def test_a_pass_that_changed_something_can_be_opened_after_many_idle_ones(
    operator: Person, open_page: Open, shop: Shop
) -> None:
    shop.read(shop.model("a"))
    changed = shop.read(shop.model("a", "0.000002"))
    for _ in range(12):
        shop.read(shop.model("a", "0.000002"))
    app = _opened(open_page, operator, changed)
    assert [line["change"] for line in _lines(app)] == ["Repriced"]
    options = app.selectbox("pass_open").options
    assert len([o for o in options if f"{shop.provider} · nothing changed" in o]) == 10
    assert any(f"{shop.provider} · 1 change" in o for o in options)
