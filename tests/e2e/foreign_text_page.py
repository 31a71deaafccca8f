"""Draws the whole corpus of foreign text in every way that pages do; run by `streamlit run`."""

from __future__ import annotations

import streamlit as st

from pages.widgets.markdown import Cleaner
from pages.widgets.text import clean, plain
from tests.foreign_text import CASES

first = int(st.query_params.get("first", "0"))
for number, case in list(enumerate(CASES))[first : first + int(st.query_params.get("count", "10"))]:
    with st.container(key=f"answer_{number}"):
        st.markdown(clean(case.source))
    with st.container(key=f"half_{number}"):
        for part in (1, 2):
            st.markdown(Cleaner().feed(case.source[: len(case.source) * part // 3]))
    with st.container(key=f"typed_{number}"):
        st.text(case.source)
    label = plain(case.source[:200])
    with st.container(key=f"label_{number}"):
        st.caption(label)
        st.button(label, key=f"button_{number}", help=label)
        st.badge(label)
        st.expander(label)
st.container(key="end").text("end")
