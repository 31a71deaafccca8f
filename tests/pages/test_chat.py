"""Chat on the real core: asking, refusals that keep the text, other people's conversations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest

from core import db
from core.chat import conversations, engine, turns
from core.chat.conversations import Shown
from core.chat.tables import Conversation
from core.chat.turns import Live
from core.identity import limits
from core.identity.access import Principal
from core.identity.limits import LimitName, Subject
from core.money import show
from pages.widgets import messages, sidebar
from pages.widgets.offered import Offer
from tests.identity.people import SYSTEM
from tests.pages.conftest import Person

FREE, PRICED = "demo/free-sailor", "demo/purser"
DEMO = frozenset({"demo"})
NO_OFFER = Offer({}, "", frozenset())


def ask(app: AppTest, text: str, model_id: str = PRICED) -> AppTest:
    app.selectbox[0].set_value(model_id)
    app.chat_input[0].set_value(text)
    return app.run()


def texts(app: AppTest) -> list[str]:
    return [
        str(m.value) for message in app.chat_message for m in (*message.text, *message.markdown)
    ]


def composed(app: AppTest) -> str:
    """What the page put back into the composer."""
    proto = app.chat_input[0].proto
    return str(proto.value) if proto.set_value else ""


def stored(who: Person) -> list[Shown]:
    with db.transaction(who.principal) as session:
        rows = conversations.listing(session, who.principal)
        return [
            shown
            for row in rows
            for shown in conversations.branch(session, who.principal, row.conversation_id)
        ]


def a_conversation(who: Person, text: str = "echo: hello") -> UUID:
    live = turns.start(who.principal, text, model_id=FREE, offered=DEMO)
    for _ in turns.follow(who.principal, live):
        pass
    return live.conversation_id


@pytest.fixture
def ada(person: Callable[..., Person]) -> Person:
    return person()


def test_an_empty_chat_greets_and_offers_questions(
    open_page: Callable[..., AppTest], ada: Person
) -> None:
    app = open_page(ada)
    assert "Ada" in str(app.header[0].value)
    assert len([b for b in app.button if str(b.key).startswith("suggestion_")]) == 3
    assert set(app.selectbox[0].options) >= {"Demo: Free Sailor · free"}
    assert not app.exception


def test_a_question_is_answered_and_its_cost_is_the_ledgers(
    open_page: Callable[..., AppTest], ada: Person
) -> None:
    app = ask(open_page(ada), "echo: nine lives")
    assert texts(app)[:2] == ["echo: nine lives", "nine lives"]
    question, answer = stored(ada)
    assert (question.role, answer.status) == ("user", "complete")
    assert answer.billed_nusd
    note = messages.note(answer, NO_OFFER)
    assert note.startswith(f"{PRICED} · {answer.tokens:,} tokens · {show(answer.billed_nusd)} · ")
    assert app.query_params["c"] == str(the_conversation(ada))
    assert not app.exception


def the_conversation(who: Person) -> UUID:
    with db.transaction(who.principal) as session:
        return conversations.listing(session, who.principal)[0].conversation_id


def test_a_suggestion_asks_at_once(open_page: Callable[..., AppTest], ada: Person) -> None:
    app = open_page(ada)
    app.button(key="suggestion_0").click().run()
    assert [m.role for m in stored(ada)] == ["user", "assistant"]
    assert len(texts(app)) == 2


def test_a_second_question_continues_the_conversation(
    open_page: Callable[..., AppTest], ada: Person
) -> None:
    app = ask(ask(open_page(ada), "echo: one"), "echo: two")
    assert texts(app) == ["echo: one", "one", "echo: two", "two"]
    assert len(stored(ada)) == 4


def test_too_little_credit_is_said_in_figures_and_the_text_comes_back(
    open_page: Callable[..., AppTest], person: Callable[..., Person]
) -> None:
    poor = person(credit_nusd=1_000)
    app = ask(open_page(poor), "a question worth keeping")
    words = str(app.warning[0].value)
    assert "Not enough credit" in words
    assert "\\$0.000001" in words
    assert composed(app) == "a question worth keeping"
    assert stored(poor) == []
    app.button(key="use_free").click().run()
    assert app.selectbox[0].value == FREE
    assert not app.warning


def test_a_reached_rate_names_limit_use_and_reset(
    open_page: Callable[..., AppTest], ada: Person
) -> None:
    who = ada.principal
    with db.transaction(SYSTEM) as session:
        limits.set_limit(
            session, SYSTEM, who.tenant_id, Subject.USER, who.user_id,
            LimitName.REQUESTS_PER_MINUTE, 1,
        )  # fmt: skip
    app = ask(ask(open_page(ada), "echo: one"), "echo: two")
    words = str(app.warning[0].value)
    assert "requests per minute (yours) · used 1 of 1 · resets" in words
    assert texts(app) == ["echo: one", "one"]
    assert composed(app) == "echo: two"


def test_a_second_question_while_one_is_answered_is_refused(
    open_page: Callable[..., AppTest], ada: Person
) -> None:
    conversation_id = a_conversation(ada)
    app = open_page(ada, c=str(conversation_id))
    live = turns.start(
        ada.principal, "[[silent 3]] tell me", model_id=FREE, offered=DEMO,
        conversation_id=conversation_id,
    )  # fmt: skip
    ask(app, "me too", FREE)
    assert any("still being written" in str(w.value) for w in app.warning)
    assert [m.content for m in stored(ada) if m.role == "user"][-1] == "[[silent 3]] tell me"
    assert engine.running(live.call_id) is None


def test_opening_a_conversation_with_a_running_answer_follows_it_to_its_end(
    open_page: Callable[..., AppTest], ada: Person
) -> None:
    live = turns.start(ada.principal, "[[silent 1]] more", model_id=FREE, offered=DEMO)
    app = open_page(ada, c=str(live.conversation_id))
    assert stored(ada)[-1].status == "complete"
    assert texts(app)[-1].startswith(stored(ada)[-1].content[:20].replace("$", "\\$"))


def test_an_answer_that_ends_while_the_page_is_read_is_drawn_with_its_cost(
    open_page: Callable[..., AppTest], ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = turns.start(ada.principal, "[[silent 1]] more", model_id=PRICED, offered=DEMO)
    look = turns.running

    def look_late(who: Principal, conversation_id: UUID) -> Live | None:
        for _ in turns.follow(who, live):
            pass
        return look(who, conversation_id)

    monkeypatch.setattr(turns, "running", look_late)
    app = open_page(ada, c=str(live.conversation_id))
    bars = [bar for bar in app.get("bidi_component") if str(live.answer_id) in str(bar.proto)]
    assert len(bars) == 1
    assert " tokens" in str(bars[0].proto)


@pytest.mark.parametrize("asked", ["foreign", "missing", "not-an-id", "deleted"])
def test_conversations_that_are_not_ones_own_all_look_missing(
    open_page: Callable[..., AppTest], person: Callable[..., Person], ada: Person, asked: str
) -> None:
    name = asked
    if asked == "foreign":
        name = str(a_conversation(person(), "echo: a secret of somebody else"))
    elif asked == "missing":
        name = str(uuid4())
    elif asked == "deleted":
        gone = a_conversation(ada)
        turns.delete_conversation(ada.principal, gone)
        name = str(gone)
    app = open_page(ada, c=name)
    assert [str(i.value) for i in app.info] == ["There is no such conversation."]
    assert texts(app) == []
    assert not app.chat_input
    assert not app.exception


def test_a_colleagues_conversation_looks_missing_too(
    open_page: Callable[..., AppTest], person: Callable[..., Person], ada: Person
) -> None:
    bob = person(tenant_id=ada.principal.tenant_id)
    app = open_page(bob, c=str(a_conversation(ada)))
    assert [str(i.value) for i in app.info] == ["There is no such conversation."]


def test_asking_inside_a_foreign_conversation_writes_nothing_there(
    open_page: Callable[..., AppTest], person: Callable[..., Person], ada: Person
) -> None:
    app = open_page(ada)
    bob = person()
    app.query_params["c"] = str(a_conversation(bob))
    before = stored(bob)
    ask(app, "let me in")
    assert [str(i.value) for i in app.info] == ["There is no such conversation."]
    assert stored(bob) == before
    assert stored(ada) == []


def test_a_failed_answer_says_why_and_can_be_tried_again(
    open_page: Callable[..., AppTest], ada: Person
) -> None:
    app = ask(open_page(ada), "[[error]] hold")
    assert any("Interrupted. The provider failed" in str(c.value) for c in app.caption)
    assert stored(ada)[-1].status == "interrupted"


def test_thirty_messages_are_shown_and_earlier_ones_on_request(
    open_page: Callable[..., AppTest], person: Callable[..., Person]
) -> None:
    eve = person(plan="enterprise")
    conversation_id = a_conversation(eve, "echo: number 0")
    for number in range(1, 17):
        live = turns.start(
            eve.principal, f"echo: number {number}", model_id=FREE, offered=DEMO,
            conversation_id=conversation_id,
        )  # fmt: skip
        for _ in turns.follow(eve.principal, live, gap_s=0):
            pass
    app = open_page(eve, c=str(conversation_id))
    assert len(app.chat_message) == messages.SHOWN_AT_ONCE
    assert "(4)" in app.button(key="earlier").label
    app.button(key="earlier").click().run()
    assert len(app.chat_message) == 34


def test_a_new_chat_leaves_the_open_one(open_page: Callable[..., AppTest], ada: Person) -> None:
    app = open_page(ada, c=str(a_conversation(ada)))
    app.button(key="new").click().run()
    assert "c" not in app.query_params
    assert texts(app) == []


def test_conversations_are_grouped_by_the_days_of_the_tenants_zone() -> None:
    now = datetime(2026, 11, 20, 0, 30, tzinfo=ZoneInfo("Europe/Berlin"))

    def row(name: str, at: datetime) -> Conversation:
        return Conversation(conversation_id=UUID(int=len(name)), title=name, updated_at=at)

    utc = now.astimezone(UTC)
    groups = sidebar.by_day(
        [
            row("a", utc),
            row("bb", utc - timedelta(hours=1)),
            row("ccc", utc - timedelta(days=5)),
            row("dddd", utc - timedelta(days=30)),
            row("eeeee", utc - timedelta(days=400)),
        ],
        now,
    )
    assert [(day, rows[0][1]) for day, rows in groups] == [
        ("Today", "a"), ("Yesterday", "bb"), ("Previous 7 days", "ccc"), ("October", "dddd"),
        ("October 2025", "eeeee"),
    ]  # fmt: skip


def test_the_page_stays_up_when_the_engine_drains(
    open_page: Callable[..., AppTest], ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.current(), "draining", True)
    app = ask(open_page(ada), "are you there?")
    assert "restarting" in str(app.warning[0].value)
    assert composed(app) == "are you there?"
    assert not app.exception


def test_the_balance_is_never_rounded_up(
    open_page: Callable[..., AppTest], person: Callable[..., Person]
) -> None:
    app = open_page(person(credit_nusd=4_999_999_999))
    badges = [str(m.value) for m in app.sidebar.markdown]
    assert any("\\$4.99" in badge for badge in badges), badges
