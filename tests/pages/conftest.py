"""Pages run by Streamlit's AppTest against the real core: a real database, a real engine on its own
thread, and the demo provider on a loopback port. Only the cookie is given by hand."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from core import db, settings
from core.billing import ledger
from core.catalog import demo, registry, sync
from core.catalog.demo import Pace
from core.catalog.demo_models import DEMO_MODELS
from core.catalog.registry import connect
from core.chat import engine
from core.chat.engine import Engine
from core.db import Database
from core.identity import tenants
from core.identity.access import Operator, Principal, Role
from pages.widgets import session as tab
from tests.identity.people import SYSTEM, Browser, a_tenant, a_user, join, sign_in

MAIN = Path(__file__).parents[2] / "pages" / "main.py"
T = TypeVar("T")


class Loop:
    """An event loop on a thread, as the server's is."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="session", autouse=True)
def _catalogue(database: Database) -> None:
    """The models that every page may name, also beside those other tests have made."""
    rows = [model.catalogue_row() for model in DEMO_MODELS.values()]
    with db.transaction(SYSTEM) as session:
        sync.seed(session, development=True, now=datetime.now(UTC))
        sync.apply(session, registry.DEMO, rows, source="tests", now=datetime.now(UTC))


@pytest.fixture
def answering(_answering: Engine) -> Engine:
    """The engine of this process; tests of other rooms install engines of their own."""
    engine.install(_answering)
    return _answering


@pytest.fixture(scope="session")
def _answering(_catalogue: None) -> Iterator[Engine]:
    """An engine whose demo models answer at a quick pace."""
    loop = Loop()

    async def start() -> tuple[Engine, demo.DemoServer]:
        server = await demo.serve(pace=Pace(first_token_s=0.01, tokens_per_s=2_000))
        made = Engine(connect(settings.current(), demo_url=server.url))
        return made, server

    made, server = loop.run(start())
    engine.install(made)
    yield made
    loop.run(made.drain(5))
    engine.install(None)
    loop.run(_close(made, server))
    loop.close()


async def _close(made: Engine, server: demo.DemoServer) -> None:
    for provider in made.providers.values():
        await provider.close()
    await server.close()


@dataclass(frozen=True, slots=True)
class Person:
    """A signed-in person of a test, who can open pages."""

    browser: Browser

    @property
    def principal(self) -> Principal:
        return self.browser.principal

    @property
    def operator(self) -> Operator:
        assert self.browser.signed_in.operator is not None
        return self.browser.signed_in.operator


@pytest.fixture(scope="session", autouse=True)
def _components_looked_for_once() -> Iterator[None]:
    """Each new AppTest reads the metadata of every installed package, in search of components: most of
    the time of a small page."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", once)
        yield


@pytest.fixture
def cookie(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Sets the session token that every following run of a page comes with."""

    def put(token: str | None) -> None:
        monkeypatch.setattr(tab, "token", lambda: token)

    put(None)
    return put


@pytest.fixture
def person(answering: Engine) -> Callable[..., Person]:
    """Makes a signed-in person in a tenant of their own (or in `tenant_id`).

    `credit_nusd` (default one dollar) is granted to a new tenant; `terms` are the tenant's plan,
    mode and time_zone.
    """

    def make(
        role: Role = Role.MEMBER,
        *,
        tenant_id: UUID | None = None,
        operator: bool = False,
        credit_nusd: int = 1_000_000_000,
        **terms: str,
    ) -> Person:
        if tenant_id is None:
            tenant_id = a_tenant(**{"plan": "pro"} | terms)
            _open_wallet(tenant_id, terms.get("mode", "prepaid"), credit_nusd)
        user_id = a_user()
        join(tenant_id, user_id, role)
        if operator:
            with db.transaction(SYSTEM) as session:
                tenants.make_operator(session, SYSTEM, user_id, confirmed=True)
        return Person(sign_in(user_id))

    return make


@pytest.fixture
def open_page(cookie: Callable[[str | None], None]) -> Callable[..., AppTest]:
    """Runs the app as `person` (None: nobody) on a page ('usage.py'; '' is Chat) and returns it.

    Later runs of any opened page come with the cookie of the person opened last.
    """

    def go(who: Person | None, page: str = "", **query: str) -> AppTest:
        cookie(who.browser.token if who else None)
        app = AppTest.from_file(MAIN, default_timeout=20)
        app.query_params.update(query)
        app.run()
        if page:
            app.switch_page(page).run()
        return app

    return go


@pytest.fixture
def open_alone(cookie: Callable[[str | None], None]) -> Callable[[str], AppTest]:
    """Runs one page's file by itself, without the frame, as nobody."""

    def go(page: str) -> AppTest:
        cookie(None)
        return AppTest.from_file(MAIN.with_name(page), default_timeout=20).run()

    return go


def _open_wallet(tenant_id: UUID, mode: str, credit_nusd: int) -> None:
    with db.transaction(SYSTEM) as session:
        ledger.open_account(session, tenant_id, mode=mode)
        if credit_nusd:
            ledger.grant(
                session, tenant_id, credit_nusd, kind="manual", key=f"tests:{tenant_id}",
                actor="tests", reason="for a test",
            )  # fmt: skip
