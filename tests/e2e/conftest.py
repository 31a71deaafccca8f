"""A real browser on the real app: one app process for the layer, a scripted provider behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Request,
    expect,
    sync_playwright,
)

from core.billing import connection, stripe_api
from core.billing.checkout import confirm, start_package
from core.billing.sales_tables import Order
from core.db import Database
from core.identity import sessions
from core.settings import Settings
from tests.factories import Place
from tests.processes import AppProcess
from tests.upstream import Upstream

CHROMIUMS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-features=LocalNetworkAccessChecks",  # of a page whose headers a test has changed
]  # fmt: skip
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
expect.set_options(timeout=20_000)  # a busy machine draws late; speed is the benchmarks' matter
_REPORT_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (e) =>
  console.error(`policy violated: ${e.violatedDirective} ${e.blockedURI}`))"""
PICTURES = Path(__file__).parent.parent.parent / "docs" / "pictures"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; its absence fails, it does not skip."""
    found = next((path for path in CHROMIUMS if Path(path).exists()), None)
    assert found, "the browser layer needs Chromium: sudo apt-get install chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with Upstream() as served:
        yield served


@pytest.fixture(scope="session")
def app(
    database: Database,
    database_url: str,
    upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AppProcess]:
    environment = {
        "DATABASE_URL": database_url, "OPENROUTER_API_KEY": "sk-or-canary-0451",
        "OPENROUTER_BASE_URL": upstream.url,
    }  # fmt: skip
    with AppProcess(tmp_path_factory.mktemp("app"), environment) as started:
        yield started


class StandIn:
    """The hand of a bank, a buyer or time on the app's stand-in for Stripe."""

    def __init__(self, url: str) -> None:
        self.url = url

    def order(self, control: str, **fields: str) -> None:
        """Give the stand-in's desk one order."""
        httpx2.post(f"{self.url}/sandbox/{control}", json=fields).raise_for_status()

    def has_card(self, customer_id: str, card: str) -> None:
        """The customer's card from now on: one of the stand-in's cards by name."""
        visit = urlsplit(stripe_api.current().portal_url(customer_id, return_url=self.url)).path
        answer = httpx2.post(f"{self.url}{visit}", data={"act": "add", "name": card})
        assert answer.status_code == 303

    def buys(self, place: Place, package: str = "pro") -> Order:
        """A package, ordered, paid by card and booked without a browser."""
        order = start_package(place.who, package, click_key=uuid4().hex)
        assert order.session_url and order.session_id
        assert httpx2.post(order.session_url, data={"how": "card"}).status_code == 303
        return confirm(place.who, order.session_id)


@pytest.fixture(scope="session")
def stand_in(app: AppProcess) -> Iterator[StandIn]:
    """The app's own stand-in; what runs in this process buys through it too."""
    folder = Path(app.environment["PURSER_DATA_DIR"])
    configured = Settings(purser_data_dir=folder, app_env="development", app_url=app.url)
    with connection.connected(configured):
        yield StandIn(f"http://127.0.0.1:{(folder / 'stripe_sandbox' / 'port').read_text()}")


def watch(page: Page, complaints: list[str], url: str) -> None:
    """Keep what goes wrong on a page: errors, violations of its policy, requests to other hosts."""
    own = urlsplit(url).hostname

    def ask(request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme in {"http", "https", "ws", "wss"} and asked.hostname != own:
            complaints.append(f"asked another host: {request.url}")

    page.add_init_script(_REPORT_VIOLATIONS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", ask)
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )


class Tab:
    """A browser context with one page, which remembers what the console complained about."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        self.complaints: list[str] = []
        self.page = self.open_page()

    def open_page(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(30_000)
        watch(page, self.complaints, self.url)
        return page

    def become(self, person: Place | UUID) -> Self:
        """Whoever looks from now on: a place's person, or a user by id."""
        user_id = person.user_id if isinstance(person, Place) else person
        token = sessions.redeem(sessions.issue_ticket(user_id), "127.0.0.1", "tests")
        cookie = {"name": "purser_session", "value": str(token), "url": self.url}
        self.context.add_cookies([cookie])  # type: ignore[list-item]
        return self

    def go(self, path: str = "/") -> Page:
        self.page.goto(self.url + path)
        self.page.get_by_test_id("stApp").wait_for()
        return self.page

    def ask(self, text: str) -> None:
        box = self.page.get_by_test_id("stChatInputTextArea")
        box.fill(text)
        box.press("Enter")

    def picture(self, name: str) -> None:
        """Keep a picture for the guide, when pictures are being made."""
        if os.environ.get("PURSER_PICTURES"):
            PICTURES.mkdir(exist_ok=True)
            self.page.wait_for_timeout(800)
            self.page.screenshot(path=str(PICTURES / f"{name}.png"))


@pytest.fixture
def open_tab(browser: Browser, app: AppProcess) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, signed in as a place's person (or user id) where one is given."""
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def make(
        person: Place | UUID | None = None,
        *,
        phone: bool = False,
        dark: bool = False,
        url: str = "",
    ) -> Tab:
        context = browser.new_context(
            viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        tabs.append(Tab(context, url or app.url))
        if person is not None:
            tabs[-1].become(person)
        return tabs[-1]

    yield make
    complaints = [complaint for tab in tabs for complaint in tab.complaints]
    for context in contexts:
        context.close()
    assert complaints == [], "the browser's console complained"
