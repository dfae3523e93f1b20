"""The one truth about every job, in SQL.

Redis is only the bell: a message says "look at job X", and a job that is finished, held by another
worker or unknown is simply not claimable. So a message that comes twice or never does no harm.

Every change by a worker is fenced by the attempt number: a worker that was frozen past its lease
finds its attempt gone, and its late result is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared import queue as bell
from shared.config import get_settings
from shared.database.clock import database_now
from shared.database.engine import writing
from shared.database.models import LIVE, Job, JobState, new_id, utc_now
from shared.errors import BharatVerseError
from shared.jobs.retry import MAX_ATTEMPTS
from shared.observability.logging import get_logger

log = get_logger(__name__)

#: Seconds that a message gets before recovery rings the job again; grows with each ring.
FIRST_RING_DELAY = 10.0
#: Longest wait between two rings of a job whose message may be lost.
LONGEST_RING_DELAY = 300.0
#: Recovery rings at most so many jobs at once, so that a long outage does not end in a flood.
RING_BATCH = 500


class LeaseLost(BharatVerseError):
    """Another worker has taken this job over; what this one found is dropped."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one job, until its lease ends."""

    job_id: str
    kind: str
    item_id: str | None
    attempt: int


def content_key(**parts: Any) -> str:
    """The key under which identical work is the same job: a hash of all that decides its result."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def submit(
    session: Session, *, kind: str, owner_id: str, item_id: str | None, key: str
) -> tuple[Job, bool]:
    """Write the job's row, or join the live one with the same key: (job, whether it is new).

    Part of the caller's transaction: the job exists exactly when what it works on does. Ring it
    after the commit.
    """
    job = Job(
        id=new_id(),
        kind=kind,
        queue=kind.partition(".")[0],
        owner_id=owner_id,
        item_id=item_id,
        content_key=key,
        ring_after=database_now() + FIRST_RING_DELAY,
    )
    try:
        with session.begin_nested():
            session.add(job)
    except IntegrityError:
        live = session.scalars(
            select(Job).where(Job.content_key == key, Job.state.in_(LIVE))
        ).one_or_none()
        if live is None:  # it ended between our insert and our look: now there is room
            session.add(job)
            session.flush()
            return job, True
        return live, False
    return job, True


def ring(jobs: Iterable[Job]) -> bool:
    """Tell the workers; False when Redis is away, and then recovery rings later."""
    rung = [bell.ring(job.kind, job.queue, job.id) for job in jobs]
    return all(rung)


def claim(job_id: str, *, worker: str) -> Claim | None:
    """Take the job, or None when it is finished, unknown, or held by a worker that lives."""
    now = database_now()
    with writing() as session:
        row = session.execute(
            update(Job)
            .where(
                Job.id == job_id,
                (Job.state == JobState.QUEUED)
                | (
                    (Job.state == JobState.RUNNING)
                    & (Job.lease_until < now)
                    & (Job.attempt < MAX_ATTEMPTS)
                ),
            )
            .values(
                state=JobState.RUNNING,
                attempt=Job.attempt + 1,
                lease_until=now + get_settings().lease_seconds,
                worker=worker,
                started_at=func.coalesce(Job.started_at, utc_now()),
                error_code=None,
                error_message=None,
            )
            .returning(Job.id, Job.kind, Job.item_id, Job.attempt)
            .execution_options(synchronize_session=False)
        ).one_or_none()
    return None if row is None else Claim(*row)


def hold(session: Session, held: Claim, *, done: int, total: int, phase: str) -> None:
    """Renew the lease and save the progress, or raise `LeaseLost`.

    In a transaction with results it is their fence: the row stays locked until the commit.
    """
    _fenced(
        session,
        held,
        lease_until=database_now() + get_settings().lease_seconds,
        progress_done=done,
        progress_total=total,
        phase=phase,
    )


def finish(session: Session, held: Claim) -> None:
    """DONE, in the transaction of the last result; raises `LeaseLost`."""
    _fenced(
        session,
        held,
        state=JobState.DONE,
        lease_until=None,
        progress_done=Job.progress_total,
        phase="",
        finished_at=utc_now(),
    )


def fail(session: Session, held: Claim, *, code: str, sentence: str) -> None:
    """FAILED, with what a person is told; raises `LeaseLost`."""
    _fenced(
        session,
        held,
        state=JobState.FAILED,
        lease_until=None,
        error_code=code,
        error_message=sentence,
        finished_at=utc_now(),
    )


def requeue(
    session: Session, held: Claim, *, wait: float, code: str | None, sentence: str | None
) -> None:
    """Back to QUEUED, to be rung after `wait` seconds; raises `LeaseLost`."""
    _fenced(
        session,
        held,
        state=JobState.QUEUED,
        lease_until=None,
        ring_after=database_now() + wait,
        error_code=code,
        error_message=sentence,
    )


def recover() -> list[str]:
    """Requeue what lost its worker, and ring what waits too long; returns the ids rung.

    Safe to run from several places at once: each job is taken by one UPDATE.
    """
    now = database_now()
    with writing() as session:
        exhausted = Job.attempt >= MAX_ATTEMPTS
        lost = session.execute(
            update(Job)
            .where(Job.state == JobState.RUNNING, Job.lease_until < now)
            .values(
                state=case((exhausted, JobState.QUARANTINED), else_=JobState.QUEUED),
                finished_at=case((exhausted, utc_now()), else_=None),
                lease_until=None,
                ring_after=now,
                error_code="worker_lost",
                error_message=case(
                    (
                        exhausted,
                        f"Its worker died {MAX_ATTEMPTS} times while doing this; it is set aside "
                        "so that it stops no other work.",
                    ),
                    else_="Its worker died or fell silent; it waits to be done again.",
                ),
            )
            .returning(Job.id, Job.state)
            .execution_options(synchronize_session=False)
        ).all()
        age = now - func.coalesce(_epoch(session, Job.created_at), now)
        waiting = select(Job.id).where(Job.state == JobState.QUEUED, Job.ring_after <= now)
        waiting = waiting.order_by(Job.ring_after).limit(RING_BATCH)
        if session.get_bind().dialect.name == "postgresql":
            waiting = waiting.with_for_update(skip_locked=True)
        due = session.execute(
            update(Job)
            .where(Job.id.in_(waiting))
            # The longer it waits, the rarer it is rung: a full queue is not filled further.
            .values(
                ring_after=now
                + FIRST_RING_DELAY
                + case((age < 2 * LONGEST_RING_DELAY, age / 2), else_=LONGEST_RING_DELAY)
            )
            .returning(Job.id, Job.kind, Job.queue)
            .execution_options(synchronize_session=False)
        ).all()
    for job_id, state in lost:
        log.warning("A job lost its worker", action="job.lost", job=job_id[:8], state=state.value)
    rung = [job_id for job_id, kind, lane in due if bell.ring(kind, lane, job_id)]
    if len(rung) < len(
        due
    ):  # Redis is away: these were not rung, so they do not wait longer for it
        with writing() as session:
            session.execute(
                update(Job)
                .where(Job.id.in_({job_id for job_id, _, _ in due} - set(rung)))
                .values(ring_after=database_now() + FIRST_RING_DELAY)
            )
    if rung:
        log.info("Rang waiting jobs", action="jobs.rung", count=len(rung))
    return rung


def _fenced(session: Session, held: Claim, **values: Any) -> None:
    result = session.execute(
        update(Job)
        .where(Job.id == held.job_id, Job.attempt == held.attempt, Job.state == JobState.RUNNING)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise LeaseLost()


def _epoch(session: Session, moment: Any) -> Any:
    """Seconds since 1970 of a timestamp column."""
    if session.get_bind().dialect.name == "sqlite":
        return (func.julianday(moment) - 2440587.5) * 86400.0
    return func.extract("epoch", moment)
