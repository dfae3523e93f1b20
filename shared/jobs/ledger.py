"""The one truth about every job, in SQL.

Redis is only the bell: a message says "look at job X", and a job that is finished, held by another
worker or unknown is simply not claimable. So a message that comes twice or never does no harm.

Every change by a worker is fenced by the attempt number: a worker that was frozen past its lease
finds its attempt gone, and its late result is refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import cast as cast_type

from sqlalchemy import (
    ColumnElement,
    Float,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session, aliased

from shared.config import get_settings
from shared.database.clock import database_now
from shared.database.engine import writing
from shared.database.models import (
    Job,
    JobAttempt,
    JobChunk,
    JobState,
    Lane,
    UtcDateTime,
    new_id,
    utc_now,
)
from shared.errors import BharatVerseError
from shared.jobs.kinds import kind_of
from shared.jobs.lanes import lane_of
from shared.jobs.retry import MAX_LOSSES
from shared.observability.logging import get_logger

log = get_logger(__name__)

_STOPPED = "It was stopped. What it had found until then is kept."

#: Spelt out, because SQLite uses a partial index only when it sees its condition.
IS_QUEUED = Job.state == literal_column("'QUEUED'")
IS_RUNNING = Job.state == literal_column("'RUNNING'")
IS_LIVE = Job.state.in_([literal_column("'QUEUED'"), literal_column("'RUNNING'")])
IS_UNRUNG = and_(IS_QUEUED, Job.rung_at.is_(null()))
IS_RUNG = and_(IS_QUEUED, Job.rung_at.is_not(null()))


class LeaseLost(BharatVerseError):
    """Another worker has taken this job over; what this one found is dropped."""

    code = "lease_lost"


class Cancelled(BharatVerseError):
    """Somebody stopped this job."""

    code = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of a submit."""

    job_id: str
    kind: str
    lane: str
    is_new: bool  # False: the same work waits, runs or is done, and this is its job
    ring: bool  # whether to ring it after the commit; else it waits its turn in SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's right to one job, until its lease ends."""

    job_id: str
    kind: str
    lane: str
    owner_id: str
    item_id: str | None
    attempt: int
    worker: str
    errors: int  # of earlier attempts
    is_suspect: bool  # it lost a worker: nothing else may run beside it on this one


def content_key(**parts: Any) -> str:
    """The key under which identical work is the same job: a hash of all that decides its result."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def submit(
    session: Session,
    *,
    kind: str,
    owner_id: str,
    item_id: str | None,
    key: str,
    bulk: bool = False,
) -> Submitted:
    """Write the job's row, or join the one with the same key that waits, runs or is done.

    Part of the caller's transaction: the job exists exactly when what it works on does. Ring it
    after the commit if `Submitted.ring` says so (`dispatch.ring`). `bulk` is for one of many: it
    waits in a lane of its own, and owners take turns there.
    """
    queue = kind_of(kind).queue
    lane = lane_of(queue, bulk=bulk)
    job_id = new_id()
    session.flush()  # the item's row, which the job's refers to
    connection = session.connection()
    made = connection.execute(
        _INSERT[connection.dialect.name],
        {
            "b_id": job_id,
            "b_kind": kind,
            "b_queue": queue,
            "b_lane": lane,
            "b_owner": owner_id,
            "b_item": item_id,
            "b_key": key,
            "b_now": utc_now(),
        },
    ).one_or_none()
    # Looked up after the insert: whoever finishes the same work at this moment has either left its
    # row in our way, or its result in our sight.
    known = connection.execute(_SAME_WORK, {"b_key": key, "b_id": job_id}).first()
    if known is None and made is None:
        # It ended badly between our insert and our look: now there is room.
        return submit(session, kind=kind, owner_id=owner_id, item_id=item_id, key=key, bulk=bulk)
    if known is None:
        is_rung = made is not None and made.rung_at is not None
        return Submitted(job_id=job_id, kind=kind, lane=lane, is_new=True, ring=is_rung)
    if made is not None:
        session.execute(delete(Job).where(Job.id == job_id))
    return Submitted(job_id=known.id, kind=kind, lane=known.lane, is_new=False, ring=False)


def next_turn(lane: Any, owner_id: Any) -> ColumnElement[int]:
    """The turn of a job that joins this lane now, as SQL; both may be bind parameters.

    After the owner's own jobs, but before all that others queued beyond their turn.

    Start-time fair queueing (Goyal, Vin, Cheng 1996) with equal weights and lengths: the lane's
    virtual time is the turn at its head. Jobs that are tried again keep their early turn, and do
    not hold the virtual time back.
    """
    queued = (_other.c.state == literal_column("'QUEUED'"), _other.c.lane == lane)
    first_time = (*queued, _other.c.attempt == 0)

    def first(*which: ColumnElement[bool]) -> ColumnElement[int | None]:
        # ORDER BY and LIMIT walk to one row of an index; min() might read them all.
        return (
            select(_other.c.turn).where(*which).order_by(_other.c.turn).limit(1).scalar_subquery()
        )

    own = (
        select(_other.c.turn)
        .where(*queued, _other.c.owner_id == owner_id)
        .order_by(_other.c.turn.desc())
        .limit(1)
        .scalar_subquery()
    )
    head = func.coalesce(
        first(*first_time, _other.c.rung_at.is_not(null())),
        first(*first_time, _other.c.rung_at.is_(null())),
        0,
    )
    after_own = func.coalesce(own, 0) + 1
    return case((head > after_own, head), else_=after_own)


def _has_room() -> ColumnElement[bool]:
    """Whether a new job may be rung at once: nobody waits before it, and the window has room."""
    waiting = exists().where(
        *_QUEUED_IN_LANE, _other.c.rung_at.is_(null()), _other.c.ring_after <= database_now()
    )
    rung = (
        select(func.count())
        .where(*_QUEUED_IN_LANE, _other.c.rung_at.is_not(null()))
        .scalar_subquery()
    )
    window = (
        select(Lane.window).where(Lane.name == bindparam("b_lane"), ~Lane.paused).scalar_subquery()
    )
    return and_(~waiting, rung < func.coalesce(window, 0))


# The statements of the hot path are built once: building and hashing them anew for every job took
# three times as long as running them.
_jobs = cast_type(Table, Job.__table__)
_other = _jobs.alias("other")
_QUEUED_IN_LANE = (
    _other.c.state == literal_column("'QUEUED'"),
    _other.c.lane == bindparam("b_lane"),
)

_NEW_ROW: dict[str, Any] = {
    "id": bindparam("b_id"),
    "kind": bindparam("b_kind"),
    "queue": bindparam("b_queue"),
    "lane": bindparam("b_lane"),
    "turn": next_turn(bindparam("b_lane"), bindparam("b_owner")),
    "owner_id": bindparam("b_owner"),
    "item_id": bindparam("b_item"),
    "content_key": bindparam("b_key"),
    "state": literal_column("'QUEUED'"),
    "attempt": 0,
    "errors": 0,
    "losses": 0,
    "cancel_requested": False,
    "ring_after": database_now(),
    "rung_at": case((_has_room(), database_now()), else_=cast(null(), Float)),
    "rings": 1,
    "progress_done": 0,
    "progress_total": 0,
    "phase": "",
    "created_at": bindparam("b_now"),
}
_INSERT = {
    name: make(_jobs).values(_NEW_ROW).on_conflict_do_nothing().returning(_jobs.c.rung_at)
    for name, make in (("postgresql", postgresql_insert), ("sqlite", sqlite_insert))
}
_SAME_WORK = select(_jobs.c.id, _jobs.c.lane).where(
    _jobs.c.content_key == bindparam("b_key"),
    _jobs.c.state.in_([literal_column(f"'{state}'") for state in ("QUEUED", "RUNNING", "DONE")]),
    _jobs.c.id != bindparam("b_id"),
)


def claim(job_id: str, *, worker: str) -> Claim | None:
    """Take the job, or None when it is finished, unknown, held by a worker that lives, or paused.

    `worker` names the process that runs the pool, one name for all its children: beside a job that
    lost a worker before, this worker takes nothing else.
    """
    with writing() as session:
        row = (
            session.connection()
            .execute(
                _CLAIM,
                {
                    "b_id": job_id,
                    "b_worker": worker,
                    "b_lease": get_settings().lease_seconds,
                    "b_now": utc_now(),
                },
            )
            .one_or_none()
        )
        if row is None:
            # Its message is used up. If it only has to wait, somebody rings it again.
            lane = _put_back(session, job_id, wait=1.0)
            is_paused = session.scalar(select(Lane.paused).where(Lane.name == lane))
    if row is None:
        if is_paused is False:
            # This worker takes nothing beside a suspect: not the next message either, which
            # another worker may take.
            time.sleep(1.0)
        return None
    return Claim(
        job_id=job_id,
        kind=row.kind,
        lane=row.lane,
        owner_id=row.owner_id,
        item_id=row.item_id,
        attempt=row.attempt,
        worker=worker,
        errors=row.errors,
        is_suspect=row.losses > 0,
    )


_CLAIM = (
    update(_jobs)
    .where(
        _jobs.c.id == bindparam("b_id"),
        _jobs.c.state == literal_column("'QUEUED'"),
        ~exists().where(  # beside a suspect
            _other.c.state == literal_column("'RUNNING'"),
            _other.c.worker == bindparam("b_worker"),
            _other.c.losses > 0,
            _other.c.lease_until >= database_now(),
        ),
        ~exists().where(Lane.name == _jobs.c.lane, Lane.paused),
    )
    .values(
        state=literal_column("'RUNNING'"),
        attempt=_jobs.c.attempt + 1,
        lease_until=database_now() + bindparam("b_lease", type_=Float),
        worker=bindparam("b_worker"),
        started_at=func.coalesce(_jobs.c.started_at, bindparam("b_now", type_=UtcDateTime)),
        claimed_at=bindparam("b_now", type_=UtcDateTime),
        rung_at=None,
        rings=0,
        error_code=None,
        error_message=None,
    )
    .returning(
        *(_jobs.c[name] for name in ("kind", "lane", "owner_id", "item_id", "attempt", "errors")),
        _jobs.c.losses,
    )
)


def wait_again(job_id: str) -> None:
    """Take a queued job, whose message is used up, out of the window: it is rung again soon."""
    with writing() as session:
        _put_back(session, job_id, wait=0.0)


def _put_back(session: Session, job_id: str, *, wait: float) -> str | None:
    """Returns the lane in which it waits; None when it does not."""
    soon = database_now() + wait
    lane: str | None = session.scalar(
        update(Job)
        .where(Job.id == job_id, IS_QUEUED)
        # Never sooner than a wait that it is in already.
        .values(
            rung_at=None,
            ring_after=case((Job.ring_after > soon, Job.ring_after), else_=soon),
        )
        .returning(Job.lane)
        .execution_options(synchronize_session=False)
    )
    return lane


def hold(session: Session, held: Claim, *, done: int, total: int, phase: str) -> bool:
    """Renew the lease and save the progress; returns whether somebody asks it to stop.

    In a transaction with results it is their fence: the row stays locked until the commit. Raises
    `LeaseLost`.
    """
    asked_to_stop = session.connection().scalar(
        _HOLD,
        {
            "b_id": held.job_id,
            "b_attempt": held.attempt,
            "b_lease": get_settings().lease_seconds,
            "b_done": done,
            "b_total": total,
            "b_phase": phase,
        },
    )
    if asked_to_stop is None:
        raise LeaseLost()
    return bool(asked_to_stop)


_HELD = (
    _jobs.c.id == bindparam("b_id"),
    _jobs.c.attempt == bindparam("b_attempt"),
    _jobs.c.state == literal_column("'RUNNING'"),
)
_HOLD = (
    update(_jobs)
    .where(*_HELD)
    .values(
        lease_until=database_now() + bindparam("b_lease", type_=Float),
        progress_done=bindparam("b_done"),
        progress_total=bindparam("b_total"),
        phase=bindparam("b_phase"),
    )
    .returning(_jobs.c.cancel_requested)
)
_FINISH = (
    update(_jobs)
    .where(*_HELD)
    .values(
        state=literal_column("'DONE'"),
        lease_until=None,
        progress_done=_jobs.c.progress_total,
        phase="",
        finished_at=bindparam("b_now"),
    )
)


def finish(session: Session, held: Claim) -> None:
    """DONE, in the transaction of the last result; raises `LeaseLost`."""
    result = session.connection().execute(
        _FINISH, {"b_id": held.job_id, "b_attempt": held.attempt, "b_now": utc_now()}
    )
    if result.rowcount != 1:
        raise LeaseLost()


def fail(session: Session, held: Claim, *, code: str, sentence: str) -> None:
    """FAILED, with what a person is told; raises `LeaseLost`."""
    _end(session, held, state=JobState.FAILED, error_code=code, error_message=sentence)


def cancelled(session: Session, held: Claim) -> None:
    """CANCELLED, because somebody asked for it; raises `LeaseLost`."""
    _end(session, held, state=JobState.CANCELLED, error_code=Cancelled.code, error_message=_STOPPED)


def requeue(session: Session, held: Claim, *, wait: float, code: str, sentence: str) -> None:
    """Back to QUEUED after an error, to be rung after `wait` seconds; raises `LeaseLost`."""
    again = _queued_again(wait, error_code=code, error_message=sentence)
    _fenced(session, held, **again, errors=Job.errors + 1)
    _remember(session, held, outcome=code, message=sentence)


def hand_back(session: Session, held: Claim, *, reason: str, behind_others: bool = False) -> None:
    """Back to QUEUED with all that it saved, at no cost in tries; raises `LeaseLost`.

    With `behind_others` it goes behind the next job of every other owner, else it keeps its turn.
    """
    turn: Any = Job.turn
    if behind_others:
        jobs = aliased(Job)
        others = (
            jobs.state == literal_column("'QUEUED'"),
            jobs.lane == held.lane,
            jobs.owner_id != held.owner_id,
        )
        head = select(func.min(jobs.turn)).where(*others).scalar_subquery()
        turn = func.coalesce(head + 1, Job.turn)
    _fenced(session, held, **_queued_again(0.0, error_code=None, error_message=None), turn=turn)
    _remember(session, held, outcome="handed_back", message=reason)


def lose(session: Session, which: ColumnElement[bool], *, reason: str) -> Sequence[str]:
    """Requeue running jobs whose worker is gone, or set aside those that lost too many.

    A job that lost a worker runs alone from then on: of several that ran when a process died only
    one is to blame, and the others are done before they are blamed, too. Returns the jobs' ids.
    """
    poisonous = Job.losses + 1 >= MAX_LOSSES
    sentence = (
        f"Its worker died {MAX_LOSSES} times while doing this; it is set aside so that it stops "
        "no other work. An admin can release it."
    )
    lost = session.execute(
        select(Job.id, Job.attempt, Job.worker, Job.claimed_at)
        .where(IS_RUNNING, which)
        .with_for_update(skip_locked=True)
    ).all()
    if not lost:
        return []
    ids = [row.id for row in lost]
    session.execute(
        update(Job)
        .where(Job.id.in_(ids), IS_RUNNING, poisonous)
        .values(
            state=JobState.QUARANTINED,
            finished_at=utc_now(),
            losses=Job.losses + 1,
            lease_until=None,
            error_code="worker_lost",
            error_message=sentence,
        )
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Job)
        .where(Job.id.in_(ids), IS_RUNNING)
        .values(
            _queued_again(0.0, error_code="worker_lost", error_message=reason)
            | {"losses": Job.losses + 1}
        )
        .execution_options(synchronize_session=False)
    )
    session.add_all(
        JobAttempt(
            job_id=row.id,
            number=row.attempt,
            worker=row.worker,
            outcome="worker_lost",
            message=reason,
            started_at=row.claimed_at,
        )
        for row in lost
    )
    for row in lost:
        log.warning("A job lost its worker", action="job.lost", job=row.id[:8], worker=row.worker)
    return ids


def time_out(session: Session, which: ColumnElement[bool], *, seconds: float) -> Sequence[str]:
    """FAILED for running jobs that were killed at their hard limit; returns their ids."""
    return session.scalars(
        update(Job)
        .where(IS_RUNNING, which)
        .values(
            state=JobState.FAILED,
            lease_until=None,
            finished_at=utc_now(),
            error_code="timeout",
            error_message=timeout_sentence(seconds),
        )
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).all()


def timeout_sentence(seconds: float) -> str:
    """What a person is told about a job that took too long."""
    return f"It took longer than {seconds:g} seconds and was stopped."


def save_chunk(session: Session, held: Claim, *, step: str, number: int, value: bytes) -> None:
    """Keep a finished part of a step, in a transaction that `hold` fences."""
    session.merge(JobChunk(job_id=held.job_id, step=step, number=number, value=value))


def chunks(session: Session, job_id: str, *, step: str) -> dict[int, bytes]:
    """The finished parts of this step by number, whichever attempt made them."""
    rows = session.execute(
        select(JobChunk.number, JobChunk.value).where(
            JobChunk.job_id == job_id, JobChunk.step == step
        )
    )
    return {row.number: row.value for row in rows}


def forget_chunks() -> int:
    """Remove the chunks of jobs that are done; returns how many."""
    with writing() as session:
        done = select(Job.id).where(Job.state == JobState.DONE)
        result = session.execute(
            delete(JobChunk)
            .where(JobChunk.job_id.in_(done))
            .execution_options(synchronize_session=False)
        )
        assert isinstance(result, CursorResult)
        return int(result.rowcount)


def _end(session: Session, held: Claim, **values: Any) -> None:
    _fenced(session, held, lease_until=None, finished_at=utc_now(), **values)


def _queued_again(
    wait: float, *, error_code: str | None, error_message: str | None
) -> dict[str, Any]:
    """Back to QUEUED, or to CANCELLED if somebody asked for it while it ran."""
    unless = Job.cancel_requested
    return {
        "state": case((unless, JobState.CANCELLED), else_=JobState.QUEUED),
        "finished_at": case((unless, utc_now()), else_=cast(null(), UtcDateTime)),
        "error_code": case((unless, Cancelled.code), else_=cast(error_code, Text)),
        "error_message": case((unless, cast(_STOPPED, Text)), else_=cast(error_message, Text)),
        "lease_until": None,
        "rung_at": None,
        "ring_after": database_now() + wait,
    }


def _remember(session: Session, held: Claim, *, outcome: str, message: str) -> None:
    """Keep an attempt that did not end its job."""
    started = select(Job.claimed_at).where(Job.id == held.job_id).scalar_subquery()
    session.add(
        JobAttempt(
            job_id=held.job_id,
            number=held.attempt,
            worker=held.worker,
            outcome=outcome,
            message=message,
            started_at=started,
        )
    )


def _fenced(session: Session, held: Claim, **values: Any) -> None:
    result = session.execute(
        update(Job)
        .where(Job.id == held.job_id, Job.attempt == held.attempt, IS_RUNNING)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise LeaseLost()
