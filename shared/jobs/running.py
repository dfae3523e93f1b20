"""What a worker does around a job: claim, lease, progress, and the one place where it ends."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from celery.exceptions import Ignore, SoftTimeLimitExceeded
from kombu.exceptions import KombuError
from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from shared.config import get_settings
from shared.database.clock import database_now
from shared.database.engine import reading, writing
from shared.database.models import Job, JobState, Lane
from shared.errors import BharatVerseError, Unavailable
from shared.jobs import dispatch, lease, ledger, shutdown
from shared.jobs.kinds import GRACE, kind_of
from shared.jobs.lanes import urgent_lane
from shared.jobs.ledger import IS_QUEUED, IS_RUNNING, Cancelled, Claim, LeaseLost
from shared.jobs.progress import PROGRESS_STATE, meta
from shared.jobs.retry import is_worth_retrying, wait_before
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS, breaker

log = get_logger(__name__)

#: Seconds between two progress messages of one phase: three a second is smooth, and each costs
#: 0.3 ms.
PUBLISH_INTERVAL = 0.33
#: Seconds after which work in a lower lane makes room, at its next chunk, for somebody who waits in
#: the urgent one.
BULK_TURN = 2.0
#: Seconds after which work makes room for other owners in its own lane: long enough that loading
#: what it needs again costs little.
LONG_TURN = 60.0
#: Seconds to go on trying to write down how a job ended while the database is away.
PERSISTENCE = 60.0


class HandedBack(BharatVerseError):
    """This job makes room for now, and goes on later from what it has saved."""

    code = "handed_back"


class TookItsTurn(HandedBack):
    """It made room for other people's jobs, and goes on from what it has saved."""


class OutOfMemory(Unavailable):
    """The worker ran out of memory on this."""

    code = "out_of_memory"


class Doorway(Protocol):
    """The part of a bound Celery task that is needed here."""

    request: Any

    def update_state(self, *, state: str, meta: dict[str, Any]) -> None:
        """Store a state in the result backend."""


class RunningJob:
    """A claimed job: its progress, and the transactions that its results go into."""

    def __init__(self, held: Claim, task: Doorway) -> None:
        self.job_id = held.job_id
        self.item_id = held.item_id
        self._held = held
        self._task = task
        self._done, self._total, self._phase = 0, 0, ""
        self._published_at = 0.0
        self._claimed_at = time.monotonic()
        self._renewed_at = self._claimed_at
        self._kind = kind_of(held.kind)
        self._interruption: BharatVerseError | None = None
        self._finished = False
        self._beating = threading.Lock()

    def progress(self, done: int, total: int, phase: str) -> None:
        """Say how far it is: units done, of total, and what is being done.

        Raises what ends the attempt early: `LeaseLost` when the job belongs to another worker by
        now, `Cancelled`, or `HandedBack` when this worker is about to stop.
        """
        self._raise_if_interrupted()
        changed = phase != self._phase
        self._done, self._total, self._phase = done, total, phase
        if changed or time.monotonic() - self._published_at >= PUBLISH_INTERVAL:
            self._publish()
            self._published_at = time.monotonic()

    @contextmanager
    def saving(self, *, last: bool = False) -> Iterator[Session]:
        """A transaction for results, fenced by the attempt.

        With `last` the same transaction marks the job DONE. Raises `LeaseLost`, and saves
        nothing, when the job belongs to another worker by now. After the commit it raises as
        `progress` does, and `HandedBack` when it is somebody else's turn: what was saved is kept,
        and a later attempt goes on from there.
        """
        with writing() as session:
            if last:
                ledger.finish(session, self._held)
            else:
                self._renew(session)
            yield session
        self._finished = last
        if not last:
            self._raise_if_interrupted()
            self._make_room()

    def chunks(self, step: str) -> dict[int, bytes]:
        """The parts of this step that this or an earlier attempt has saved, by number."""
        with reading() as session:
            return ledger.chunks(session, self.job_id, step=step)

    def save_chunk(self, step: str, number: int, value: bytes) -> None:
        """Keep a part of a long step; raises as `saving` does."""
        with self.saving() as session:
            ledger.save_chunk(session, self._held, step=step, number=number, value=value)

    def beat(self) -> None:
        """Renew the lease when a third of it is over, and notice what ends the attempt."""
        with self._beating:
            try:
                self._look_after_it()
            except LeaseLost as error:
                self._interruption = error
            except Exception as error:  # noqa: BLE001 - a heartbeat that stops loses the job
                # The fence decides who holds it; until then the work goes on.
                log.warning(
                    "Lease not renewed",
                    action="lease.retry",
                    job=self.job_id[:8],
                    error=repr(error),
                )

    def _look_after_it(self) -> None:
        # It writes to the ledger only: Celery knows the current task by thread, and would make a
        # result backend of its own here. A page that finds no news in Redis asks the ledger.
        if isinstance(self._interruption, LeaseLost):
            return
        now = time.monotonic()
        if now - self._claimed_at > self._kind.soft_limit + 0.7 * GRACE:
            # Native code that hears no interruption is killed soon: say why before that.
            with writing() as session:
                ledger.fail(
                    session,
                    self._held,
                    code="timeout",
                    sentence=ledger.timeout_sentence(self._kind.soft_limit),
                )
            raise LeaseLost()
        stopping = shutdown.since()
        if stopping is not None and stopping > shutdown.LAST_MOMENT:
            with writing() as session:
                ledger.hand_back(session, self._held, reason="Its worker was stopped or died.")
            raise LeaseLost()
        if now - self._renewed_at >= get_settings().lease_seconds / 3:
            with writing() as session:
                self._renew(session)

    def _renew(self, session: Session) -> None:
        asked_to_stop = ledger.hold(
            session, self._held, done=self._done, total=self._total, phase=self._phase
        )
        self._renewed_at = time.monotonic()
        if asked_to_stop and self._interruption is None:
            self._interruption = Cancelled()

    def _raise_if_interrupted(self) -> None:
        stopping = shutdown.since()
        if self._interruption is None and stopping is not None and stopping > shutdown.SOFT_TIME:
            self._interruption = HandedBack("Its worker was stopped or died.")
        if self._interruption is not None:
            raise self._interruption

    def _make_room(self) -> None:
        """Raise `HandedBack` when it has had its turn and somebody waits for theirs."""
        lane, held_for = self._held.lane, time.monotonic() - self._claimed_at
        if breaker.is_open:
            return  # nobody can take the place
        urgent = urgent_lane(lane)
        if lane != urgent and held_for >= BULK_TURN and self._waits(Job.lane == urgent):
            raise HandedBack("It made room for a single contribution.")
        others = (Job.lane == lane) & (Job.owner_id != self._held.owner_id)
        if held_for >= LONG_TURN and self._waits(others):
            raise TookItsTurn()

    def _waits(self, which: ColumnElement[bool]) -> bool:
        """Whether such a job has waited for a second, and so finds no free process."""
        a_while_ago = database_now() - 1.0
        due = (Job.rung_at < a_while_ago) | (Job.rung_at.is_(None) & (Job.ring_after < a_while_ago))
        paused = select(Lane.name).where(Lane.paused)
        with reading() as session:
            return bool(
                session.scalar(
                    select(
                        exists().where(IS_QUEUED, which, due, Job.lane.not_in(paused))
                        # What runs when its lane is paused goes on to its end.
                        & ~exists().where(Lane.name == self._held.lane, Lane.paused)
                    )
                )
            )

    def _wait_until_alone(self) -> None:
        """Wait until this worker runs nothing else: a suspect takes nobody with it.

        Of two suspects that were claimed at the same moment one makes room, else each would wait
        for the other.
        """
        others = select(Job.id, Job.losses).where(
            IS_RUNNING,
            Job.worker == self._held.worker,
            Job.id != self.job_id,
            Job.lease_until >= database_now(),
        )
        while True:
            with reading() as session:
                beside = session.execute(others).all()
            if not beside:
                return
            if any(other.losses > 0 and other.id < self.job_id for other in beside):
                raise HandedBack("Another job that lost a worker goes first.")
            if time.monotonic() - self._claimed_at > self._kind.soft_limit / 2:
                raise HandedBack("It waited long for its worker to be free, and needs its time.")
            self.progress(0, 0, "")
            time.sleep(0.3)

    def _publish(self, state: str = PROGRESS_STATE) -> None:
        if breaker.is_open:
            return
        try:
            self._task.update_state(state=state, meta=meta(self._done, self._total, self._phase))
        except (ValueError, KombuError, *REDIS_ERRORS) as error:
            # Redis is away, or what it has under this id cannot be read, which Celery does first.
            # Pages read the ledger meanwhile; the heartbeat writes the progress there.
            if isinstance(error, REDIS_ERRORS):
                breaker.failed()
            log.debug("Progress not published", job=self.job_id[:8], error=type(error).__name__)

    def _waits_again(self) -> None:
        """Take the progress back, so that pages ask the ledger."""
        # A state that Celery does not know: from RETRY it would read an exception, and fail.
        self._publish(JobState.QUEUED.value)

    def _let_go(self) -> None:
        lease.let_go(self)
        with self._beating:  # a beat on its way still ends
            pass


@contextmanager
def running(job_id: str, task: Doorway) -> Iterator[RunningJob]:
    """Claim the job, keep its lease while the body works, and end it as the body ended.

    Returning marks the job DONE (unless `saving(last=True)` did). An error that time may mend
    requeues it with a growing wait, a few tries in all; any other error marks it FAILED. A message
    for a job that is not claimable is dropped without leaving a state in the result backend,
    because a stored SUCCESS would hide every later state.
    """
    held = _claim(job_id, task)
    started = time.monotonic()
    job = RunningJob(held, task)
    try:
        lease.keep(job)
        _refill(held.lane)
        if held.is_suspect:
            job._wait_until_alone()
        yield job
        if not job._finished:
            _insist(lambda session: ledger.finish(session, held))
    except LeaseLost:
        log.warning("A late result was refused", action="job.lease_lost", job=job_id[:8])
        raise Ignore() from None
    except (Cancelled, HandedBack) as why:
        _stop_early(job, held, why)
        raise Ignore() from None
    except Exception as error:
        if isinstance(error, MemoryError):
            # Celery's worker ends itself when a task raises this one.
            raised: Exception = OutOfMemory()
        else:
            raised = error
        final = _end_badly(held, raised)
        expected = isinstance(raised, BharatVerseError)
        log.log(
            logging.WARNING if expected else logging.ERROR,
            "A job failed" if final else "A job will be tried again",
            action="job.failed" if final else "job.requeued",
            job=job_id[:8],
            kind=held.kind,
            attempt=held.attempt,
            error=str(raised) if expected else type(raised).__name__,
            exc_info=not expected,
        )
        if final:
            # Celery stores FAILURE, and Flower shows it
            raise raised from (None if raised is error else error)
        job._waits_again()
        raise Ignore() from error
    finally:
        # Last of all: until its end is written this process is not idle, and keeps the lease.
        job._let_go()
    log.info(
        "A job is done",
        action="job.done",
        job=job_id[:8],
        kind=held.kind,
        attempt=held.attempt,
        ms=round((time.monotonic() - started) * 1000),
    )


def _claim(job_id: str, task: Doorway) -> Claim:
    try:
        if shutdown.since() is not None:
            ledger.wait_again(job_id)  # another worker gets it
            raise Ignore()
        held = ledger.claim(job_id, worker=_worker_name(task))
    except Unavailable as error:
        # Nothing is lost but the message, and recovery sends another one.
        log.warning(
            "A job could not be claimed", action="job.not_claimed", job=job_id[:8], error=error.code
        )
        raise Ignore() from None
    if held is None:
        log.info("Nothing to do for a message", action="job.not_claimable", job=job_id[:8])
        raise Ignore()
    return held


def _refill(lane: str) -> None:
    """Ring whoever comes next; that it fails is not this job's business."""
    try:
        dispatch.refill(lane)
    except Unavailable as error:
        log.debug("Others wait for the next dispatch", error=error.code)


def _worker_name(task: Doorway) -> str:
    """The pool that this process belongs to: the parent's pid tells this run from the last one."""
    return f"{task.request.hostname or socket.gethostname()}:{os.getppid()}"


def _insist(write: Callable[[Session], None]) -> None:
    """Write the end of a job, again and again while the database is away.

    The fence keeps it right: whoever took the job over meanwhile makes it raise `LeaseLost`. When
    all fails it raises `Unavailable`; then the lease runs out, and recovery acts.
    """
    give_up_at = time.monotonic() + PERSISTENCE
    pause = 0.2
    while True:
        try:
            with writing() as session:
                write(session)
            return
        except Unavailable:
            if time.monotonic() > give_up_at or shutdown.since() is not None:
                raise
        time.sleep(pause)
        pause = min(2.0, pause * 2)


def _stop_early(job: RunningJob, held: Claim, why: BharatVerseError) -> None:
    """Write down that it was cancelled or handed back."""
    try:
        if isinstance(why, Cancelled):
            _insist(lambda session: ledger.cancelled(session, held))
        else:
            behind = isinstance(why, TookItsTurn)
            _insist(
                lambda session: ledger.hand_back(
                    session, held, reason=why.sentence, behind_others=behind
                )
            )
    except (LeaseLost, Unavailable) as error:
        log.warning(
            "The end of a job could not be written",
            action="job.end_not_written",
            job=held.job_id[:8],
            error=error.code,
        )
        return
    log.info("A job stopped early", action=f"job.{why.code}", job=held.job_id[:8])
    job._waits_again()


def _end_badly(held: Claim, error: Exception) -> bool:
    """Write the end into the ledger; returns whether it is final.

    When that fails too, the lease runs out and recovery acts.
    """
    code, sentence = _reason(error, held)
    again = is_worth_retrying(error) and held.errors + 1 < kind_of(held.kind).tries
    try:
        if again:
            wait = wait_before(held.errors)
            _insist(
                lambda session: ledger.requeue(
                    session, held, wait=wait, code=code, sentence=sentence
                )
            )
        else:
            _insist(lambda session: ledger.fail(session, held, code=code, sentence=sentence))
    except (LeaseLost, Unavailable) as why:
        log.warning(
            "The end of a job could not be written",
            action="job.end_not_written",
            job=held.job_id[:8],
            error=why.code,
        )
        return False
    return not again


def _reason(error: Exception, held: Claim) -> tuple[str, str]:
    if isinstance(error, BharatVerseError):
        return error.code, error.sentence
    if isinstance(error, SoftTimeLimitExceeded):
        return "timeout", ledger.timeout_sentence(kind_of(held.kind).soft_limit)
    return "internal", (
        f"Something unexpected went wrong ({type(error).__name__}); the log of the worker has the "
        "details. Nothing that you contributed is lost."
    )
