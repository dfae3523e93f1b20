"""Jobs for tests of the workers: `celery -A workers.app worker --include tests.tasks`.

Each does only what its test needs to see. A worker that is started with WATCHDOG_LIMIT in its
environment has a quicker watchdog, so that no test waits for half a minute.
"""

from __future__ import annotations

import os
import time
from typing import Any

from shared.errors import Unavailable
from shared.jobs.running import running
from workers import watchdog
from workers.app import app

#: Chunks of `ai.test_chunks`, and the seconds that each takes.
CHUNKS, CHUNK_SECONDS = 24, 0.5

if "WATCHDOG_LIMIT" in os.environ:
    watchdog.LIMIT = float(os.environ["WATCHDOG_LIMIT"])


@app.task(bind=True, name="ai.test_short")
def short(self: Any, job_id: str) -> None:
    """Three seconds of work without a chunk."""
    with running(job_id, self) as job:
        for step in range(30):
            job.progress(step, 30, "short")
            time.sleep(0.1)


@app.task(bind=True, name="ai.test_chunks")
def chunks(self: Any, job_id: str) -> None:
    """Twelve seconds of work in chunks, each of which says which process made it."""
    with running(job_id, self) as job:
        have = job.chunks("count")
        for number in range(CHUNKS):
            if number not in have:
                time.sleep(CHUNK_SECONDS)
                job.save_chunk("count", number, str(os.getpid()).encode())
            job.progress(number + 1, CHUNKS, "count")


@app.task(bind=True, name="ai.test_stuck")
def stuck(self: Any, job_id: str) -> None:
    """Work that never looks up."""
    with running(job_id, self):
        time.sleep(1000)


@app.task(bind=True, name="ai.test_fails")
def fails(self: Any, job_id: str) -> None:
    """What no time mends."""
    with running(job_id, self) as job:
        job.progress(0, 1, "fail")
        raise ValueError(job_id * 100)


@app.task(bind=True, name="ai.test_retried")
def retried(self: Any, job_id: str) -> None:
    """What time may mend."""
    with running(job_id, self) as job:
        job.progress(0, 1, "retry")
        raise Unavailable("Not now.")
