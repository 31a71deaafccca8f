"""The baseline page: bare Streamlit with 30 messages, no sign-in, no storage, no money.

Started by `benchmarks.processes.running_bare_chat`, with the collection after each run off.
"""

from __future__ import annotations

import os

import streamlit as st
from openai import OpenAI

from benchmarks import fakes

MESSAGES = 30


def draw() -> None:
    """One run of the page."""
    history = st.session_state.setdefault("history", _history())
    for role, text in history:
        with st.chat_message(role):
            st.markdown(text)
    if not (prompt := st.chat_input("Ask")):
        return
    history.append(("user", prompt))
    with st.chat_message("user"):
        st.markdown(prompt)
    stream = _client().chat.completions.create(
        model=fakes.BROWSER_MODEL, messages=[{"role": "user", "content": prompt}], stream=True
    )
    with st.chat_message("assistant"):
        history.append(("assistant", st.write_stream(stream)))


@st.cache_resource
def _client() -> OpenAI:
    return OpenAI(base_url=os.environ["BENCH_UPSTREAM_URL"], api_key="unused")


def _history() -> list[tuple[str, str]]:
    roles = ("user", "assistant")
    return [(roles[i % 2], f"Message {i} of a conversation. " * 10) for i in range(MESSAGES)]


if __name__ == "__main__":
    draw()
