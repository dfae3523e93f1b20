"""Home: what the archive is, its living numbers, what was shared recently."""

from __future__ import annotations

import html

import streamlit as st

from shared.accounts.policy import Action, Actor, may
from shared.archive import items, numbers
from ui.components.item_card import show_item_card

_RECENT = 6


def show(actor: Actor) -> None:
    show_what_it_is(actor)
    show_numbers()
    show_recent(actor)


def show_what_it_is(actor: Actor) -> None:
    st.title("BharatVerse")
    st.markdown(
        "A community archive of India's living heritage: stories, songs, recipes and customs, "
        "told by the people who keep them, in their own languages."
    )
    if may(actor, Action.CONTRIBUTE):
        st.page_link("views/contribute.py", label="Contribute a story", icon=":material/edit_note:")


def show_numbers() -> None:
    counted = numbers.archive_numbers()
    shown = [
        (counted.items, "story" if counted.items == 1 else "stories"),
        (counted.languages, "language" if counted.languages == 1 else "languages"),
        (counted.contributors, "contributor" if counted.contributors == 1 else "contributors"),
    ]
    cells = "".join(
        f"<div><div class='bv-number'>{number:,}</div><div>{html.escape(word)}</div></div>"
        for number, word in shown
    )
    st.html(f"<div class='bv-numbers'>{cells}</div>")


def show_recent(actor: Actor) -> None:
    st.subheader("Recently shared")
    recent = items.recent_items(actor, limit=_RECENT)
    if not recent:
        st.info("Nothing has been shared yet. The first story may be yours.")
    for item in recent:
        show_item_card(item)


show(st.session_state["actor"])
