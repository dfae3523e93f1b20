"""The canary of every queue."""

from __future__ import annotations

from shared.observability.canary import TASK, note_task_passed
from workers.app import app


@app.task(name=TASK, ignore_result=True)
def canary(queue: str) -> None:
    """The evidence that this queue is consumed."""
    note_task_passed(queue)
