"""What workers report about the processes of their jobs."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import exists

from shared.database.engine import writing
from shared.database.models import Job, JobAttempt
from shared.jobs import dispatch, ledger
from shared.jobs.kinds import kind_of
from shared.observability.logging import get_logger

log = get_logger(__name__)

#: Seconds by which the parent's monotonic clock and its wall clock may disagree.
_CLOCK_ERROR = 0.05


def take(what: str, *, job_id: str, worker: str, began: float, why: str) -> None:
    """Act on a report: "process_died" requeues the job, "timed_out" ends it.

    `began` is when the process received the message, seconds since 1970. The first attempt that
    this worker claimed since then is the one; an earlier or a later one is another process's, and
    left alone. `why` is Celery's sentence about the death. Raises `Unavailable`; then the lease
    tells the same, only later.
    """
    since = datetime.fromtimestamp(began - _CLOCK_ERROR, UTC)
    ended_already = exists().where(
        JobAttempt.job_id == job_id, JobAttempt.worker == worker, JobAttempt.started_at >= since
    )
    this_attempt = (
        (Job.id == job_id) & (Job.worker == worker) & (Job.claimed_at >= since) & ~ended_already
    )
    with writing() as session:
        job = session.get(Job, job_id)
        if job is None:
            return
        if what == "timed_out":
            ledger.time_out(session, this_attempt, seconds=kind_of(job.kind).soft_limit)
            return
        lost = ledger.lose(
            session, this_attempt, reason=f"The process that worked on it died: {why}"
        )
    if lost:
        dispatch.dispatch(job.lane)
