"""The buttons that act on jobs and queues, and what is said afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from shared.accounts.policy import Action, Actor, may, may_control
from shared.database.models import LIVE, JobState
from shared.errors import BharatVerseError, Unavailable
from shared.jobs import control
from shared.jobs.lanes import LANES_OF
from shared.jobs.progress import Progress
from ui.components.plain import escape_markdown
from ui.session import current_actor

_ANSWERS = "answers"  # to what was clicked, until the next run of the page has shown them


def show_answers() -> None:
    """Say what came of the last click; once a page, before what the click may have changed."""
    for sentence, icon in st.session_state.pop(_ANSWERS, []):
        st.toast(escape_markdown(sentence), icon=icon, duration="long")


def rerun_if_answered() -> None:
    """In a fragment: what was clicked in it, or who looks at it, has changed the whole page."""
    try:
        is_same = current_actor()[0] == st.session_state["actor"]
    except Unavailable:
        is_same = True  # nothing can be read either
    if st.session_state.get(_ANSWERS) or not is_same:
        st.rerun(scope="app")


def show_cancel(actor: Actor, job: Progress, *, owner_id: str) -> None:
    """The button that stops a live job, for those who may."""
    if job.state not in LIVE or job.is_stopping or not may_control(actor, owner_id=owner_id):
        return
    _button(
        "Cancel",
        key=f"cancel-{job.job_id}",
        icon=":material/close:",
        act=lambda actor: control.cancel(actor, job.job_id).sentence,
    )


def show_again(actor: Actor, job: Progress, *, owner_id: str) -> None:
    """The button that has an ended job done again, for those who may.

    It stands elsewhere than Cancel: the second of two quick clicks must not undo the first.
    """
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        if may_control(actor, owner_id=owner_id):
            _button(
                "Retry",
                key=f"retry-{job.job_id}",
                icon=":material/replay:",
                act=lambda actor: control.retry(actor, job.job_id).sentence,
            )
    elif job.state is JobState.QUARANTINED and may(actor, Action.OPERATE):
        _button(
            "Release",
            key=f"release-{job.job_id}",
            icon=":material/lock_open:",
            act=lambda actor: control.release(actor, job.job_id).sentence,
        )


def show_pause(actor: Actor, lane: str) -> None:
    """The button that stops handing out a lane's jobs; of a queue's first lane, the whole queue."""
    _button(
        f"Pause{_how_much(lane)}",
        key=f"pause-{lane}",
        icon=":material/pause:",
        act=lambda actor: f"Paused: {_named(control.pause(actor, lane))}. What runs goes on.",
    )


def show_resume(actor: Actor, lane: str) -> None:
    """The button that hands out the jobs again; elsewhere than Pause, too."""
    _button(
        f"Resume{_how_much(lane)}",
        key=f"resume-{lane}",
        icon=":material/play_arrow:",
        act=lambda actor: f"Resumed: {_named(control.resume(actor, lane))}.",
    )


def _how_much(lane: str) -> str:
    return " all" if len(LANES_OF.get(lane, ())) > 1 else ""


def _named(lanes: Sequence[str]) -> str:
    return ", ".join(lanes)


def _button(label: str, *, key: str, icon: str, act: Callable[[Actor], str]) -> None:
    st.button(label, key=key, icon=icon, on_click=_do, args=(act,))


def _do(act: Callable[[Actor], str]) -> None:
    # Runs before the page does, even when the button is no longer there by then: a click that comes
    # too late, as the second of a double click does, gets its reason.
    try:
        # Who clicks is asked anew: they may have signed out in another tab since this was drawn.
        actor, _ = current_actor()
        answer = (act(actor), ":material/check:")
    except BharatVerseError as error:
        answer = (error.sentence, ":material/error:")
    st.session_state.setdefault(_ANSWERS, []).append(answer)
