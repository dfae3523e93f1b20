"""What a browser's session may hold: who it is, and the draft that is being written.

Only ids and small choices live in `st.session_state`; who somebody is comes from the cookie, and is
asked of the database on every run, so that signing out elsewhere ends it here, too.
"""

from __future__ import annotations

import streamlit as st

from shared.accounts.policy import Actor
from shared.accounts.sign_in import actor_of
from ui.account_pages import SESSION_COOKIE


def current_actor() -> tuple[Actor, bool]:
    """Who looks at this page, and whether they have to choose a new password first."""
    return actor_of(st.context.cookies.get(SESSION_COOKIE))
