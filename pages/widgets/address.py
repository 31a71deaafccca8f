"""The page's address as the person sees it: which conversation `?c=` names, which tenant `?tenant=`,
which invitation `?invite=` opens. It is typed by anybody, so it is words only until the core finds them
for whoever asks."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

_NAME, _TENANT, _INVITE = "c", "tenant", "invite"


def asked() -> str:
    """What `?c=` says, whatever it is; empty for none."""
    return str(st.query_params.get(_NAME, ""))


def conversation_id() -> UUID | None:
    """The id that `?c=` holds; None for none and for what is no id."""
    return _id(asked())


def open_conversation(conversation_id: UUID | str) -> None:
    """Make the address that of a conversation."""
    if asked() != str(conversation_id):
        st.query_params[_NAME] = str(conversation_id)


def open_none() -> None:
    """Make the address that of a new chat."""
    st.query_params.pop(_NAME, None)


def tenant() -> str:
    """What `?tenant=` says, whatever it is; empty for none."""
    return str(st.query_params.get(_TENANT, ""))


def tenant_id() -> UUID | None:
    """The id that `?tenant=` holds; None for none and for what is no id."""
    return _id(tenant())


def open_tenant(tenant_id: UUID | None) -> None:
    """Make the address that of a tenant; None of none."""
    if tenant_id is None:
        st.query_params.pop(_TENANT, None)
    elif tenant() != str(tenant_id):
        st.query_params[_TENANT] = str(tenant_id)


def invite() -> str:
    """The token that `?invite=` holds; empty for none."""
    return str(st.query_params.get(_INVITE, ""))


def forget_invite() -> None:
    """Take the token out of the address."""
    st.query_params.pop(_INVITE, None)


def _id(said: str) -> UUID | None:
    try:
        return UUID(said)
    except ValueError:
        return None
