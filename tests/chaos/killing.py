"""Scenarios 1 and 6: workers die by kill -9, and by the jobs that they do."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shared.database.models import JobState
from tests.chaos import tasks
from tests.chaos.harness import Ground, Result, Stage, Worker

#: Seconds that a worker's start takes on a machine that is not busy.
USUAL_START = 5.0


def killed_workers(stage: Stage, *, rounds: int, jobs: int = 20, lease: float = 4.0) -> Result:
    """A worker or a process of its pool, in turn, dies by kill -9 amid jobs; all jobs are done.

    In half of its deaths the parent's pool lives on as orphans.
    """
    result = Result(limit=30.0)
    with stage.ground(LEASE_SECONDS=str(lease)) as ground:
        ai, _ = ground.workers()
        ids: list[str] = []
        for number in range(rounds):
            ids += [
                ground.submit(tasks.WORK, seconds=stage.chance.uniform(0.2, 0.8))
                for _ in range(jobs)
            ]
            victim = ("parent", "process")[number % 2]
            stage.pause(0.2, 3.0)
            live_then = ground.live()
            _kill(ai, victim, stage=stage)
            took = ground.wait_until_ended(seconds=result.limit + 60)
            ai.wait_until_ready()
            # On a busy machine a start takes half a minute: that says nothing about the ledger.
            slow_start = max(0.0, ai.last_start - USUAL_START) if victim == "parent" else 0.0
            result.recovered(took - slow_start)
            result.rounds += 1
            stage.say(
                f"round {number + 1}: {victim} killed amid {live_then} jobs, well in {took:.1f} s"
                + (f", {slow_start:.1f} s of it for a slow start" if slow_start else "")
            )
        ground.count(result, ids)
    result.notes.append(
        f"lease {lease:g} s; the harness restarts the worker as make up does, and what a start "
        f"takes above {USUAL_START:g} s is not counted"
    )
    return result


def _kill(worker: Worker, victim: str, *, stage: Stage) -> None:
    worker.wait_until_ready()  # killed amid its start it has no jobs to lose
    if victim == "parent":
        worker.kill(spare_orphans=stage.chance.random() < 0.5)
    else:
        stage.chance.choice(worker.pool()).kill()


def poison(
    stage: Stage,
    *,
    kinds: Sequence[str] = (tasks.KILLS_PROCESS, tasks.KILLS_WORKER),
    innocent: int = 12,
    after: int = 100,
) -> Result:
    """Jobs that kill their process or their worker are set aside; all others are done."""
    result = Result(limit=90.0)
    with stage.ground(LEASE_SECONDS="3") as ground:
        ai, _ = ground.workers()
        for kind in kinds:
            result.rounds += 1
            _take_poison(ground, kind, result, worker=ai, innocent=innocent)
        started = time.monotonic()
        passed = [ground.submit(tasks.WORK, seconds=0.02) for _ in range(after)]
        ground.wait_until_ended(seconds=result.limit)
        stage.say(f"the next {after} jobs took {time.monotonic() - started:.1f} s")
        ground.count(result, passed)
    return result


def _take_poison(
    ground: Ground, kind: str, result: Result, *, worker: Worker, innocent: int
) -> None:
    stage = ground.stage
    bad = ""
    others = []
    for number in range(innocent):
        if number == innocent // 3:
            bad = ground.submit(kind, seconds=stage.chance.uniform(0.2, 1.0))
        others.append(ground.submit(tasks.WORK, seconds=stage.chance.uniform(0.5, 2.0)))
    started = time.monotonic()
    ground.wait_until_ended(seconds=result.limit)
    result.recovered(time.monotonic() - started)
    job = ground.job(bad)
    stage.say(
        f"{kind}: {job.state} after {job.attempt} attempts, {worker.deaths} deaths of the worker, "
        f"all well in {time.monotonic() - started:.1f} s"
    )
    result.expect(job.losses == 3, f"{kind} cost {job.losses} workers, not 3")
    blamed = sum(ground.job(job_id).losses for job_id in others)
    stage.say(f"innocent jobs lost a worker {blamed} times, and were done")
    ground.count(result, [bad], state=JobState.QUARANTINED)
    ground.count(result, others)
