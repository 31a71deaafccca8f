"""Pages that read figures do so on connections of their own: while they wait, chats and clicks do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from core import db, lanes, settings
from core.chat import conversations
from core.db import Database, Lane
from core.identity import sessions
from core.identity.access import Principal, Role
from pages.widgets import acts, cached
from tests.analytics.using import use
from tests.factories import make_model
from tests.pages.conftest import Person

SHARE = lanes.LIMITS[Lane.ANALYTICS].tenant_max
_READS = 18  # parts of one Usage page
_AT_WORK = """
select count(*) from pg_stat_activity
where application_name = 'purser analytics' and state = 'active' and datname = current_database()
"""


@pytest.fixture
def impatient(database: Database, database_url: str) -> Iterator[Database]:
    """This process's connections, with figures that give up soon, so that a test need not wait."""
    limits = dict(lanes.LIMITS)
    limits[Lane.ANALYTICS] = replace(limits[Lane.ANALYTICS], wait_s=0.3)
    made = Database(settings.current(), database_url, limits=limits)
    db.install(made)
    yield made
    db.install(database)
    made.close()


@contextmanager
def figures_are_read(who: Principal) -> Iterator[None]:
    """All that this tenant may read of figures at once is being read."""
    with ExitStack() as stack:
        with db.use_lane(Lane.ANALYTICS):
            for _ in range(SHARE):
                stack.enter_context(db.transaction(who))
        yield


@pytest.mark.parametrize("page", ["usage.py", "finance.py"])
def test_a_page_of_figures_waits_for_its_own_kind_only(
    person: Callable[..., Person], open_page: Callable[..., AppTest], impatient: Database, page: str
) -> None:
    admin = person(Role.ADMIN)
    use(admin.principal, make_model(), "0.2")
    with figures_are_read(admin.principal):
        app = open_page(admin, page)
        assert not app.metric
        assert not app.dataframe
        assert app.exception  # the server says in words that figures are busy (app.on_script_error)
        chat = open_page(admin)
        assert chat.chat_input
        chat.chat_input[0].set_value("Hello?").run()
        assert len(chat.chat_message) >= 2
    assert open_page(admin, page).header


def test_a_click_does_not_wait_for_the_figures_around_it(
    person: Callable[..., Person], impatient: Database
) -> None:
    admin = person(Role.ADMIN).principal
    with figures_are_read(admin), db.use_lane(Lane.ANALYTICS):
        found = acts.attempt(admin, lambda session: conversations.listing(session, admin))
    assert found == []


def slowly(session: Session, who: Principal, number: int) -> int:
    """A figure that takes its time."""
    session.execute(text("select pg_sleep(0.15)"))
    return number


def test_chats_are_as_quick_while_figures_are_read(
    person: Callable[..., Person], database_url: str
) -> None:
    """Eighteen threads read figures of one tenant; p95 of what its chats read stays what it was."""
    someone = person(Role.ADMIN)
    who = someone.principal
    idle_s = p95_s(someone)
    most = _Most(database_url)
    with ThreadPoolExecutor(_READS, initializer=db.enter_lane, initargs=(Lane.ANALYTICS,)) as pool:
        reading = [pool.submit(cached.read, slowly, who, number) for number in range(_READS)]
        most.start()
        busy_s = p95_s(someone)
        assert not all(read.done() for read in reading)
        assert sorted(read.result() for read in reading) == list(range(_READS))
    assert 0 < most.end() <= SHARE
    assert busy_s <= 2 * idle_s + 0.05  # the machine may be busy with other tests


class _Most:
    """How many connections were at work on figures at once, at most."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._seen, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._seen

    def _look(self) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            while not self._over.wait(0.02):
                row = connection.execute(_AT_WORK).fetchone()
                self._seen = max(self._seen, row[0] if row else 0)


def p95_s(someone: Person, count: int = 40) -> float:
    """What a chat asks of the database: who it is, and its conversations."""
    took_s = []
    for _ in range(count):
        began = time.perf_counter()
        assert sessions.who(someone.browser.token) is not None
        with db.transaction(someone.principal) as session:
            conversations.listing(session, someone.principal)
        took_s.append(time.perf_counter() - began)
    return sorted(took_s)[int(count * 0.95) - 1]
