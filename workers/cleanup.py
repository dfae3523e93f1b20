"""Tasks of the queue `cleanup`."""

from __future__ import annotations

from shared.archive import cleanup
from shared.jobs import ledger
from shared.observability.canary import note_task_passed
from workers.app import app


@app.task(name="cleanup.clean_up", ignore_result=True)
def clean_up() -> None:
    """Remove ended sessions and forgotten temporary files."""
    cleanup.clean_up()


@app.task(name="cleanup.recover_jobs", ignore_result=True)
def recover_jobs() -> None:
    """Requeue the jobs of dead workers, and ring those whose message was lost."""
    ledger.recover()


@app.task(name="cleanup.canary", ignore_result=True)
def canary() -> None:
    """The evidence that this queue is consumed."""
    note_task_passed("cleanup")
