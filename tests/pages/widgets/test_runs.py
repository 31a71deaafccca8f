"""Telling a pressed stop from a rerun and from a closed tab, by what happens just after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import pytest

from pages.widgets import runs


@dataclass
class Server:
    """The part of Streamlit's server that knows which tabs are connected."""

    connected: bool = True

    def is_active_session(self, _tab_id: str) -> bool:
        return self.connected


@pytest.fixture
def tab(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A connected tab of its own."""
    server, tab_id = Server(), uuid4().hex
    monkeypatch.setattr(runs, "_tab_id", lambda: tab_id)
    monkeypatch.setattr(runs, "get_instance", lambda: server)
    runs.begin()
    return server


def judged(then: Callable[[], None]) -> bool:
    """Whether a stop was seen after the newest run was interrupted and `then` happened."""
    stopped = threading.Event()
    runs.on_interruption(runs.newest(), stopped.set)
    then()
    return stopped.wait(0.6)


def test_a_run_that_ends_with_nothing_after_it_was_stopped(tab: Server) -> None:
    assert judged(lambda: None)


def test_a_newer_run_takes_over(tab: Server) -> None:
    assert not judged(runs.begin)


def test_a_closed_tab_stops_nothing(tab: Server) -> None:
    assert not judged(lambda: setattr(tab, "connected", False))


def test_runs_are_counted_for_each_tab_and_old_tabs_are_forgotten() -> None:
    tabs = runs._Tabs()
    assert [tabs.begin("a"), tabs.begin("a"), tabs.begin("b")] == [1, 2, 1]
    for number in range(runs._TABS_MAX):
        tabs.begin(f"tab {number}")
    assert tabs.newest("a") == 0
    assert tabs.newest(f"tab {runs._TABS_MAX - 1}") == 1
