"""The Streamlit app: page config, who it is, navigation; nothing else."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from shared.accounts.policy import Action, may
from shared.errors import BharatVerseError
from ui.components.frame import show_header, show_trouble
from ui.session import current_actor

# A file of our own: a Material icon here would be fetched from a server of Google's.
ICON = str(Path(__file__).with_name("favicon.svg"))
st.set_page_config(page_icon=ICON, layout="centered")

PAGES = [
    st.Page("views/home.py", title="Home", icon=":material/home:", default=True),
    st.Page("views/contribute.py", title="Contribute", icon=":material/edit_note:"),
    st.Page("views/jobs.py", title="Jobs", icon=":material/checklist:"),
]
OPERATIONS = st.Page("views/operations.py", title="Operations", icon=":material/monitoring:")
ITEM = st.Page("views/item.py", title="Item", visibility="hidden")

page = st.navigation([*PAGES, OPERATIONS, ITEM], position="hidden")
try:
    actor, must_change_password = current_actor()
    linked = [*PAGES, OPERATIONS] if may(actor, Action.OPERATE) else PAGES
    show_header(linked, actor, must_change_password)
    if must_change_password:
        st.stop()
    st.session_state["actor"] = actor
    page.run()
except BharatVerseError as error:
    show_trouble(error)
