"""Tasks of the queue `cleanup`."""

from __future__ import annotations

from shared.archive import cleanup
from shared.jobs import ledger, recovery, reports
from workers.app import app


@app.task(name="cleanup.clean_up", ignore_result=True)
def clean_up() -> None:
    """Remove ended sessions, forgotten temporary files, and the parts of finished jobs."""
    cleanup.clean_up()
    ledger.forget_chunks()


@app.task(name="cleanup.recover_jobs", ignore_result=True)
def recover_jobs() -> None:
    """Requeue the jobs of dead workers, and ring those whose message was lost."""
    recovery.recover_if_due()


@app.task(name="cleanup.report", ignore_result=True)
def report(what: str, job_id: str, worker: str, began: float, why: str) -> None:
    """A worker's parent says that the process of a job died, or was killed at its limit."""
    reports.take(what, job_id=job_id, worker=worker, began=began, why=why)
