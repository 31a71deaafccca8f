"""Chat in Chromium: ask, see the answer and its cost, leave and come back, stop, never lose a letter."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from core import db
from core.chat.tables import Message, Turn
from core.metering.tables import Call
from tests.e2e.conftest import Tab
from tests.e2e.proxy import Proxy
from tests.factories import TESTS, Place, make_place
from tests.processes import AppProcess
from tests.upstream import Script, Upstream, transcript

pytestmark = pytest.mark.browser
WORDS = [f"word{number} " for number in range(60)]
COST = r"\$0\.0007144"
MODEL = "openai/gpt-6-luna"


def answer_of(words: list[str], *, gap_s: float) -> Script:
    """A scripted answer of these words, with the usage of transcript 01 at its end."""
    recorded = transcript("01_normal_usage_cost.txt")
    first, last = recorded.pieces[0], recorded.pieces[-3:]
    pieces = [first.replace(b'"content":"The"', b'"content":""')]
    pieces = [re.sub(rb'"content":"[^"]*"', b'"content":"%s"' % w.encode(), first) for w in words]
    return Script(
        recorded.status_line, recorded.headers, (*pieces, *last), gap_s=gap_s, fresh_ids=True
    )


@pytest.fixture
def place() -> Place:
    return make_place()


@pytest.fixture(autouse=True)
def at_human_pace(upstream: Upstream) -> Iterator[None]:
    upstream.play_script(answer_of(WORDS, gap_s=0.05))
    yield
    upstream.play_script(answer_of(WORDS, gap_s=0.0))


def answer_on(page: Page) -> str:
    return page.get_by_test_id("stChatMessage").last.inner_text()


def wait_words(page: Page, count: int) -> None:
    expect(page.get_by_test_id("stChatMessage").last).to_contain_text(
        f"word{count}", timeout=30_000
    )


def turn_of(place: Place) -> Turn:
    """The newest turn, once the page's question has arrived."""
    order = select(Turn).where(Turn.tenant_id == place.tenant_id).order_by(Turn.turn_id.desc())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with db.transaction(TESTS) as session:
            if (turn := session.scalars(order.limit(1)).first()) is not None:
                return turn
        time.sleep(0.05)
    raise AssertionError("no turn was opened")


def wait_ended(place: Place) -> Turn:
    deadline = time.monotonic() + 30
    while (turn := turn_of(place)).status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return turn


def assert_whole(page: Page, place: Place) -> None:
    """The answer on the page and in the database is every word, once, in order."""
    turn = wait_ended(place)
    expect(page.get_by_text(re.compile(COST)).last).to_be_visible(timeout=30_000)
    shown = re.findall(r"word\d+", answer_on(page))
    assert shown == [word.strip() for word in WORDS]
    with db.transaction(TESTS) as session:
        stored = session.get_one(Message, (place.tenant_id, turn.conversation_id, turn.answer_id))
    assert stored.content == "".join(WORDS)


def test_an_answer_streams_and_shows_what_it_cost(
    open_tab: Callable[..., Tab], place: Place
) -> None:
    tab = open_tab(place)
    page = tab.go()
    tab.ask("What is a hold?")
    expect(page.get_by_test_id("stChatMessage").first).to_contain_text("What is a hold?")
    wait_words(page, 5)
    assert "word59" not in answer_on(page)
    assert_whole(page, place)
    note = page.get_by_text(re.compile(COST)).last.inner_text()
    assert re.search(r"1,258 tokens.*\d+(\.\d)? s", note), note
    assert re.search(r"\?c=[0-9a-f-]{36}", page.url)


def test_a_reload_in_mid_answer_loses_and_repeats_nothing(
    open_tab: Callable[..., Tab], place: Place
) -> None:
    tab = open_tab(place)
    page = tab.go()
    tab.ask("Reload me")
    wait_words(page, 8)
    page.reload()
    wait_words(page, 20)
    assert_whole(page, place)


def test_a_second_tab_follows_the_same_answer(open_tab: Callable[..., Tab], place: Place) -> None:
    tab = open_tab(place)
    page = tab.go()
    tab.ask("Two tabs")
    wait_words(page, 4)
    page.wait_for_url(re.compile(r"c="))
    second = tab.open_page()
    second.goto(page.url)
    wait_words(second, 12)
    assert_whole(second, place)
    assert_whole(page, place)


def test_another_page_and_back_finds_the_answer_still_running(
    open_tab: Callable[..., Tab], place: Place
) -> None:
    tab = open_tab(place)
    page = tab.go()
    tab.ask("Going away")
    wait_words(page, 4)
    page.wait_for_url(re.compile(r"c="))
    address = page.url
    page.get_by_role("link", name="Usage").first.click()
    expect(page.get_by_role("heading", name="Usage")).to_be_visible()
    page.goto(address)
    wait_words(page, 10)
    assert_whole(page, place)


def test_a_cut_socket_comes_back_to_the_answer(
    open_tab: Callable[..., Tab], place: Place, app: AppProcess
) -> None:
    proxy = Proxy(app.port)
    tab = open_tab(place, url=f"http://127.0.0.1:{proxy.port}")
    page = tab.go()
    tab.ask("Cut me")
    wait_words(page, 6)
    proxy.cut()
    assert_whole(page, place)
    tab.complaints.clear()  # of the cut itself, which the console may well mention


def test_stop_takes_effect_at_once_while_the_provider_is_silent(
    open_tab: Callable[..., Tab], place: Place, upstream: Upstream
) -> None:
    silent = answer_of(WORDS[:6], gap_s=0.02)
    upstream.play_script(
        Script(silent.status_line, silent.headers, silent.pieces[:6], "silence", fresh_ids=True)
    )
    tab = open_tab(place)
    page = tab.go()
    tab.ask("Stop me")
    wait_words(page, 5)
    time.sleep(0.5)
    call_id = turn_of(place).call_id
    began = time.time()
    page.get_by_role("button", name="Stop").first.click()
    turn = wait_ended(place)
    with db.transaction(TESTS) as session:
        settled_at = session.get_one(Call, call_id).settled_at
    assert settled_at is not None
    assert turn.status == "stopped"
    assert settled_at.timestamp() - began < 1.0  # the click itself takes the browser its time
    expect(page.get_by_text("stopped", exact=False).first).to_be_visible()
    expect(page.get_by_test_id("stChatMessage").last).to_contain_text("word5")


def test_stop_works_from_a_tab_that_did_not_ask(open_tab: Callable[..., Tab], place: Place) -> None:
    tab = open_tab(place)
    page = tab.go()
    tab.ask("Stop from elsewhere")
    wait_words(page, 3)
    page.wait_for_url(re.compile(r"c="))
    second = tab.open_page()
    second.goto(page.url)
    wait_words(second, 8)
    second.get_by_role("button", name="Stop").first.click()
    assert wait_ended(place).status == "stopped"
    assert "word59" not in answer_on(second)


def test_a_refusal_keeps_the_words_and_names_the_limit(open_tab: Callable[..., Tab]) -> None:
    poor = make_place(credit_usd=0)
    tab = open_tab(poor)
    page = tab.go()
    tab.ask("A question nobody may lose")
    expect(page.get_by_text("Not enough credit").first).to_be_visible()
    expect(page.get_by_test_id("stChatInputTextArea")).to_have_value("A question nobody may lose")


def test_somebody_elses_conversation_looks_like_a_missing_one(
    open_tab: Callable[..., Tab], place: Place
) -> None:
    tab = open_tab(place)
    page = tab.go()
    tab.ask("Mine")
    page.wait_for_url(re.compile(r"c="))
    address = page.url.split("?")[1]
    wait_ended(place)
    other = open_tab(make_place())
    texts = []
    for query in (address, f"c={UUID(int=7)}", "c=nonsense"):
        seen = other.go(f"/?{query}")
        expect(seen.get_by_text("There is no such conversation.")).to_be_visible()
        expect(seen.get_by_role("button", name="Start a new chat")).to_be_visible()
        texts.append(seen.get_by_test_id("stMain").inner_text())
    assert len(set(texts)) == 1


def test_conversations_are_renamed_and_deleted(open_tab: Callable[..., Tab], place: Place) -> None:
    tab = open_tab(place)
    page = tab.go()
    tab.ask("A title to change")
    assert_whole(page, place)
    page.get_by_test_id("stMenuButton").first.click()
    page.get_by_text("Rename", exact=True).first.click()
    page.get_by_role("textbox", name="Title").fill("Better title")
    page.get_by_test_id("stDialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="Better title")).to_be_visible()
    page.get_by_test_id("stMenuButton").first.click()
    page.get_by_text("Delete", exact=True).first.click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    expect(page.get_by_text("what shall we do?")).to_be_visible()
    with db.transaction(TESTS) as session:
        left = session.scalars(select(Message).where(Message.tenant_id == place.tenant_id)).all()
    assert left == []
