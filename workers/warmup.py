"""Tasks of the queue `warmup`."""

from __future__ import annotations

from shared.observability import pings
from workers.app import app


@app.task(name="warmup.ping_services", ignore_result=True)
def ping_services() -> None:
    """Ping the configured services, so that none starts cold under a person's request."""
    pings.ping_services()
