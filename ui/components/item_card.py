"""An item in a list."""

from __future__ import annotations

import html

import streamlit as st

from shared.database.models import Item
from shared.enrichment.languages import LANGUAGES
from ui.components.plain import escape_markdown, lang

_PREVIEW = 180  # characters


def show_item_card(item: Item) -> None:
    """The title as a link, who gave it, and how it begins."""
    with st.container(border=True):
        st.page_link(
            "views/item.py",
            label=f"**{escape_markdown(item.title)}**",
            query_params={"id": item.id},
        )
        preview = " ".join(body(item)[: _PREVIEW * 2].split())
        shortened = preview[:_PREVIEW] + ("…" if len(preview) > _PREVIEW else "")
        # One element for both: each costs the browser some milliseconds.
        st.html(
            f"<div class='bv-quiet'>{html.escape(language_name(item.language))} · "
            f"{html.escape(item.owner.name)}</div>"
            f"<div dir='auto'{lang(item.language)}>{html.escape(shortened)}</div>"
        )


def body(item: Item) -> str:
    """The text below its title: a Markdown file begins with the heading that became the title."""
    first, _, rest = item.text.partition("\n")
    repeats_title = first.removeprefix("# ").strip() == item.title and first.startswith("# ")
    return rest.strip() if repeats_title and rest.strip() else item.text


def language_name(code: str | None) -> str:
    """The language in its own name and in English, or that it is not known."""
    if code is None:
        return "Language not known yet"
    found = LANGUAGES.get(code)
    if found is None:
        return code
    return found.name if found.name == found.endonym else f"{found.endonym} · {found.name}"
