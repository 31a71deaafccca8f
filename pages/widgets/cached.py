"""Figures kept for a few seconds, so that a click does not read them again. Keyed by the tenant
first, then the person and what they may see: nothing is ever shared across tenants or people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import streamlit as st
from sqlalchemy.orm import Session

from core import db
from core.identity.access import Operator, Principal

_TTL_S = 5
_OPERATOR = "operator"
P = ParamSpec("P")
T = TypeVar("T")
Who = TypeVar("Who", Principal, Operator, Principal | Operator)


def read(
    verb: Callable[Concatenate[Session, Who, P], T], who: Who, *args: P.args, **kwargs: P.kwargs
) -> T:
    """What `verb` reads for `who`, at most a few seconds old. Its arguments are values whose text
    says all of them, and what it returns can be copied."""
    named = f"{verb.__module__}.{verb.__qualname__}{args!r}{sorted(kwargs.items())!r}"

    def work() -> T:
        with db.transaction(who) as session:
            return verb(session, who, *args, **kwargs)

    found: T = _read(*_key(who), named, work)
    return found


def _key(who: Principal | Operator) -> tuple[str, str, str]:
    """Whose figures they are: tenant, person, and everything that changes what they are shown."""
    if isinstance(who, Operator):
        return _OPERATOR, str(who.user_id), _OPERATOR
    return str(who.tenant_id), str(who.user_id), f"{who.role} {who.time_zone} {who.plan}"


@st.cache_data(ttl=_TTL_S, max_entries=2_000, show_spinner=False)
def _read(tenant: str, person: str, sight: str, named: str, _work: Callable[[], Any]) -> Any:
    del tenant, person, sight, named  # they are the key; the reading is bound to its person
    return _work()
