"""Which run of a tab is its newest, so that an interrupted follower can tell a pressed stop from a
rerun and from a closed tab: to the script all three look the same. It stops no answer itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

_TABS_MAX = 5_000
_JUDGE_AFTER_S = 0.22  # a rerun has begun by then; with the stop itself it stays below 0.3 s


class _Tabs:
    """The number of the newest run of each tab, the least recently used forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: OrderedDict[str, int] = OrderedDict()

    def begin(self, tab_id: str) -> int:
        with self._lock:
            number = self._newest.pop(tab_id, 0) + 1
            self._newest[tab_id] = number
            while len(self._newest) > _TABS_MAX:
                self._newest.popitem(last=False)
            return number

    def newest(self, tab_id: str) -> int:
        with self._lock:
            return self._newest.get(tab_id, 0)


_tabs = _Tabs()


def begin() -> None:
    """Note that a run of this tab has begun. The frame's first line."""
    if tab_id := _tab_id():
        _tabs.begin(tab_id)


def newest() -> int:
    """The number of this tab's newest run."""
    return _tabs.newest(_tab_id())


def on_interruption(run_number: int, pressed_stop: Callable[[], None]) -> None:
    """Call `pressed_stop` if run `run_number` of this tab was ended by its composer's stop button.

    Decided a moment later on another thread: by then a newer run has begun, or the tab is gone.
    """
    tab_id = _tab_id()

    def judge() -> None:
        if _tabs.newest(tab_id) == run_number and get_instance().is_active_session(tab_id):
            pressed_stop()

    timer = threading.Timer(_JUDGE_AFTER_S, judge)
    timer.daemon = True
    timer.start()


def _tab_id() -> str:
    context = get_script_run_ctx(suppress_warning=True)
    return context.session_id if context else ""
