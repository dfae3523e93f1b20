"""One item: what was contributed, how far its work is, and what AI found out, as drafts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import streamlit as st

from shared.accounts.policy import Actor
from shared.archive import items
from shared.archive.items import ItemNotFound, ItemView
from shared.database.models import Enrichment, JobState, Visibility
from shared.enrichment.finding import Status, Step
from shared.jobs.progress import Progress
from ui.components.item_card import body, language_name
from ui.components.job_controls import show_answers
from ui.components.job_progress import show_job, watch
from ui.components.plain import escape_markdown, lang, show_heading, show_prose

_WHO = {
    Visibility.PUBLIC: "Everyone may see it",
    Visibility.MEMBERS: "Members may see it",
    Visibility.PRIVATE: "Only you may see it",
}
_HEADINGS = {
    Step.LANGUAGE: "Language",
    Step.SCRIPT: "Script",
    Step.SUMMARY: "Summary",
    Step.KEYWORDS: "Keywords",
    Step.THEMES: "Themes",
    Step.SENTIMENT: "Mood",
}


def show(actor: Actor) -> None:
    try:
        view = items.get_item(actor, st.query_params.get("id", ""))
    except ItemNotFound as error:
        st.title("Not found")
        st.warning(error.sentence)
        return
    st.set_page_config(page_title=f"{view.item.title} · BharatVerse")
    show_title(view)
    show_answers()
    show_work(actor, view)  # above the text, which may be long
    show_prose(body(view.item), language=view.item.language)
    show_findings(view)


def show_title(view: ItemView) -> None:
    item = view.item
    show_heading(item.title, language=item.language)
    facts = [
        language_name(item.language),
        escape_markdown(item.owner.name),
        f"{item.created_at:%d %B %Y}",
        _WHO[item.visibility],
    ]
    st.caption(" · ".join(facts))


def show_work(actor: Actor, view: ItemView) -> None:
    """The progress of the item's newest job, until it has ended well."""
    if not view.jobs or view.jobs[-1].state is JobState.DONE:
        return
    newest = view.jobs[-1]

    def draw(seen: Mapping[str, Progress]) -> None:
        if newest.id in seen:
            show_job(actor, seen[newest.id], owner_id=newest.owner_id)

    watch([newest], draw)


def show_findings(view: ItemView) -> None:
    if not view.enrichments:
        return
    st.subheader("What the machine found")
    st.caption("Drafts by AI. They change nothing of what was contributed, and may be wrong.")
    found = {enrichment.step: enrichment for enrichment in view.enrichments}
    for step, heading in _HEADINGS.items():
        if step.value in found:
            show_finding(heading, found[step.value])
    show_provenance(view.enrichments)


def show_finding(heading: str, found: Enrichment) -> None:
    label, body = st.columns([1, 3])
    label.markdown(f"**{heading}**")
    with body:
        if found.status != Status.UNAVAILABLE:
            show_value(found)
        if found.note:
            st.caption(escape_markdown(found.note))


def show_value(found: Enrichment) -> None:
    if found.step == Step.LANGUAGE:
        st.text(language_name(found.value))
    elif found.step == Step.SCRIPT:
        st.text(found.value["name"])
    elif found.step == Step.SENTIMENT:
        st.text(f"{found.value['label']} ({found.value['compound']:+.2f} of -1 to +1)")
    elif isinstance(found.value, list):
        show_words(found.value, language=found.language)
    else:
        show_prose(str(found.value), language=found.language)


def show_words(words: Sequence[str], *, language: str | None) -> None:
    shown = " · ".join(html.escape(str(word)) for word in words)
    st.html(f"<div dir='auto'{lang(language)}>{shown}</div>")


def show_provenance(enrichments: Sequence[Enrichment]) -> None:
    with st.expander("Where these come from"):
        st.table(
            [
                {
                    "step": found.step,
                    "status": found.status,
                    "provider": found.provider,
                    "model": found.model,
                    "version": found.version,
                    "confidence": found.confidence,
                    "seconds": round(found.seconds, 3),
                }
                for found in enrichments
            ]
        )


show(st.session_state["actor"])
