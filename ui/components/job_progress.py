"""The progress of jobs: ONE fragment polls for all the jobs that a page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from shared.database.models import LIVE, Job, JobState
from shared.enrichment.finding import Step
from shared.errors import BharatVerseError
from shared.jobs import progress
from shared.jobs.progress import Progress
from shared.redis_client import REDIS_ERRORS, breaker, client
from ui.components.plain import escape_markdown

#: Seconds between two looks; one look costs one MGET, whatever the number of jobs.
POLL_INTERVAL = 1.0

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
_WORDS = {
    JobState.DONE: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
    JobState.QUARANTINED: "Set aside",
}


def watch(jobs: Sequence[Job], draw: Callable[[Mapping[str, Progress]], None]) -> None:
    """Draw the progress of these jobs by id, again and again until all have ended.

    Only those that live are asked for. When one ends, the whole page runs once more, so that its
    results appear.
    """
    known = {job.id: progress.of(job) for job in jobs}
    live = [job.id for job in jobs if job.state in LIVE]

    def look() -> None:
        try:
            seen = progress.read(live)
        except BharatVerseError as error:  # the next look may succeed
            draw(known)
            st.caption(escape_markdown(error.sentence))
            return
        draw(known | seen)
        if any(job.state not in LIVE for job in seen.values()):
            st.rerun(scope="app")

    if live:
        st.fragment(look, run_every=POLL_INTERVAL)()
    else:
        draw(known)


def show_progress(job: Progress) -> None:
    """One job as a bar with words, or as the sentence of its failure."""
    if job.state is JobState.RUNNING:
        phase = _PHASES.get(job.phase, job.phase.capitalize())
        st.progress(job.fraction, text=f"{phase} · {job.done} of {job.total}")
    elif job.state is JobState.QUEUED:
        if job.error:
            st.progress(0.0, text=f"Waiting to be tried again: {job.error}")
        elif _queue_answers():
            st.progress(0.0, text="Waiting for a worker")
        else:
            st.progress(0.0, text="Saved, waiting for the queue. It starts by itself.")
    elif job.state is JobState.DONE:
        st.caption(":material/check_circle: Done")
    else:
        st.error(f"{_WORDS[job.state]}: {job.error or 'no reason was given.'}")


def _queue_answers() -> bool:
    if breaker.is_open:
        return False
    try:
        return bool(client().ping())
    except REDIS_ERRORS:
        breaker.failed()
        return False
