"""What a worker does around a job: claim, heartbeat, progress, and the one place where it ends."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from celery.exceptions import Ignore, SoftTimeLimitExceeded
from sqlalchemy.orm import Session

from shared.config import get_settings
from shared.database.engine import writing
from shared.errors import BharatVerseError, Unavailable
from shared.jobs import ledger
from shared.jobs.ledger import Claim, LeaseLost
from shared.jobs.progress import PROGRESS_STATE, meta
from shared.jobs.retry import MAX_ATTEMPTS, is_worth_retrying, wait_before
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS

log = get_logger(__name__)

#: Seconds between two progress messages of one phase: three a second is smooth, and each costs
#: 0.3 ms.
PUBLISH_INTERVAL = 0.33


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
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._finished = False
        # Daemonic: a process that must die is not kept alive by its heartbeat.
        self._heartbeat = threading.Thread(
            target=self._renew_until_ended, name=f"lease-{held.job_id[:8]}", daemon=True
        )

    def progress(self, done: int, total: int, phase: str) -> None:
        """Say how far it is: units done, of total, and what is being done.

        Raises `LeaseLost` when the job belongs to another worker by now.
        """
        if self._lost.is_set():
            raise LeaseLost()
        changed = phase != self._phase
        self._done, self._total, self._phase = done, total, phase
        if changed or time.monotonic() - self._published_at >= PUBLISH_INTERVAL:
            self._published_at = time.monotonic()
            self._publish()

    @contextmanager
    def saving(self, *, last: bool = False) -> Iterator[Session]:
        """A transaction for results, fenced by the attempt.

        With `last` the same transaction marks the job DONE. Raises `LeaseLost`, and saves
        nothing, when the job belongs to another worker by now.
        """
        with writing() as session:
            if last:
                ledger.finish(session, self._held)
            else:
                ledger.hold(
                    session, self._held, done=self._done, total=self._total, phase=self._phase
                )
            yield session
        self._finished = last

    def _publish(self, state: str = PROGRESS_STATE) -> None:
        try:
            self._task.update_state(state=state, meta=meta(self._done, self._total, self._phase))
        except REDIS_ERRORS as error:
            # Pages read the ledger meanwhile; the heartbeat writes the progress there.
            log.debug("Progress not published", job=self.job_id[:8], error=type(error).__name__)

    def _renew_until_ended(self) -> None:
        # It writes to the ledger only: Celery knows the current task by thread, and would make a
        # result backend of its own here. A page that finds no news in Redis asks the ledger.
        lease = get_settings().lease_seconds
        good_until = time.monotonic() + lease
        while not self._ended.wait(lease / 3):
            try:
                with writing() as session:
                    ledger.hold(
                        session, self._held, done=self._done, total=self._total, phase=self._phase
                    )
                good_until = time.monotonic() + lease
            except LeaseLost:
                self._lost.set()
                return
            except Exception as error:  # noqa: BLE001 - a heartbeat that stops loses the job
                log.warning(
                    "Lease not renewed",
                    action="lease.retry",
                    job=self.job_id[:8],
                    error=repr(error),
                )
                if time.monotonic() > good_until:
                    self._lost.set()
                    return

    def _waits_again(self) -> None:
        """Take the progress back, so that pages ask the ledger."""
        self._publish("RETRY")

    def _start(self) -> None:
        self._heartbeat.start()

    def _end(self) -> None:
        self._ended.set()
        self._heartbeat.join()


@contextmanager
def running(job_id: str, task: Doorway) -> Iterator[RunningJob]:
    """Claim the job, keep its lease while the body works, and end it as the body ended.

    Returning marks the job DONE (unless `saving(last=True)` did). An `Unavailable` error requeues
    it with a growing wait, three tries in all; any other error marks it FAILED. A message for a
    job that is not claimable is dropped without leaving a state in the result backend, because
    a stored SUCCESS would hide every later state.
    """
    held = ledger.claim(job_id, worker=f"{task.request.hostname or socket.gethostname()}")
    if held is None:
        log.info("Nothing to do for a message", action="job.not_claimable", job=job_id[:8])
        raise Ignore()
    started = time.monotonic()
    job = RunningJob(held, task)
    job._start()
    try:
        try:
            yield job
        finally:
            job._end()
        if not job._finished:
            with writing() as session:
                ledger.finish(session, held)
    except LeaseLost:
        log.warning("A late result was refused", action="job.lease_lost", job=job_id[:8])
        raise Ignore() from None
    except Exception as error:
        final = _end_badly(held, error)
        expected = isinstance(error, BharatVerseError)
        log.log(
            logging.WARNING if expected else logging.ERROR,
            "A job failed" if final else "A job will be tried again",
            action="job.failed" if final else "job.requeued",
            job=job_id[:8],
            kind=held.kind,
            attempt=held.attempt,
            error=str(error) if expected else type(error).__name__,
            exc_info=not expected,
        )
        if final:
            raise  # Celery stores FAILURE, and Flower shows it
        job._waits_again()
        raise Ignore() from error
    log.info(
        "A job is done",
        action="job.done",
        job=job_id[:8],
        kind=held.kind,
        attempt=held.attempt,
        ms=round((time.monotonic() - started) * 1000),
    )


def _end_badly(held: Claim, error: Exception) -> bool:
    """Write the end into the ledger; returns whether it is final.

    When that fails too, the lease runs out and recovery acts.
    """
    code, sentence = _reason(error)
    again = is_worth_retrying(error) and held.attempt < MAX_ATTEMPTS
    try:
        with writing() as session:
            if again:
                wait = wait_before(held.attempt)
                ledger.requeue(session, held, wait=wait, code=code, sentence=sentence)
            else:
                ledger.fail(session, held, code=code, sentence=sentence)
    except (LeaseLost, Unavailable) as why:
        log.warning(
            "The end of a job could not be written",
            action="job.end_not_written",
            job=held.job_id[:8],
            error=why.code,
        )
        return False
    return not again


def _reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, BharatVerseError):
        return error.code, error.sentence
    if isinstance(error, SoftTimeLimitExceeded):
        limit = get_settings().task_timeout_seconds
        return "timeout", f"It took longer than {limit} seconds and was stopped."
    return "internal", (
        f"Something unexpected went wrong ({type(error).__name__}); the log of the worker has the "
        "details. Nothing that you contributed is lost."
    )
