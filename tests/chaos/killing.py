"""Scenarios 1 and 6: workers die by kill -9, and by the jobs that they do."""

from __future__ import annotations

import time

from shared.database.models import JobState
from tests.chaos import tasks
from tests.chaos.harness import Ground, Result, Stage, Worker


def killed_workers(stage: Stage, *, rounds: int, jobs: int = 20, lease: float = 4.0) -> Result:
    """A worker and a process of its pool die by kill -9 amid their jobs; all jobs are done.

    In half of the rounds the dead parent's pool lives on as orphans.
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
            killed_at = time.monotonic()
            live_then = []
            for victim in stage.chance.sample(["parent", "process"], 2):
                stage.pause(0.2, 1.5)
                live_then.append(ground.live())
                _kill(ai, victim, stage=stage)
                killed_at = time.monotonic()
            ground.wait_until_ended(seconds=result.limit)
            took = time.monotonic() - killed_at
            result.recovered(took)
            result.rounds += 1
            stage.say(f"round {number + 1}: killed amid {live_then} jobs, all well in {took:.1f} s")
        ground.count(result, ids)
    result.notes.append(f"lease {lease:g} s; the harness restarts the worker as make up does")
    return result


def _kill(worker: Worker, victim: str, *, stage: Stage) -> None:
    if victim == "parent":
        worker.kill(spare_orphans=stage.chance.random() < 0.5)
    else:
        stage.chance.choice(worker.pool()).kill()


def poison(stage: Stage, *, after: int = 100) -> Result:
    """Jobs that kill their process or their worker are set aside; all others are done."""
    result = Result(limit=90.0)
    with stage.ground(LEASE_SECONDS="3") as ground:
        ai, _ = ground.workers()
        for kind in (tasks.KILLS_PROCESS, tasks.KILLS_WORKER):
            result.rounds += 1
            _take_poison(ground, kind, result, worker=ai)
        started = time.monotonic()
        passed = [ground.submit(tasks.WORK, seconds=0.02) for _ in range(after)]
        ground.wait_until_ended(seconds=result.limit)
        stage.say(f"the next {after} jobs took {time.monotonic() - started:.1f} s")
        ground.count(result, passed)
    return result


def _take_poison(ground: Ground, kind: str, result: Result, *, worker: Worker) -> None:
    stage = ground.stage
    innocent = [ground.submit(tasks.WORK, seconds=stage.chance.uniform(0.5, 2)) for _ in range(4)]
    bad = ground.submit(kind, seconds=stage.chance.uniform(0.2, 1.0))
    innocent += [ground.submit(tasks.WORK, seconds=stage.chance.uniform(0.5, 2)) for _ in range(8)]
    started = time.monotonic()
    ground.wait_until_ended(seconds=result.limit)
    result.recovered(time.monotonic() - started)
    job = ground.job(bad)
    stage.say(
        f"{kind}: {job.state} after {job.attempt} attempts, {worker.deaths} deaths of the worker, "
        f"all well in {time.monotonic() - started:.1f} s"
    )
    result.expect(job.losses == 3, f"{kind} cost {job.losses} workers, not 3")
    blamed = sum(ground.job(job_id).losses for job_id in innocent)
    stage.say(f"innocent jobs lost a worker {blamed} times, and were done")
    ground.count(result, [bad], state=JobState.QUARANTINED)
    ground.count(result, innocent)
