"""One act of a page: runs it in one transaction, says what came of it, and shows a refusal as such.
Asking first is the caller's, who knows what will happen. Afterwards what asked is closed and empty,
so that a second press cannot act again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import streamlit as st
from sqlalchemy.orm import Session

from core import db, errors
from core.db import Who
from core.money import NotCents, NotMoney
from pages.widgets import refusals
from pages.widgets import session as tab

T = TypeVar("T")
Work: TypeAlias = Callable[[Session], T]
_ROUND, _SAID = "acts_done", "acts_said"


def attempt(who: Who, work: Work[T]) -> T | None:
    """What `work` returned; None after a refusal, which is drawn and has changed nothing."""

    def in_one() -> T:
        with db.transaction(who) as session:
            return work(session)

    return attempt_alone(in_one)


def attempt_alone(work: Callable[[], T]) -> T | None:
    """The same for an act that opens its own transactions, because it asks Stripe in between."""
    try:
        with db.use_lane(db.Lane.WEB):  # a click waits for nobody's figures
            return work()
    except NotCents:
        st.warning("What is paid is in whole cents, such as 12.50.", icon=":material/info:")
    except NotMoney:
        st.warning("An amount is written in USD, such as 12.50.", icon=":material/info:")
    except errors.Refusal as refusal:
        refusals.show(refusal)
    return None


def done(said: str) -> None:
    """Say that it is done (`said` is Markdown) and draw the page anew, with what changed."""
    tab.keep(_SAID, said)
    renew()


def tell() -> None:
    """Say what the run before has done. A run that draws anew at once would lose the words."""
    if said := tab.recall(_SAID, ""):
        tab.drop(_SAID)
        st.toast(said, icon=":material/check:")


def renew() -> None:
    """Draw the page anew, with every widget whose key is of `fresh` closed and empty."""
    tab.keep(_ROUND, tab.recall(_ROUND, 0) + 1)
    st.rerun()


def fresh(name: str) -> str:
    """A widget's key that changes with every act done."""
    return f"{name}_{tab.recall(_ROUND, 0)}"
