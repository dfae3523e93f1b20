"""Tasks that behave as badly as real ones do: `celery worker --include tests.chaos.tasks`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from sqlalchemy import func, select

from shared.database.engine import reading, writing
from shared.errors import Unavailable
from shared.jobs.running import RunningJob, running
from tests.chaos.tables import Effect, Order, Trace
from workers.app import app

WORK = "ai.chaos_work"
DEAF = "ai.chaos_deaf"
CHUNKS = "ai.chaos_chunks"
KILLS_PROCESS = "ai.chaos_kills_process"
KILLS_WORKER = "ai.chaos_kills_worker"
FAILS = "ai.chaos_fails"
STUMBLES = "ai.chaos_stumbles"

#: Seconds between two words of progress.
STEP = 0.05


@app.task(bind=True, name=WORK)
def work(self: Any, job_id: str) -> None:
    """Work for a while, telling how far it is."""
    with running(job_id, self) as job:
        order = _begin(job)
        _spend(job, order.seconds)
        _finish(job)


@app.task(bind=True, name=DEAF)
def work_deaf(self: Any, job_id: str) -> None:
    """Work for a while like native code, which hears nothing meanwhile."""
    with running(job_id, self) as job:
        order = _begin(job)
        time.sleep(order.seconds)
        _finish(job)


@app.task(bind=True, name=CHUNKS)
def work_in_chunks(self: Any, job_id: str) -> None:
    """Work part by part, each kept as soon as it is done."""
    with running(job_id, self) as job:
        order = _begin(job)
        kept = job.chunks("parts")
        for number in range(order.parts):
            if number in kept:
                continue
            job.progress(number, order.parts, "parts")
            _trace(job, f"part {number}")
            time.sleep(order.seconds)
            job.save_chunk("parts", number, str(number).encode())
        assert sorted(job.chunks("parts")) == list(range(order.parts))
        _finish(job)


@app.task(bind=True, name=KILLS_PROCESS)
def kill_process(self: Any, job_id: str) -> None:
    """A poison that ends its own process, as the kernel does when memory is short."""
    with running(job_id, self) as job:
        time.sleep(_begin(job).seconds)
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, name=KILLS_WORKER)
def kill_worker(self: Any, job_id: str) -> None:
    """A poison that takes the whole worker with it."""
    with running(job_id, self) as job:
        time.sleep(_begin(job).seconds)
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, name=FAILS)
def fail(self: Any, job_id: str) -> None:
    """Fail for good."""
    with running(job_id, self):
        raise ValueError("as ordered")


@app.task(bind=True, name=STUMBLES)
def stumble(self: Any, job_id: str) -> None:
    """Fail once in a way that time mends, then do it."""
    with running(job_id, self) as job:
        _begin(job)
        job.progress(1, 2, "stumbling")  # a later try tells its progress, too
        with reading() as session:
            tries = session.scalar(select(func.count()).where(Trace.job_id == job_id))
        if tries == 1:
            raise Unavailable("Once, as ordered.")
        _finish(job)


def _begin(job: RunningJob) -> Order:
    _trace(job, "began")
    with reading() as session:
        return session.get_one(Order, job.job_id)


def _trace(job: RunningJob, what: str) -> None:
    with writing() as session:
        session.add(Trace(job_id=job.job_id, what=what, pid=os.getpid(), at=time.time()))


def _spend(job: RunningJob, seconds: float) -> None:
    begun = time.monotonic()
    while (spent := time.monotonic() - begun) < seconds:
        job.progress(round(100 * spent / seconds), 100, "working")
        time.sleep(min(STEP, seconds - spent))


def _finish(job: RunningJob) -> None:
    with job.saving(last=True) as session:
        session.add(Effect(job_id=job.job_id))
