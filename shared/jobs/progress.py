"""Progress on its way from a worker to a page, through Celery's result backend.

A worker stores `(done, total, phase)` under the job's id; a page reads all the jobs it shows with
one MGET, and what Redis does not hold it reads from the ledger in one query.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from shared.config import get_settings
from shared.database.engine import reading
from shared.database.models import Job, JobState
from shared.redis_client import REDIS_ERRORS, breaker, client

#: Celery's name for a running task that tells how far it is.
PROGRESS_STATE = "PROGRESS"
_KEY = "celery-task-meta-{}"  # where Celery's Redis backend keeps a task's state


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is."""

    job_id: str
    state: JobState
    done: int  # units of work, of `total`; both 0 while it waits
    total: int
    phase: str  # what it is doing: "keywords"
    error: str | None = None  # the sentence, when it failed

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
    found = _from_redis(job_ids)
    missing = [job_id for job_id in job_ids if job_id not in found]
    if missing:
        found |= _from_ledger(missing)
    return {job_id: found[job_id] for job_id in job_ids if job_id in found}


def _from_redis(job_ids: Sequence[str]) -> dict[str, Progress]:
    if not job_ids or breaker.is_open:
        return {}
    try:
        values: Any = client().mget([_KEY.format(job_id) for job_id in job_ids])
    except REDIS_ERRORS:
        breaker.failed()
        return {}
    breaker.succeeded()
    found = {}
    for job_id, value in zip(job_ids, values, strict=True):
        progress = _running(job_id, value) if value is not None else None
        if progress is not None:
            found[job_id] = progress
    return found


def _running(job_id: str, value: bytes) -> Progress | None:
    """What Redis says of a running job; None when it says anything else or is out of date.

    The final state is never taken from here: a late delivery may have written over it.
    """
    try:
        record = json.loads(value)
        result = record["result"]
        if record["status"] != PROGRESS_STATE:
            return None
        if time.time() - float(result["at"]) > get_settings().lease_seconds:
            return None
        return Progress(
            job_id=job_id,
            state=JobState.RUNNING,
            done=int(result["done"]),
            total=int(result["total"]),
            phase=str(result["phase"]),
        )
    except (ValueError, KeyError, TypeError):
        return None  # not ours: the ledger knows


def _from_ledger(job_ids: Sequence[str]) -> dict[str, Progress]:
    with reading() as session:
        jobs = session.scalars(select(Job).where(Job.id.in_(job_ids)))
        return {job.id: of(job) for job in jobs}


def of(job: Job) -> Progress:
    """How far the ledger says the job is."""
    return Progress(
        job_id=job.id,
        state=job.state,
        done=job.progress_done,
        total=job.progress_total,
        phase=job.phase,
        error=job.error_message,
    )
