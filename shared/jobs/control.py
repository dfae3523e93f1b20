"""What people do to jobs and queues: stop, try again, release, pause.

Each asks the policy first. A change of state is one UPDATE that names the old state, so that of two
who act at once, or of a person and a worker, one wins and the other is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Text, case, cast, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.accounts.policy import Action, Actor, controllable_by, require
from shared.archive import items
from shared.database.clock import database_now
from shared.database.engine import reading, writing
from shared.database.models import LIVE, Item, Job, JobAttempt, JobState, utc_now
from shared.errors import Invalid, Unavailable
from shared.jobs import dispatch, lanes, progress
from shared.jobs.ledger import IS_LIVE, IS_QUEUED, Cancelled, next_turn
from shared.jobs.view import JobNotFound, missing
from shared.observability.logging import get_logger

log = get_logger(__name__)


_BATCH = 100  # items of one transaction: others wait for SQLite's one write lock


class NotPossibleNow(Invalid):
    """The job is in a state in which this cannot be done."""

    code = "not_possible_now"


class SameWork(NotPossibleNow):
    """Another job does the same work already, or has done it."""

    code = "same_work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a job that somebody acted on."""

    job_id: str
    state: JobState
    sentence: str  # for whoever did it


#: What is said of a job for which a button or a command comes too late.
_STANDS = {
    JobState.QUEUED: "This job waits for a worker already.",
    JobState.RUNNING: "This job is being worked on.",
    JobState.DONE: "This job is done already.",
    JobState.FAILED: "This job has failed already.",
    JobState.CANCELLED: "This job is cancelled already.",
    JobState.QUARANTINED: "This job was set aside because its worker died with it again and again.",
}


def cancel(actor: Actor, job_id: str) -> Done:
    """Stop a job: at once while it waits, after the step it is in while it runs.

    Raises `JobNotFound`, `NotPossibleNow` when it has ended.
    """
    sentence = cast("It was cancelled before a worker took it.", Text)
    with writing() as session:
        before = _visible(session, actor, job_id)
        after = session.scalar(
            update(Job)
            .where(Job.id == job_id, IS_LIVE)
            .values(
                state=case((IS_QUEUED, JobState.CANCELLED), else_=Job.state),
                finished_at=case((IS_QUEUED, utc_now()), else_=Job.finished_at),
                error_code=case((IS_QUEUED, Cancelled.code), else_=Job.error_code),
                error_message=case((IS_QUEUED, sentence), else_=Job.error_message),
                rung_at=None,
                cancel_requested=~IS_QUEUED,
            )
            .returning(Job.state)
            .execution_options(synchronize_session=False)
        )
        if after is None:
            raise NotPossibleNow(f"{_state_now(session, before)} There is nothing to cancel.")
    if after is JobState.CANCELLED:
        progress.forget(job_id)
        log.info("A job was cancelled", action="job.cancelled", job=job_id[:8], by=actor.name)
        return Done(job_id=job_id, state=after, sentence="Cancelled.")
    log.info("A job is asked to stop", action="job.cancel_requested", job=job_id[:8], by=actor.name)
    return Done(
        job_id=job_id,
        state=after,
        sentence="It is asked to stop, and stops after the step it is in.",
    )


def retry(actor: Actor, job_id: str) -> Done:
    """Have a job that failed or was cancelled done again: the same job, with all its tries.

    What it had saved is kept, and it goes on from there. Raises `JobNotFound`, `NotPossibleNow`
    when it has not ended or was set aside, `SameWork` when another job does the same.
    """
    return _again(
        actor, job_id, from_states=(JobState.FAILED, JobState.CANCELLED), action="job.retried"
    )


def release(actor: Actor, job_id: str) -> Done:
    """Have a job that was set aside done again, which only admins may.

    Raises as `retry` does, and `NotAllowed`.
    """
    with reading() as session:
        _visible(session, actor, job_id)  # a stranger is not told that it exists
    require(actor, Action.OPERATE)
    return _again(actor, job_id, from_states=(JobState.QUARANTINED,), action="job.released")


def pause(actor: Actor, name: str) -> Sequence[str]:
    """Hand out no more jobs of a queue or lane; returns the lanes.

    What runs goes on. Raises `NotAllowed` and `UnknownQueue`.
    """
    require(actor, Action.OPERATE)
    paused = lanes.set_paused(name, paused=True)
    log.info("A queue was paused", action="queue.paused", queue=name, by=actor.name)
    return paused


def resume(actor: Actor, name: str) -> Sequence[str]:
    """Hand out the jobs of a queue or lane again, at once; returns the lanes.

    Raises `NotAllowed` and `UnknownQueue`.
    """
    require(actor, Action.OPERATE)
    resumed = lanes.set_paused(name, paused=False)
    log.info("A queue was resumed", action="queue.resumed", queue=name, by=actor.name)
    for lane in resumed:
        _ring(lane)
    return resumed


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of the items that lacked a result."""

    job_ids: Sequence[str]  # that will bring it
    live: int  # items whose job waits or runs anyway
    quarantined: int  # items whose job was set aside: those have to be released


def submit_missing(actor: Actor) -> Submission:
    """Make jobs for all items that lack a result, whatever the queues say; raises `NotAllowed`."""
    require(actor, Action.OPERATE)
    lacking = missing(actor)
    wanting = [
        item for item in lacking
        if item.job_state not in LIVE and item.job_state is not JobState.QUARANTINED
    ]  # fmt: skip
    ids = [item.item_id for item in wanting]
    made: list[str] = []
    for start in range(0, len(ids), _BATCH):
        made += _submit(ids[start : start + _BATCH])
    for lane in lanes.LANES:
        _ring(lane)
    if made:
        log.info(
            "Jobs were made for items that lacked a result",
            action="jobs.missing_submitted",
            count=len(made),
            by=actor.name,
        )
    return Submission(
        job_ids=made,
        live=sum(item.job_state in LIVE for item in lacking),
        quarantined=sum(item.job_state is JobState.QUARANTINED for item in lacking),
    )


def _submit(item_ids: Sequence[str]) -> list[str]:
    submitted = []
    with writing() as session:
        for item in session.scalars(select(Item).where(Item.id.in_(item_ids))).all():
            job = items.submit_enrichment(session, item, bulk=True)
            if not job.is_new:
                _make_up(session, job.job_id)
            submitted.append(job)
    for job in submitted:
        if job.ring:
            dispatch.ring(job)
    return [job.job_id for job in submitted]


def _make_up(session: Session, job_id: str) -> None:
    """Have the job that is DONE, and of which a result is gone, bring it again."""
    try:
        with session.begin_nested():
            _requeue(session, job_id, state=JobState.DONE)
    except SameWork:
        return  # another one brings it


def _visible(session: Session, actor: Actor, job_id: str) -> Job:
    """The job, when this person may act on it; raises `JobNotFound` as for an unknown id."""
    if not job_id.isascii() or "\0" in job_id:
        raise JobNotFound()  # no id: a database would refuse to look for it
    job = session.scalars(select(Job).where(Job.id == job_id, controllable_by(actor))).one_or_none()
    if job is None:
        raise JobNotFound()
    return job


def _state_now(session: Session, job: Job) -> str:
    session.refresh(job)
    return _STANDS[job.state]


def _again(actor: Actor, job_id: str, *, from_states: tuple[JobState, ...], action: str) -> Done:
    with writing() as session:
        job = _visible(session, actor, job_id)
        if job.state not in from_states or not _requeue(session, job_id, state=job.state):
            raise NotPossibleNow(_why_not_again(session, job))
        lane = job.lane
    progress.forget(job_id)
    log.info("A job is done again", action=action, job=job_id[:8], by=actor.name)
    _ring(lane)
    return Done(job_id=job_id, state=JobState.QUEUED, sentence="It waits to be done again.")


def _why_not_again(session: Session, job: Job) -> str:
    stands = _state_now(session, job)
    if job.state is JobState.QUARANTINED:
        return f"{stands} An admin can release it: `bharatverse jobs release {job.id[:8]}`."
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        return f"{stands} It was not set aside: retry it instead."
    return f"{stands} There is nothing to do again."


def _requeue(session: Session, job_id: str, *, state: JobState) -> bool:
    """From this ended state to QUEUED, with the attempt that ended it kept; False when too late.

    Raises `SameWork`.
    """
    job = session.get_one(Job, job_id, populate_existing=True)
    attempt = {
        "job_id": job.id,
        "number": job.attempt,
        "worker": job.worker,
        "outcome": job.error_code or state.value.lower(),
        "message": job.error_message,
        "started_at": job.claimed_at,
        "ended_at": job.finished_at or utc_now(),
    }
    try:
        with session.begin_nested():
            requeued = session.scalar(
                update(Job)
                .where(Job.id == job_id, Job.state == state, Job.attempt == job.attempt)
                .values(
                    state=JobState.QUEUED,
                    turn=next_turn(job.lane, job.owner_id),
                    errors=0,
                    losses=0,
                    cancel_requested=False,
                    lease_until=None,
                    ring_after=database_now(),
                    rung_at=None,
                    rings=0,
                    finished_at=None,
                    error_code=None,
                    error_message=None,
                )
                .returning(Job.id)
                .execution_options(synchronize_session=False)
            )
        in_the_way = False
    except IntegrityError:
        requeued, in_the_way = None, True
    # Looked up after the update, as a submit does: a job that did the same work at this moment has
    # either stood in our way, or its result is in our sight.
    other = session.execute(
        select(Job.id, Job.state)
        .where(
            Job.content_key == job.content_key,
            Job.id != job_id,
            IS_LIVE | (Job.state == JobState.DONE),
        )
        .order_by(func.coalesce(Job.finished_at, Job.created_at).desc())
    ).first()
    if other is not None:
        words = {JobState.QUEUED: "waits to do", JobState.RUNNING: "is doing"}
        raise SameWork(
            f"Job {other.id} {words.get(other.state, 'has done')} the same work; "
            "nothing was changed."
        )
    if in_the_way:  # it has ended badly since
        return _requeue(session, job_id, state=state)
    if requeued is None:
        return False
    if job.attempt:
        # A job that was stopped while it waited has had its last attempt remembered before.
        insert = (
            postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
        )
        session.execute(insert(JobAttempt).values(**attempt).on_conflict_do_nothing())
    return True


def _ring(lane: str) -> None:
    try:
        dispatch.dispatch(lane)
    except Unavailable as error:
        # What was to be done is saved; recovery rings it.
        log.warning("Not dispatched", action="jobs.not_dispatched", lane=lane, error=error.code)
