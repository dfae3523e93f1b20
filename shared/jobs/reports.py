"""What workers report about the processes of their jobs."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.database.engine import writing
from shared.database.models import Job
from shared.jobs import dispatch, ledger
from shared.jobs.kinds import kind_of
from shared.observability.logging import get_logger

log = get_logger(__name__)


def take(what: str, *, job_id: str, worker: str, at: float, why: str) -> None:
    """Act on a report: "process_died" requeues the job, "timed_out" ends it.

    `at` is when it happened, seconds since 1970; an attempt that began later is another one, and
    left alone. `why` is Celery's sentence about the death. Raises `Unavailable`; then the lease
    tells the same, only later.
    """
    this_attempt = (
        (Job.id == job_id)
        & (Job.worker == worker)
        & (Job.claimed_at <= datetime.fromtimestamp(at, UTC))
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
