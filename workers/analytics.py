"""Tasks of the queue `analytics`."""

from __future__ import annotations

from shared import analytics
from workers.app import app


@app.task(name="analytics.flush", ignore_result=True)
def flush() -> None:
    """Write the waiting events to the database in batches."""
    analytics.flush()
