"""Contribute: one form that asks little. The draft stays until it is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from shared.accounts.policy import Action, Actor, SignInNeeded, may
from shared.archive import items
from shared.archive.checks import MAX_TITLE_LENGTH, check_text, check_title
from shared.archive.drafts import load_draft, save_draft
from shared.database.models import Visibility, new_id
from shared.enrichment.languages import LANGUAGES
from shared.errors import BharatVerseError, Invalid
from ui.components.frame import show_sign_up_hint
from ui.components.item_card import language_name
from ui.components.plain import escape_markdown
from ui.session import current_actor

_DETECT = "detect"
_WHO = {
    Visibility.PUBLIC: "Everyone",
    Visibility.MEMBERS: "Members of the archive",
    Visibility.PRIVATE: "Only me",
}
_KEEP_TYPING = Path(__file__).parent.parent / "components" / "keep_typing.html"
_SIGN_IN_ENDED = (
    "Not saved: your sign-in has ended. Copy what you wrote, sign in again, and paste it: this tab "
    "cannot save it any more."
)
_FIELDS = (
    "draft_title",
    "draft_text",
    "draft_language",
    "draft_visibility",
    "draft_key",
    "draft_owner",
    "draft_made",
    "draft_trouble",
)


def show(actor: Actor) -> None:
    st.title("Contribute a story")
    state = st.session_state
    if made := state.get("draft_made"):
        if state.get("draft_send"):
            # The second click of a double click: the first one's answer is on its way.
            st.switch_page("views/item.py", query_params={"id": made})
        for field in _FIELDS:
            state.pop(field, None)
    owner = state.get("draft_owner")
    if owner is None and not may(actor, Action.CONTRIBUTE):
        if actor.user_id is None:
            st.info("Contributing needs an account.")
            show_sign_up_hint()
        else:
            st.info("Your account may read. An admin of the archive can let it contribute, too.")
        return
    # Of somebody whose sign-in ended the form stays open, so that the text can be copied.
    if owner is not None and actor.user_id not in (owner, None):
        st.warning("Another account has signed in meanwhile. Reload this page to go on with it.")
        return
    if owner is None:
        take_up_draft(actor)  # first: when the database is away, the next run begins here again
        state["draft_owner"] = actor.user_id
    st.html(_KEEP_TYPING, unsafe_allow_javascript=True)  # our own script, nothing contributed
    show_form()


def take_up_draft(actor: Actor) -> None:
    """Fill the form with what was being written, on this or another device."""
    draft = load_draft(actor)
    st.session_state["draft_key"] = draft.submission_key if draft else new_id()
    if draft is not None:
        st.session_state["draft_title"] = draft.title
        st.session_state["draft_text"] = draft.text
        st.session_state["draft_language"] = draft.language or _DETECT
        st.session_state["draft_visibility"] = draft.visibility


def show_form() -> None:
    """Not a fragment: a fragment's second click would be drawn into the page that follows."""
    title = st.text_input(
        "Title",
        key="draft_title",
        max_chars=MAX_TITLE_LENGTH,
        placeholder="What is this story called?",
        live=True,
        persist_state="session",
        on_change=keep_draft,
    )
    show_complaint(title, check_title)
    text = st.text_area(
        "Story",
        key="draft_text",
        height=320,
        placeholder="Write or paste it here, in any language.",
        persist_state="session",
        on_change=keep_draft,
    )
    show_complaint(text, check_text)
    language = st.selectbox(
        "Language",
        [_DETECT, *LANGUAGES],
        key="draft_language",
        format_func=lambda code: "Find out by itself" if code == _DETECT else language_name(code),
        help="Say it if you can: people know their language better than a machine does.",
        persist_state="session",
        on_change=keep_draft,
    )
    visibility = st.radio(
        "Who may see it?",
        list(_WHO),
        key="draft_visibility",
        format_func=_WHO.__getitem__,
        horizontal=True,
        persist_state="session",
        on_change=keep_draft,
    )
    if st.button("Contribute", type="primary", icon=":material/send:", key="draft_send"):
        save(title or "", text or "", language, visibility)
    if trouble := st.session_state.get("draft_trouble"):
        st.caption(f":material/cloud_off: Draft only in this tab. {escape_markdown(trouble)}")
    elif title or text:
        st.caption(":material/cloud_done: Draft kept")


def keep_draft() -> None:
    """Save the draft whenever a field was left; the form itself keeps it when that fails."""
    state = st.session_state
    if "draft_made" in state:
        return
    language = state.get("draft_language")
    try:
        actor = current_actor()[0]
        if actor.user_id != state["draft_owner"]:
            raise SignInNeeded()
        save_draft(
            actor,
            submission_key=state["draft_key"],
            title=state.get("draft_title") or "",
            text=state.get("draft_text") or "",
            language=None if language == _DETECT else language,
            visibility=state.get("draft_visibility") or Visibility.PUBLIC,
        )
        state.pop("draft_trouble", None)
    except SignInNeeded:
        state["draft_trouble"] = _SIGN_IN_ENDED
    except BharatVerseError as error:
        state["draft_trouble"] = error.sentence


def show_complaint(value: str | None, check: Callable[[str], str]) -> None:
    """Say what is wrong with a field as soon as something was typed into it."""
    if not value:
        return
    try:
        check(value)
    except Invalid as error:
        st.warning(escape_markdown(error.sentence))


def save(title: str, text: str, language: str | None, visibility: Visibility | None) -> None:
    """Save it and go to its page; on any failure say why and keep the draft."""
    try:
        actor = current_actor()[0]  # asked anew: the sign-in may have ended while one wrote
        if actor.user_id != st.session_state["draft_owner"]:
            raise SignInNeeded()
        made = items.contribute(
            actor,
            title=title,
            text=text,
            language=None if language in (None, _DETECT) else language,
            visibility=visibility or Visibility.PUBLIC,
            submission_key=st.session_state["draft_key"],
        )
    except SignInNeeded:
        st.error(_SIGN_IN_ENDED)
        return
    except BharatVerseError as error:
        st.error(f"Not saved: {escape_markdown(error.sentence)}")
        return
    st.session_state["draft_made"] = made.item_id
    st.switch_page("views/item.py", query_params={"id": made.item_id})


show(st.session_state["actor"])
