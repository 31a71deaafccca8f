"""The catalogue as operators run it, and a team's own choice of models."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from core import db, errors, settings
from core.catalog import blocks, models, sync
from core.catalog.listing import read_file
from core.catalog.tables import Model, Price
from core.identity.access import Role
from pages.widgets import offered
from pages.widgets.text import plain
from tests.analytics.using import use
from tests.factories import make_model
from tests.identity.people import SYSTEM, audit_rows
from tests.pages.conftest import Person
from tests.pages.operators import an_operator
from tests.pages.test_chat import FREE, a_conversation
from tests.upstream import Upstream

Make = Callable[..., Person]
Open = Callable[..., AppTest]
PRICED = "demo/purser"


@pytest.fixture
def operator(answering: object) -> Person:
    return an_operator()


def _name(model_id: str) -> str:
    with db.transaction(SYSTEM) as session:
        row = models.find(session, model_id)
    assert row is not None
    return row.name


def _press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def _said(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.warning, *app.error, *app.toast)
    return "\n".join(element.value for element in shown)


def _table(app: AppTest, column: str) -> dict[str, dict[str, object]]:
    table = next(t.value for t in app.dataframe if {"id", column} <= set(t.value))
    return {str(row["id"]): row for row in table.to_dict("records")}


def _picker(open_page: Open, who: Person) -> set[str]:
    return {str(option).split(" · ")[0] for option in open_page(who).selectbox[0].options}


def test_a_team_switches_a_model_off_and_on_for_itself_alone(person: Make, open_page: Open) -> None:
    admin, other = person(Role.ADMIN), person()
    tenant_id = admin.principal.tenant_id
    name = _name(PRICED)
    offered.clear()
    assert name in _picker(open_page, admin)
    app = open_page(admin, "admin.py", part="Models")
    app.multiselect(f"switch_off_models_{tenant_id}_0").set_value([PRICED]).run()
    app = _press(app, "Switch off")
    assert not app.exception
    assert f"Switched off: {plain(name)}." in _said(app)
    assert _table(app, "state")[PRICED]["state"] == "Off"
    assert name not in _picker(open_page, admin)
    assert name in _picker(open_page, other)
    with pytest.raises(errors.ModelForbidden):
        use(admin.principal, PRICED)
    app = open_page(admin, "admin.py", part="Models")
    app.multiselect(f"switch_on_models_{tenant_id}_0").set_value([PRICED]).run()
    app = _press(app, "Switch on")
    assert name in _picker(open_page, admin)
    acted = [row[:3] for row in audit_rows(f"tenant:{tenant_id}")][-2:]
    actor = f"user:{admin.principal.user_id}"
    assert acted == [("model.block", "done", actor), ("model.unblock", "done", actor)]


def test_a_picker_that_is_seconds_old_is_overruled_by_the_gate(
    person: Make, open_page: Open
) -> None:
    who = person()
    offered.clear()
    app = open_page(who)
    with db.transaction(SYSTEM) as session:
        blocks.block(session, SYSTEM, who.principal.tenant_id, PRICED)
    app.selectbox[0].set_value(PRICED)
    app.chat_input[0].set_value("Still there?")
    app = app.run()
    assert not app.exception
    assert "switched off by your team" in _said(app)


def test_a_chat_whose_model_was_switched_off_goes_on_with_another(
    person: Make, open_page: Open
) -> None:
    admin = person(Role.ADMIN)
    conversation = a_conversation(admin)
    with db.transaction(admin.principal) as session:
        blocks.block(session, admin.principal, admin.principal.tenant_id, FREE)
    offered.clear()
    app = open_page(admin, c=str(conversation))
    assert not app.exception
    assert app.selectbox[0].value != FREE
    assert "hello" in "\n".join(m.value for message in app.chat_message for m in message.markdown)


def test_a_team_that_switched_everything_off_is_told_so(person: Make, open_page: Open) -> None:
    admin = person(Role.ADMIN)
    with db.transaction(SYSTEM) as session:
        for row in models.every(session):
            if row.provider == "demo":
                blocks.block(session, SYSTEM, admin.principal.tenant_id, row.model_id)
    offered.clear()
    with pytest.raises(errors.Unavailable, match="your team switched every model off"):
        offered.now(admin.principal)
    app = open_page(admin, "admin.py", part="Models")
    assert not app.exception
    assert "0 of " in _said(app)


def test_use_is_that_of_the_team_and_for_operators_that_of_all(
    operator: Person, person: Make, open_page: Open
) -> None:
    first, second = person(Role.ADMIN), person()
    model = make_model(provider="demo")
    use(first.principal, model, "0.25")
    use(first.principal, model, "0.5", days_ago=40)
    use(second.principal, model, "0.5")
    with db.transaction(SYSTEM) as session:
        blocks.block(session, SYSTEM, second.principal.tenant_id, model)
    row = _table(open_page(first, "admin.py", part="Models"), "state")[model]
    assert (row["requests"], row["cost"], row["state"]) == (1, 0.25, "On")
    row = _table(open_page(operator, "admin.py", part="Models"), "off")[model]
    assert (row["requests"], row["cost"], row["off"], row["state"]) == (2, 0.75, 1, "Active")


def test_an_operator_takes_a_model_out_and_puts_it_back(
    operator: Person, person: Make, open_page: Open
) -> None:
    who, model = person(), make_model(provider="demo")
    app = open_page(operator, "admin.py", part="Models")
    app.selectbox("model_open").set_value(model).run()
    app = _press(app, "Disable this model")
    assert not app.exception
    assert _table(app, "off")[model]["state"] == "Off"
    with db.transaction(who.principal) as session:
        row = models.find(session, model)
    assert row is not None and not row.is_active
    app = _press(app, "Enable this model")
    use(who.principal, model)
    assert [row[:2] for row in audit_rows(f"model:{model}")] == [
        ("model.deactivate", "done"), ("model.activate", "done"),
    ]  # fmt: skip


def test_a_model_without_a_price_says_so(operator: Person, open_page: Open) -> None:
    model = make_model(provider="demo")
    with db.transaction(SYSTEM) as session:
        session.get_one(Model, model).price_id = None
    app = open_page(operator, "admin.py", part="Models")
    assert _table(app, "off")[model]["price"] == "No price"
    app.selectbox("model_open").set_value(model).run()
    assert "has no price that it can be charged by" in _said(app)


def _held(reason: str, **rates: str) -> int:
    """The id of a price that waits for an operator."""
    model = make_model()
    with db.transaction(SYSTEM) as session:
        price = Price(
            model_id=model, state="held", reason=reason, terms=rates,
            effective_from=datetime.now(UTC),
        )  # fmt: skip
        session.add(price)
        session.flush()
        return price.price_id


def _state_of(price_id: int) -> str:
    with db.transaction(SYSTEM) as session:
        return session.get_one(Price, price_id).state


def test_a_held_price_is_decided(operator: Person, open_page: Open) -> None:
    price_id = _held("ten times dearer", prompt="0.00001", completion="0.00002")
    app = open_page(operator, "admin.py", part="Models")
    assert not app.exception
    assert "ten times dearer" in _said(app)
    assert "\\$10 in · \\$20 out per million tokens" in _said(app)
    app.button(f"accept_{price_id}").click().run()
    assert not app.exception
    assert _state_of(price_id) == "accepted"
    assert [row[:3] for row in audit_rows(f"price:{price_id}")] == [
        ("price.accept", "done", f"operator:{operator.operator.user_id}")
    ]


def test_a_held_price_that_is_no_number_is_named_and_turned_down(
    operator: Person, open_page: Open
) -> None:
    price_id = _held("the prompt price is no number", prompt="abc", completion="-1")
    app = open_page(operator, "admin.py", part="Models")
    assert not app.exception
    assert "Listed: not readable" in _said(app)
    app.button(f"reject_{price_id}").click().run()
    assert not app.exception
    assert _state_of(price_id) == "rejected"


def test_without_a_provider_there_is_nothing_to_sync(operator: Person, open_page: Open) -> None:
    app = open_page(operator, "admin.py", part="Models")
    assert app.button("sync_now").disabled
    assert "OPENROUTER_API_KEY" in _said(app)


def test_the_list_is_read_when_an_operator_asks(
    operator: Person, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in read_file(sync.SEED_FILE) if isinstance(row, dict)][:3]
    with Upstream() as upstream:
        upstream.list_models(rows)
        monkeypatch.setenv("OPENROUTER_API_KEY", "sk-test")
        monkeypatch.setenv("OPENROUTER_BASE_URL", upstream.url)
        settings.current.cache_clear()
        app = open_page(operator, "admin.py", part="Models")
        app = app.button("sync_now").click().run()
    assert not app.exception
    assert "3 models, " in _said(app)  # new or known: other tests share the catalogue
    latest = next(t.value for t in app.dataframe if "seen" in t.value).to_dict("records")[0]
    assert (latest["provider"], latest["source"], latest["seen"]) == ("openrouter", "provider", 3)
    logged = audit_rows("provider:openrouter")[-1]
    assert logged[:3] == ("catalog.sync", "done", f"operator:{operator.operator.user_id}")


def test_a_provider_that_is_away_is_said_in_words(
    operator: Person, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-test")
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:9")
    settings.current.cache_clear()
    app = open_page(operator, "admin.py", part="Models").button("sync_now").click().run()
    assert not app.exception
    assert "could not be fetched" in _said(app)
