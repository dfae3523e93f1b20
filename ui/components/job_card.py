"""What a job is about, at the head of its card."""

from __future__ import annotations

import streamlit as st

from shared.jobs.view import JobLine
from ui.components.job_progress import kind_in_words
from ui.components.plain import escape_markdown
from ui.components.words import ordinal


def show_job_heading(job: JobLine, *, title: str | None) -> None:
    """Its item as a link, or that it is private when `title` is None; whose it is, and since when.

    `title` is contributed text.
    """
    if title is None:
        st.markdown("**A private item**")
    else:
        st.page_link(
            "views/item.py",
            label=f"**{escape_markdown(title)}**",
            query_params={"id": job.item_id or ""},
        )
    facts = [
        kind_in_words(job.kind),
        escape_markdown(job.owner_name),
        f"{job.created_at:%d %b %Y %H:%M} UTC",
    ]
    if job.attempt > 1:
        facts.append(f"{ordinal(job.attempt)} attempt")
    st.caption(" · ".join(facts))
