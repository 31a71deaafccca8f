"""An open tab after its session has ended: it reads nothing more, and shows the sign-in by itself. What a
browser would not do (a stranger who knows a tab's id, a socket that is reopened) is asked for by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import pytest
from playwright.sync_api import expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from core import db
from core.identity import members, sessions, tenants
from core.identity.access import Role
from tests.analytics.using import use
from tests.e2e.conftest import Tab
from tests.factories import TESTS, Place, make_model, make_place
from tests.identity.people import sign_in
from tests.processes import AppProcess

pytestmark = pytest.mark.browser
WITHIN_MS = 60_000  # a browser on a busy machine; test_sockets says how soon the server acts
_RUN_TIMEOUT_S = 30


@dataclass
class Drawn:
    """What came of a run: the kinds of what was drawn, by the part of the page it belongs to."""

    parts: dict[str, list[str]] = field(default_factory=dict)
    is_whole_page: bool = False

    @property
    def kinds(self) -> set[str]:
        return {kind for kinds in self.parts.values() for kind in kinds}


class Wire:
    """A tab as the server sees it, without a browser that would obey."""

    def __init__(self, app: AppProcess, token: str | None, session_id: str = "") -> None:
        self._app, self._token = app, token
        self.session_id, self._page_hash = session_id, ""
        protocols = ["streamlit", "nothing", *([session_id] if session_id else [])]
        self.socket: ClientConnection = connect(
            f"ws://127.0.0.1:{app.port}/_stcore/stream", origin=Origin(app.url), max_size=None,
            additional_headers={"Cookie": f"purser_session={token}"} if token else {},
            subprotocols=[Subprotocol(name) for name in protocols],
        ).__enter__()  # fmt: skip

    def again(self, token: str | None) -> Self:
        """The same tab over a new socket with this cookie."""
        self.close()
        made = type(self)(self._app, token, self.session_id)
        made._page_hash = self._page_hash
        return made

    def close(self) -> None:
        self.socket.close()

    def run(self, *, part: str = "") -> Drawn:
        """Ask for the page, or for one part of it; what was drawn until the run was over."""
        message = BackMsg()
        state = message.rerun_script
        state.page_name, state.page_script_hash, state.fragment_id = "usage", self._page_hash, part
        state.context_info.timezone = "UTC"
        state.widget_states.SetInParent()
        self.socket.send(message.SerializeToString())
        return self._until_over()

    def _until_over(self) -> Drawn:
        drawn, run_id = Drawn(), ""
        while True:
            said = ForwardMsg.FromString(bytes(self.socket.recv(_RUN_TIMEOUT_S, decode=False)))
            kind, of = said.WhichOneof("type"), said.metadata.run.script_run_id
            if kind == "new_session":
                run_id = of
                drawn.is_whole_page = not said.metadata.run.fragment_ids
                self.session_id = said.new_session.initialize.session_id
                self._page_hash = said.new_session.page_script_hash
            elif kind == "navigation":
                self._page_hash = said.navigation.page_script_hash or self._page_hash
            elif kind == "delta" and said.delta.WhichOneof("type") == "new_element":
                element = said.delta.new_element.WhichOneof("type")
                drawn.parts.setdefault(said.delta.fragment_id, []).append(str(element))
            elif kind == "script_finished" and of == run_id:
                if said.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    continue
                return drawn


FIGURES = {"metric", "plotly_chart", "arrow_data_frame", "progress"}


@pytest.fixture
def team() -> Place:
    """A team's admin, whose team used something."""
    place = make_place(role="admin")
    use(place.who, make_model(), "0.25")
    return place


def test_no_part_of_an_open_page_reads_for_whoever_is_gone(app: AppProcess, team: Place) -> None:
    first = sign_in(team.user_id)
    tab = Wire(app, first.token)
    drawn = tab.run()
    parts = [part for part, kinds in drawn.parts.items() if part and FIGURES & set(kinds)]
    assert len(parts) >= 12
    assert FIGURES & tab.run(part=parts[0]).kinds  # a part by itself, while the session lives
    tab.close()
    for number, part in enumerate(parts):
        browser = sign_in(team.user_id)
        tab = Wire(app, browser.token)
        tab.run()
        sessions.end(browser.token)
        token = None if number % 2 else browser.token
        time.sleep(1.1 if token else 0)  # a look at a session is believed for a second
        stranger = tab.again(token)
        drawn = stranger.run(part=part)
        assert not FIGURES & drawn.kinds, part
        assert drawn.is_whole_page
        assert "text_input" in drawn.kinds  # the sign-in
        stranger.close()


def test_a_stranger_with_the_tabs_id_gets_their_own_figures(app: AppProcess, team: Place) -> None:
    """Somebody else's cookie on this tab: what they see is theirs, and the page is drawn anew."""
    other = make_place(role="member")
    browser, theirs = sign_in(team.user_id), sign_in(other.user_id)
    tab = Wire(app, browser.token)
    parts = [part for part, kinds in tab.run().parts.items() if FIGURES & set(kinds)]
    resumed = tab.again(theirs.token)
    drawn = resumed.run(part=parts[0])
    assert drawn.is_whole_page
    assert "metric" not in drawn.kinds  # they used nothing
    resumed.close()


@pytest.mark.parametrize("change", ["role", "disabled", "operator"])
def test_another_role_is_another_page(app: AppProcess, team: Place, change: str) -> None:
    with db.transaction(TESTS) as session:
        tenants.make_operator(session, TESTS, team.user_id, confirmed=True)
    browser = sign_in(team.user_id)
    tab = Wire(app, browser.token)
    parts = [part for part, kinds in tab.run().parts.items() if FIGURES & set(kinds)]
    with db.transaction(TESTS) as session:
        if change == "role":
            members.change(session, TESTS, team.tenant_id, team.user_id, role=Role.MEMBER)
        elif change == "disabled":
            tenants.disable_user(session, TESTS, team.user_id)
        else:
            tenants.dismiss_operator(session, TESTS, team.user_id)
    tab = tab.again(browser.token)
    time.sleep(1.1)  # a look at a session is believed for a second
    assert tab.run(part=parts[0]).is_whole_page
    tab.close()


def test_signing_out_in_one_tab_empties_the_other(
    open_tab: Callable[..., Tab], team: Place
) -> None:
    tab = open_tab(team)
    page = tab.go("/usage")
    expect(page.get_by_test_id("stMetric").first).to_be_visible()
    second = tab.open_page()
    second.goto(tab.url + "/account")
    second.locator(".st-key-person button").first.click()
    second.locator(".st-key-sign_out button").click()
    expect(second.locator("input[type=password]").first).to_be_visible()
    expect(page.locator("input[type=password]").first).to_be_visible(timeout=WITHIN_MS)
    expect(page.get_by_test_id("stMetric")).to_have_count(0)
    assert page.url.endswith("/usage")


@pytest.mark.parametrize("path", ["/", "/usage", "/billing", "/account", "/admin", "/finance"])
def test_an_ended_session_ends_every_open_page(
    open_tab: Callable[..., Tab], team: Place, path: str
) -> None:
    tab = open_tab(team)
    page = tab.go(path)
    expect(page.locator(".st-key-person button").first).to_be_visible()
    with db.transaction(TESTS) as session:
        members.sign_out(session, TESTS, None, team.user_id)
    expect(page.locator("input[type=password]").first).to_be_visible(timeout=WITHIN_MS)
    expect(page.locator(".st-key-person")).to_have_count(0)
