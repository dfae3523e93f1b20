"""Jobs: what is being worked on for me, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from shared.accounts.policy import Action, Actor, may
from shared.archive import items
from shared.jobs.progress import Progress
from shared.jobs.view import list_jobs
from ui.components.frame import show_sign_up_hint
from ui.components.job_progress import show_progress, watch
from ui.components.plain import escape_markdown

_SHOWN = 50


def show(actor: Actor) -> None:
    st.title("Jobs")
    if actor.user_id is None:
        st.info("Jobs belong to the person who contributed.")
        show_sign_up_hint()
        return
    everyone = may(actor, Action.SEE_ALL_JOBS)
    st.caption("The newest jobs of everyone." if everyone else "Your newest jobs.")
    show_jobs(actor)


def show_jobs(actor: Actor) -> None:
    jobs = list_jobs(actor, limit=_SHOWN)
    if not jobs:
        st.info("No jobs yet. Contributing a story makes one.")
        return
    titles = items.titles(actor, [job.item_id for job in jobs if job.item_id])

    def draw(seen: Mapping[str, Progress]) -> None:
        for job in jobs:
            with st.container(border=True):
                title = titles.get(job.item_id or "")
                if title is None:
                    st.markdown("**A private item**")
                else:
                    st.page_link(
                        "views/item.py",
                        label=f"**{escape_markdown(title)}**",
                        query_params={"id": job.item_id or ""},
                    )
                st.caption(
                    f"{job.kind} · {escape_markdown(job.owner.name)} · "
                    f"{job.created_at:%d %b %Y %H:%M} UTC · attempt {job.attempt}"
                )
                show_progress(seen[job.id])

    watch(jobs, draw)


show(st.session_state["actor"])
