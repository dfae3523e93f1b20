"""What surrounds every page: the account links, the style, and trouble said plainly."""

from __future__ import annotations

import html
from collections.abc import Sequence
from urllib.parse import quote

import streamlit as st
from streamlit.navigation.page import Page

from shared.accounts.policy import Actor
from shared.config import get_settings
from shared.errors import BharatVerseError

_STYLE = """
<style>
.stMainBlockContainer { padding-top: 2rem; }
.bv-account { font-size: .9rem; margin: 0; }
.stHtml a { color: inherit; text-decoration: underline; }
[data-testid="stPageLink"] a p { text-decoration: underline; text-underline-offset: .25em; }
.st-key-header [data-testid="stPageLink"] a p { text-decoration: none; }
/* Room above and below the line: Nastaliq needs it, and clipped it reads as other letters. */
[data-testid="stPageLink"] a * { overflow: visible !important; line-height: 1.9; }
/* A long title takes a second line on a phone. */
[data-testid="stPageLink"] a p { white-space: normal; overflow-wrap: anywhere; }
.st-key-header [data-testid="stPageLink"] a p { white-space: nowrap; }
:lang(ur) { line-height: 2.4 !important; }
[data-testid="stCaptionContainer"] { color: inherit; opacity: .8; }
.bv-title { overflow-wrap: anywhere; line-height: 1.4; padding: .5rem 0 0; }
.bv-prose { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.8; font-size: 1.1rem;
  unicode-bidi: isolate; }
.bv-number { font-size: 1.8rem; font-weight: 600; line-height: 1.1; }
.bv-number + div { opacity: .75; }
.bv-quiet { font-size: .9rem; opacity: .8; }
.bv-numbers { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 0; }
.bv-numbers div { margin: 0; }
</style>
"""


def show_header(pages: Sequence[Page], actor: Actor, must_change_password: bool) -> None:
    """The way to every page, and signing in or out; three links fit the narrowest phone."""
    st.html(_STYLE)
    with st.container(key="header", horizontal=True, vertical_alignment="center"):
        for page in pages:
            st.page_link(page)
        st.space("stretch")
        st.html(_account_links(actor), width="content")
    if must_change_password:
        st.title("One more step")
        st.info("Your password was made for one use. Choose your own, then everything is open.")
        st.html("<p><a href='/password'>Choose a new password</a></p>")


def _account_links(actor: Actor) -> str:
    if actor.user_id is None:
        return f"<p class='bv-account'><a href='{sign_in_path()}'>Sign in</a></p>"
    return (
        f"<p class='bv-account'>{html.escape(actor.name)} · "
        "<a href='/password'>Password</a> · <a href='/sign-out'>Sign out</a></p>"
    )


def sign_in_path() -> str:
    """The sign-in page, which comes back to this page afterwards."""
    here = str(st.context.url or "/")
    path = "/" + here.split("://", 1)[-1].partition("/")[2]
    query = "&".join(f"{key}={quote(value)}" for key, value in st.query_params.items())
    return "/sign-in?next=" + quote(path.partition("?")[0] + (f"?{query}" if query else ""))


def show_sign_up_hint() -> None:
    """How a visitor gets to contribute."""
    st.html(f"<p><a href='{sign_in_path()}'>Sign in</a> to go on.</p>")
    if get_settings().self_registration:
        st.html("<p>No account yet? <a href='/sign-up'>Make one</a>.</p>")
    else:
        st.caption("Accounts are made by the archive's admins. Reading needs none.")


def show_trouble(error: BharatVerseError) -> None:
    """A page that could not be shown says why, in a sentence."""
    st.error(error.sentence, icon=":material/error:")
    if st.button("Try again", icon=":material/refresh:"):
        st.rerun()
