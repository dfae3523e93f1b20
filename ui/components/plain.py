"""Showing what people wrote exactly as they wrote it: never as Markdown, never as HTML."""

from __future__ import annotations

import html
import re

import streamlit as st

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=\"'@/])")


def escape_markdown(text: str) -> str:
    """The text on one line, so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def show_heading(text: str, *, language: str | None) -> None:
    """The page's one h1, holding a contributed title."""
    st.html(f"<h1{lang(language)} dir='auto' class='bv-title'>{html.escape(text)}</h1>")


def show_prose(text: str, *, language: str | None) -> None:
    """A contributed text in its own direction and language, line breaks kept."""
    st.html(f"<div{lang(language)} dir='auto' class='bv-prose'>{html.escape(text)}</div>")


def lang(language: str | None) -> str:
    """The HTML attribute that gives a text its language, and so its font and line height."""
    return f" lang='{html.escape(language, quote=True)}'" if language else ""
