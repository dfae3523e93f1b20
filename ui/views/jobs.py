"""Jobs: what is being worked on for me, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from shared.accounts.policy import Action, Actor, may
from shared.archive import items
from shared.database.models import JobState
from shared.jobs.progress import Progress
from shared.jobs.view import list_jobs
from ui.components.frame import show_sign_up_hint
from ui.components.job_card import show_job_heading
from ui.components.job_controls import show_answers
from ui.components.job_progress import show_job, watch

_SHOWN = 50


def show(actor: Actor) -> None:
    st.title("Jobs")
    if actor.user_id is None:
        st.info("Jobs belong to the person who contributed.")
        show_sign_up_hint()
        return
    show_answers()
    everyone = may(actor, Action.SEE_ALL_JOBS)
    st.caption("The newest jobs of everyone." if everyone else "Your newest jobs.")
    show_jobs(actor)


def show_jobs(actor: Actor) -> None:
    jobs = list_jobs(actor, limit=_SHOWN)
    newest = jobs[0].id if jobs else None
    # What is worked on stands first; both parts are the newest first.
    jobs = sorted(jobs, key=lambda job: job.state is not JobState.RUNNING)
    if not jobs:
        st.info("No jobs yet. Contributing a story makes one.")
        return
    titles = items.titles(actor, [job.item_id for job in jobs if job.item_id])

    def draw(seen: Mapping[str, Progress]) -> None:
        for job in jobs:
            if job.id in seen:
                with st.container(border=True):
                    show_job_heading(job, title=titles.get(job.item_id or ""))
                    show_job(actor, seen[job.id], owner_id=job.owner_id)

    def is_out_of_date() -> bool:
        return [job.id for job in list_jobs(actor, limit=1)] != [newest]

    watch(jobs, draw, is_out_of_date=is_out_of_date)


show(st.session_state["actor"])
