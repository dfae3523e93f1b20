"""Operations: what admins watch and act on. Queues, workers, failures, what was set aside."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from shared.accounts.policy import Action, Actor, NotAllowed, SignInNeeded, require
from shared.archive import items
from shared.config import get_settings
from shared.database.models import LIVE, JobState
from shared.errors import BharatVerseError
from shared.jobs import progress, view
from shared.jobs.view import Failures, JobLine, LaneView
from shared.observability import workers
from shared.observability.workers import Worker
from shared.redis_client import RedisUnavailable, breaker
from ui.components.frame import show_sign_up_hint
from ui.components.job_card import show_job_heading
from ui.components.job_controls import (
    rerun_if_answered,
    show_again,
    show_answers,
    show_pause,
    show_resume,
)
from ui.components.job_progress import show_progress
from ui.components.plain import escape_markdown
from ui.components.words import counted, duration

#: Seconds between two looks; one look costs five queries and a few commands of Redis.
POLL_INTERVAL = 2.5

#: Seconds between two counts of the items that lack a result, which looks at every item.
COUNT_INTERVAL = 15.0

_LANES = {"ai": "Stories", "ai.bulk": "Imported stories", "speech": "Recordings"}
_STATES = {
    JobState.QUEUED: "waiting",
    JobState.RUNNING: "running",
    JobState.DONE: "done",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.QUARANTINED: "set aside",
}


def show(actor: Actor) -> None:
    st.title("Operations")
    try:
        require(actor, Action.OPERATE)
    except SignInNeeded as error:
        st.info(error.sentence)
        show_sign_up_hint()
        return
    except NotAllowed as error:
        st.warning(error.sentence)
        return
    show_answers()
    show_where_else()

    def look() -> None:
        rerun_if_answered()
        try:
            show_now(actor)
        except BharatVerseError as error:  # the next look may succeed
            st.error(error.sentence, icon=":material/error:")

    def count() -> None:
        try:
            show_missing(actor)
        except BharatVerseError:  # the look above says it
            return

    st.fragment(look, run_every=POLL_INTERVAL)()
    st.fragment(count, run_every=COUNT_INTERVAL)()


def show_where_else() -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("This page follows what happens. Flower shows every task and worker.")
        st.link_button("Flower", get_settings().flower_url, icon=":material/open_in_new:")


def show_now(actor: Actor) -> None:
    seen = view.overview(actor)
    living = _workers()
    if living is None:
        st.warning(
            "Redis is away: jobs are saved and wait in the database, from which the numbers here "
            "come. Work starts by itself when it is back."
        )
    show_numbers({state: seen.counts.get(state, 0) for state in _STATES})
    show_lanes(actor, seen.lanes)
    show_workers(living)
    show_failures(seen.failures)
    bad = [*seen.quarantined, *seen.failed]
    titles = items.titles(actor, [job.item_id for job in bad if job.item_id]) if bad else {}
    show_jobs(actor, "Set aside", seen.quarantined, titles)
    show_jobs(actor, "Failed in the last 24 hours", seen.failed, titles)


def _workers() -> Sequence[Worker] | None:
    """Those that live; None while Redis, which holds their signs of life, is away."""
    if breaker.is_open:
        return None
    try:
        return workers.all_workers()
    except RedisUnavailable:
        breaker.failed()
        return None


def show_numbers(counts: dict[JobState, int]) -> None:
    cells = "".join(
        f"<div><div class='bv-number'>{counts[state]:,}</div><div>{word}</div></div>"
        for state, word in _STATES.items()
    )
    st.html(f"<div class='bv-numbers'>{cells}</div>")


def show_lanes(actor: Actor, lanes: Sequence[LaneView]) -> None:
    st.subheader("Queues")
    for lane in lanes:
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{_LANES.get(lane.name, lane.name)}** `{lane.name}`")
                if not lane.paused:
                    st.space("stretch")
                    show_pause(actor, lane.name)
            st.caption(_in_words(lane))
            if lane.paused:
                show_resume(actor, lane.name)


def _in_words(lane: LaneView) -> str:
    facts = [f"{lane.waiting:,} waiting", f"{lane.running:,} running"]
    if lane.oldest is not None:
        facts.append(f"the oldest waits for {duration(lane.oldest)}")
    if lane.delayed:
        facts.append(f"{lane.delayed:,} wait to be tried again")
    words = " · ".join(facts)
    return f":material/pause: **Paused** · {words}" if lane.paused else words


def show_workers(living: Sequence[Worker] | None) -> None:
    st.subheader("Workers")
    if living is None:
        st.caption("Not known while Redis is away.")
    elif not living:
        st.warning("No worker has given a sign of life: nothing that waits is worked on.")
    for worker in living or ():
        facts = [
            escape_markdown(", ".join(worker.queues)),
            f"{worker.active} of {worker.processes} busy",
            f"silent for {duration(worker.age)}"
            if worker.is_silent
            else f"seen {duration(worker.age)} ago",
        ]
        if worker.restarts:
            facts.append(f"restarted {counted(worker.restarts, 'time', 'times')} within a week")
        sign = ":material/warning:" if worker.is_silent else ":material/check_circle:"
        st.markdown(f"{sign} **{escape_markdown(worker.name)}**  \n{' · '.join(facts)}")


def show_failures(failures: Sequence[Failures]) -> None:
    st.subheader("Failures of the last 24 hours")
    if not failures:
        st.caption("None.")
    for each in failures:
        st.markdown(
            f"**{counted(each.count, 'job', 'jobs')}** · {escape_markdown(each.sentence)} "
            f"`{each.code}`"
        )


def show_jobs(actor: Actor, heading: str, jobs: Sequence[JobLine], titles: dict[str, str]) -> None:
    st.subheader(heading)
    if not jobs:
        st.caption("None.")
    for job in jobs:
        with st.container(border=True):
            now = progress.of(job)
            show_job_heading(job, title=titles.get(job.item_id or ""))
            show_progress(now)
            show_again(actor, now, owner_id=job.owner_id)


def show_missing(actor: Actor) -> None:
    st.subheader("Missing results")
    counts = view.count_missing(actor)
    total = sum(counts.values())
    if not total:
        st.caption("Every item has all the results that it should have.")
        return
    live = sum(number for state, number in counts.items() if state in LIVE)
    facts = [f"{live:,} of them are waiting or running"] if live else []
    facts += [
        f"{number:,} with a job that is {_STATES[state]}" if state else f"{number:,} without a job"
        for state, number in counts.items()
        if state not in LIVE
    ]
    words = f"{counted(total, 'item lacks a result', 'items lack a result')}: {', '.join(facts)}."
    if live < total:
        words += " `bharatverse jobs missing` lists them, and with `--submit` makes their jobs."
    st.markdown(words)


show(st.session_state["actor"])
