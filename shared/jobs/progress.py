"""Progress on its way from a worker to a page, through Celery's result backend.

A worker stores `(done, total, phase)` under the job's id; a page reads all the jobs it shows with
one MGET, and what Redis does not hold it reads from the ledger in one query.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from shared.config import get_settings
from shared.database.engine import reading
from shared.database.models import Job, JobState
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS, breaker, client

if TYPE_CHECKING:
    from shared.jobs.view import JobLine

log = get_logger(__name__)

#: Celery's name for a running task that tells how far it is.
PROGRESS_STATE = "PROGRESS"
_KEY = "celery-task-meta-"  # and the task's id: where Celery's Redis backend keeps a task's state


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is."""

    job_id: str
    state: JobState
    done: int  # units of work, of `total`; both 0 while it waits
    total: int
    phase: str  # what it is doing: "keywords"
    error: str | None = None  # the sentence, when it failed or waits to be tried again
    position: int | None = None  # in its queue, from 1; None when it runs, has ended or is delayed
    seconds_left: float | None = None  # until it is done; None: there is nothing to tell it from
    is_stopping: bool = False  # somebody asked for it, and its worker has not noticed yet
    is_paused: bool = False  # waits until an admin resumes its queue

    @property
    def fraction(self) -> float:
        """0 to 1."""
        if self.state is JobState.DONE:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0


def meta(done: int, total: int, phase: str) -> dict[str, Any]:
    """What a worker stores; `at` tells a reader whether it is still being renewed."""
    return {"done": done, "total": total, "phase": phase, "at": time.time()}


def read(job_ids: Sequence[str]) -> dict[str, Progress]:
    """The progress of these jobs by id; an unknown id is left out.

    Redis answers for jobs that are running; the ledger answers for the rest, and for all of them
    while Redis is away.
    """
    found = from_redis(job_ids)
    missing = [job_id for job_id in job_ids if job_id not in found]
    if not missing:
        return found
    found |= _from_ledger(missing)
    return {job_id: found[job_id] for job_id in job_ids if job_id in found}


def from_redis(job_ids: Sequence[str]) -> dict[str, Progress]:
    """What Redis says of those of these jobs that are running; nothing while it is away.

    The final state is never taken from here: a late delivery may have written over it.
    """
    if not job_ids or breaker.is_open:
        return {}
    try:
        values: Any = client().mget([_KEY + job_id for job_id in job_ids])
    except REDIS_ERRORS:
        breaker.failed()
        return {}
    breaker.succeeded()
    expired = time.time() - get_settings().lease_seconds
    found = {}
    for job_id, record in zip(job_ids, _decoded(values), strict=True):
        if record is None:
            continue
        try:
            if record["status"] != PROGRESS_STATE:
                continue
            told = record["result"]
            if told["at"] >= expired:
                found[job_id] = Progress(
                    job_id=job_id,
                    state=JobState.RUNNING,
                    done=int(told["done"]),
                    total=int(told["total"]),
                    phase=str(told["phase"]),
                )
        except (ValueError, KeyError, TypeError):
            continue  # not ours: the ledger knows
    return found


def _decoded(values: Sequence[bytes | None]) -> list[Any]:
    """These JSON documents, None for what is none; all in one go takes half the time."""
    try:
        records = json.loads(b"[" + b",".join(value or b"null" for value in values) + b"]")
        if len(records) == len(values):
            return list(records)
    except ValueError:
        pass  # one of them is not ours; the others are
    return [_decoded_alone(value) for value in values]


def _decoded_alone(value: bytes | None) -> Any:
    try:
        return None if value is None else json.loads(value)
    except ValueError:
        return None


def forget(job_id: str) -> None:
    """Take back what Redis says of a job that does not run, so that pages ask the ledger."""
    if breaker.is_open:
        return
    try:
        client().delete(_KEY + job_id)
    except REDIS_ERRORS as error:
        breaker.failed()
        # What is there is out of date once a lease has passed.
        log.debug("Progress not taken back", job=job_id[:8], error=type(error).__name__)


def _from_ledger(job_ids: Sequence[str]) -> dict[str, Progress]:
    with reading() as session:
        rows = session.execute(
            select(
                Job.id, Job.state, Job.progress_done, Job.progress_total, Job.phase,
                Job.error_message, Job.cancel_requested,
            ).where(Job.id.in_(job_ids))
        )  # fmt: skip
        return {row.id: of(row) for row in rows}


def of(job: Job | JobLine | Any, *, position: int | None = None) -> Progress:
    """How far the ledger says the job is."""
    return Progress(
        job_id=job.id,
        state=job.state,
        done=job.progress_done,
        total=job.progress_total,
        phase=job.phase,
        error=job.error_message,
        position=position,
        is_stopping=job.cancel_requested and job.state is JobState.RUNNING,
    )
