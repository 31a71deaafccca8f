"""Who looks at this page, found anew in every run from this connection's cookie, and what a tab
keeps between runs. The only user of Streamlit's session state, which is never asked for a name."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core import db
from core.identity import cookies, sessions
from core.identity.access import Operator, Principal, Role, SignedIn

SIGN_IN_FIRST = "Please sign in to see this page."
_OWNER, _LOOKED_UP = "_owner", "_looked_up"
_BELIEVED_S = 1.0  # for so long parts of one page need not look again, each by itself
_LOOKS_MAX = 5_000

T = TypeVar("T")


def token() -> str | None:
    """The session token this connection came with."""
    found = st.context.cookies.get(cookies.named(cookies.SESSION))
    return str(found) if found else None


def known_browser() -> str | None:
    """What this browser kept of an earlier sign-in, for the lock of passwords."""
    found = st.context.cookies.get(cookies.named(cookies.KNOWN))
    return str(found) if found else None


def signed_in() -> SignedIn | None:
    """Whoever this connection's cookie stands for, looked up once in each run.

    A tab that was somebody else's is emptied first.
    """
    run = _run()
    known = st.session_state.get(_LOOKED_UP)
    if isinstance(known, _LookedUp) and run is not None and known.run is run:
        return known.found
    came_with = token()
    found = sessions.who(came_with)
    _looks.keep(came_with, found)
    principal = found.principal if found else None
    owner = (str(found.user_id), str(principal.tenant_id) if principal else "") if found else None
    if st.session_state.get(_OWNER) not in (None, owner):
        st.session_state.clear()
    st.session_state[_OWNER] = owner
    st.session_state[_LOOKED_UP] = _LookedUp(run, found)
    return found


@dataclass(frozen=True, slots=True)
class _LookedUp:
    """What one run found out. `run` is an object that Streamlit makes anew for every run."""

    run: object
    found: SignedIn | None


def _run() -> object:
    context = get_script_run_ctx(suppress_warning=True)
    return context.cursors if context else None


def require_signed_in() -> SignedIn:
    """The live session; without one the page says so and ends here."""
    found = signed_in()
    if found is None:
        st.info(SIGN_IN_FIRST, icon=":material/login:")
        st.stop()
    return found


def still(before: SignedIn) -> SignedIn | None:
    """Whoever looks now, if they are who did `before`; else the page is drawn anew, for whoever it is.

    May be called at any moment, from any thread of a run; looks again after a second. None where
    another thread of the run had the page drawn anew already: then there is nothing to do.
    """
    came_with = token()
    found = _looks.recent(came_with)
    if found is None or not before.is_same(found):
        with db.use_lane(
            db.Lane.WEB
        ):  # it must not wait for the figures of the page it is asked for
            found = sessions.still(came_with)
        _looks.keep(came_with, found)
    if found is None or not before.is_same(found):
        _draw_anew()
        return None
    return found


def _draw_anew() -> None:
    """`st.rerun`, which does return where another thread of the run asked for the same before."""
    st.rerun()


class _Looks:
    """What the last looks at sessions found, for a second; the least recent forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, tuple[float, SignedIn]] = OrderedDict()

    def keep(self, came_with: str | None, found: SignedIn | None) -> None:
        with self._lock:
            self._found.pop(came_with or "", None)
            if came_with and found is not None:
                self._found[came_with] = (time.monotonic(), found)
            while len(self._found) > _LOOKS_MAX:
                self._found.popitem(last=False)

    def recent(self, came_with: str | None) -> SignedIn | None:
        with self._lock:
            looked_at, found = self._found.get(came_with or "", (float("-inf"), None))
        return found if time.monotonic() - looked_at < _BELIEVED_S else None


_looks = _Looks()


def require(*roles: Role) -> Principal:
    """The person in their tenant, with one of `roles` (none: any). Every page's first line."""
    found = require_signed_in()
    principal = found.principal
    if principal is None:
        way_on = " Your work is under **Admin**." if found.operator else ""
        st.info(f"This page is for the people of a team, and you belong to none.{way_on}")
        st.stop()
    if roles and principal.role not in roles:
        st.warning("Your role does not allow this page.", icon=":material/lock:")
        st.stop()
    return principal


def require_operator() -> Operator:
    """The platform operator; for everybody else the page ends here."""
    operator = require_signed_in().operator
    if operator is None:
        st.warning("Only platform operators may see this page.", icon=":material/lock:")
        st.stop()
    return operator


def tick() -> None:
    """A point where Streamlit may end this run: called while nothing is drawn."""
    st.session_state.get(_OWNER)


def recall(name: str, default: T) -> T:
    """What this tab kept under `name`, where it has the type of `default`; else `default`."""
    found = st.session_state.get(name)
    return found if isinstance(found, type(default)) else default


def holds(name: str) -> object:
    """What this tab kept under `name`, or a widget's value of that key; None for nothing."""
    value: object = st.session_state.get(name)
    return value


def keep(name: str, value: object) -> None:
    """Keep a value for this tab's next runs, or set a widget's value before it is drawn."""
    st.session_state[name] = value


def drop(*names: str) -> None:
    """Forget what was kept under these names."""
    for name in names:
        st.session_state.pop(name, None)
