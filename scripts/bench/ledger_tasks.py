"""Tasks that do nothing, or wait, for a worker that also loads this module (`--include`)."""

# Celery's decorators are untyped.
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import time
from typing import Any

from shared.jobs.running import running
from workers.app import app

NO_OP = "ai.bench_no_op"
SLEEP = "ai.bench_sleep"
BARE = "bench.bare_no_op"

NAP = 0.2  # seconds


@app.task(bind=True, name=NO_OP)
def no_op(self: Any, job_id: str) -> None:
    """A job of the ledger that has nothing to do."""
    with running(job_id, self):
        pass


@app.task(bind=True, name=SLEEP)
def sleep(self: Any, job_id: str) -> None:
    """A job of the ledger that takes its time and no processor."""
    with running(job_id, self):
        time.sleep(NAP)


@app.task(name=BARE)
def bare_no_op(_job_id: str) -> None:
    """A task without the ledger, whose result Celery stores as it does a job's."""
