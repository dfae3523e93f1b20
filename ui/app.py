"""The Streamlit app: page config, who it is, navigation; nothing else."""

from __future__ import annotations

import streamlit as st

from shared.errors import BharatVerseError
from ui.components.frame import show_account_links, show_trouble
from ui.session import current_actor

st.set_page_config(page_title="BharatVerse", page_icon=":material/temple_hindu:", layout="centered")

PAGES = [
    st.Page("pages/home.py", title="Home", icon=":material/home:", default=True),
    st.Page("pages/contribute.py", title="Contribute", icon=":material/edit_note:"),
    st.Page("pages/jobs.py", title="Jobs", icon=":material/progress_activity:"),
    st.Page("pages/item.py", title="Item", visibility="hidden"),
]

page = st.navigation(PAGES, position="top")
try:
    actor, must_change_password = current_actor()
    show_account_links(actor, must_change_password)
    if must_change_password:
        st.stop()
    st.session_state["actor"] = actor
    page.run()
except BharatVerseError as error:
    show_trouble(error)
