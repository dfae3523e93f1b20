"""Tasks of the queue `warmup`."""

from __future__ import annotations

from shared.observability import pings
from shared.observability.canary import note_task_passed
from workers.app import app


@app.task(name="warmup.ping_services", ignore_result=True)
def ping_services() -> None:
    """Ping the configured services, so that none starts cold under a person's request."""
    pings.ping_services()


@app.task(name="warmup.canary", ignore_result=True)
def canary() -> None:
    """The evidence that this queue is consumed."""
    note_task_passed("warmup")
