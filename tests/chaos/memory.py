"""Scenario 12: jobs that fail leave nothing behind in a worker's memory."""

from __future__ import annotations

from sqlalchemy import func, select

from shared.database.engine import reading
from shared.database.models import Job, JobState
from tests.chaos import tasks
from tests.chaos.harness import Ground, Result, Stage

#: Growth of parent and pool together that is allowed after the warm-up.
MOST_GROWTH = 0.10


def failing_jobs(stage: Stage, *, failing: int = 1000, retried: int = 200) -> Result:
    """A thousand jobs fail and two hundred are tried again; the worker's memory does not grow."""
    result = Result(limit=600.0, rounds=1)
    with stage.ground(LEASE_SECONDS="5") as ground:
        worker, _ = ground.workers()
        warm_up = [ground.submit(tasks.FAILS) for _ in range(failing // 5)]
        warm_up += [ground.submit(tasks.STUMBLES) for _ in range(retried // 5)]
        ground.wait_until_ended(seconds=120)
        before = worker.memory()

        fails, stumbles = [], []
        for number in range(failing):
            fails.append(ground.submit(tasks.FAILS))
            if number * retried // failing > len(stumbles) - 1:
                stumbles.append(ground.submit(tasks.STUMBLES))
        result.recovered(ground.wait_until_ended(seconds=result.limit))
        after = worker.memory()

        growth = after / before - 1
        result.notes.append(f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        stage.say(f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after ({growth:+.1%})")
        result.expect(growth < MOST_GROWTH, f"the worker's memory grew by {growth:.0%}")
        result.expect(worker.deaths == 0, f"the worker died {worker.deaths} times")
        ground.count(result, fails, state=JobState.FAILED)
        ground.count(result, stumbles)
        result.expect(_tried_twice(ground) >= len(stumbles), "a job was done without a second try")
    return result


def _tried_twice(ground: Ground) -> int:
    with reading() as session:
        return session.scalar(
            select(func.count(Job.id)).where(Job.kind == tasks.STUMBLES, Job.attempt == 2)
        ) or 0  # fmt: skip
