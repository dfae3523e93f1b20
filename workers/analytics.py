"""Tasks of the queue `analytics`."""

from __future__ import annotations

from shared import analytics
from shared.observability.canary import note_task_passed
from workers.app import app


@app.task(name="analytics.flush", ignore_result=True)
def flush() -> None:
    """Write the waiting events to the database in batches."""
    analytics.flush()


@app.task(name="analytics.canary", ignore_result=True)
def canary() -> None:
    """The evidence that this queue is consumed."""
    note_task_passed("analytics")
