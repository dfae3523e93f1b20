"""The progress of jobs: ONE fragment polls for all the jobs that a page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from shared.accounts.policy import Actor
from shared.database.models import LIVE, Job, JobState
from shared.enrichment.finding import Step
from shared.errors import BharatVerseError
from shared.jobs import progress, view
from shared.jobs.kinds import ENRICH_TEXT
from shared.jobs.progress import Progress
from shared.jobs.view import JobLine
from shared.redis_client import breaker
from ui.components.job_controls import rerun_if_answered, show_again, show_cancel
from ui.components.plain import escape_markdown
from ui.components.words import duration, ordinal

#: Seconds between two looks; one look costs one MGET and a query or two, whatever the number of
#: jobs.
POLL_INTERVAL = 1.0

#: Seconds between two looks for jobs that were not there before.
OTHERS_INTERVAL = 5.0

#: What a step does, for people who never heard of embeddings.
_PHASES = {
    "": "Starting",
    Step.LANGUAGE: "Finding out the language",
    Step.SCRIPT: "Finding out the script",
    Step.EMBEDDING: "Reading the text",
    Step.KEYWORDS: "Looking for keywords",
    Step.SUMMARY: "Summing it up",
    Step.THEMES: "Looking for themes",
    Step.SENTIMENT: "Listening for the mood",
}
_KINDS = {ENRICH_TEXT: "Reading a story"}


def kind_in_words(kind: str) -> str:
    """What a job does, on one line of Markdown."""
    return _KINDS.get(kind) or escape_markdown(kind)


def watch(
    jobs: Sequence[Job] | Sequence[JobLine],
    draw: Callable[[Mapping[str, Progress]], None],
    *,
    is_out_of_date: Callable[[], bool] | None = None,
) -> None:
    """Draw the progress of these jobs by id, again and again until all have ended.

    Only those that live are asked for. When one ends, the whole page runs once more, so that its
    results appear; also when `is_out_of_date`, asked now and then, says that there are others.
    """
    known = {job.id: progress.of(job) for job in jobs}
    live = [job.id for job in jobs if job.state in LIVE]

    def look() -> None:
        rerun_if_answered()
        try:
            seen = view.look(live, max_age=POLL_INTERVAL)
        except BharatVerseError as error:  # the next look may succeed
            draw(known)
            st.caption(escape_markdown(error.sentence))
            return
        draw(known | seen)
        if any(job.state not in LIVE for job in seen.values()):
            st.rerun(scope="app")

    def wait_for_others() -> None:
        try:
            others = is_out_of_date is not None and is_out_of_date()
        except BharatVerseError:  # the next look may succeed
            return
        if others:
            st.rerun(scope="app")

    if live:
        st.fragment(look, run_every=POLL_INTERVAL)()
    else:
        draw(known)
    if is_out_of_date is not None:
        st.fragment(wait_for_others, run_every=OTHERS_INTERVAL)()


def show_job(actor: Actor, job: Progress, *, owner_id: str) -> None:
    """How far a job is, and what this person may do about it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        show_progress(job)
        show_cancel(actor, job, owner_id=owner_id)
    show_again(actor, job, owner_id=owner_id)


def show_progress(job: Progress) -> None:
    """One job as a bar with words, or as the sentence of its end."""
    if job.state is JobState.RUNNING:
        st.progress(job.fraction, text=_running_in_words(job))
    elif job.state is JobState.QUEUED:
        st.progress(0.0, text=_waiting_in_words(job))
    elif job.state is JobState.DONE:
        st.caption(":material/check_circle: Done")
    elif job.state is JobState.CANCELLED:
        st.info(escape_markdown(job.error or "Cancelled."), icon=":material/cancel:")
    else:
        what = "Failed" if job.state is JobState.FAILED else "Set aside"
        st.error(f"{what}: {escape_markdown(job.error or 'no reason was given.')}")


def _running_in_words(job: Progress) -> str:
    phase = _PHASES.get(job.phase) or escape_markdown(job.phase.capitalize())
    facts = ["Stopping after this step" if job.is_stopping else phase]
    if job.total:
        facts.append(f"{job.done:,} of {job.total:,}")
    if job.seconds_left is not None and not job.is_stopping:
        facts.append(f"about {duration(job.seconds_left)} left")
    return " · ".join(facts)


def _waiting_in_words(job: Progress) -> str:
    if job.is_paused:
        facts = ["Waiting until an admin resumes the queue"]
    elif job.error:
        facts = [f"Waiting to be tried again: {escape_markdown(job.error)}"]
    elif breaker.is_open:  # the look at Redis just before this has failed
        return "Saved, waiting for the queue. It starts by itself."
    else:
        facts = ["Waiting for a worker"]
    if job.position is not None:
        facts.append(f"{ordinal(job.position)} in the queue")
    if job.seconds_left is not None:
        facts.append(f"about {duration(job.seconds_left)} left")
    return " · ".join(facts)
