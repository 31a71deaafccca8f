"""The page's address as the person sees it: which conversation `?c=` names, which invitation
`?invite=` opens. It is typed by anybody, so it is words only until the core finds them for whoever asks."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

_NAME, _INVITE = "c", "invite"


def asked() -> str:
    """What `?c=` says, whatever it is; empty for none."""
    return str(st.query_params.get(_NAME, ""))


def conversation_id() -> UUID | None:
    """The id that `?c=` holds; None for none and for what is no id."""
    try:
        return UUID(asked())
    except ValueError:
        return None


def open_conversation(conversation_id: UUID | str) -> None:
    """Make the address that of a conversation."""
    if asked() != str(conversation_id):
        st.query_params[_NAME] = str(conversation_id)


def open_none() -> None:
    """Make the address that of a new chat."""
    st.query_params.pop(_NAME, None)


def invite() -> str:
    """The token that `?invite=` holds; empty for none."""
    return str(st.query_params.get(_INVITE, ""))


def forget_invite() -> None:
    """Take the token out of the address."""
    st.query_params.pop(_INVITE, None)
