"""Scenarios 4 and 5: processes that stand still, and jobs that take very long."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

from tests.chaos import tasks
from tests.chaos.harness import Ground, Result, Stage, Worker

LEASE = 3.0


def frozen_workers(
    stage: Stage, *, rounds: int, victims: Sequence[str] = ("process", "parent", "both")
) -> Result:
    """A job's process, its parent, then both stand still past the lease and go on.

    The job is done by another worker meanwhile, and what the late one brings is refused.
    """
    result = Result(limit=30.0)
    with stage.ground(LEASE_SECONDS=str(LEASE)) as ground:
        pair = [
            ground.worker(name, queues="ai,ai.bulk,cleanup", concurrency=1)
            for name in ("one", "two")
        ]
        for each in pair:
            each.wait_until_ready()
        for number in range(rounds):
            for whom in victims:
                kind = stage.chance.choice([tasks.WORK, tasks.DEAF])
                took, attempts = _freeze(ground, pair, whom, kind=kind, result=result)
                stage.say(
                    f"round {number + 1}: {whom} of {kind} frozen, all well in {took:.1f} s, "
                    f"{attempts} attempt(s)"
                )
                # A process whose parent stands still goes on, keeps its lease and is in time.
                wanted = 1 if whom == "parent" else 2
                result.expect(attempts == wanted, f"{whom} frozen: {attempts} attempts")
            result.rounds += 1
        refused = sum(worker.words().count("A late result was refused") for worker in pair)
        late = rounds * sum(whom != "parent" for whom in victims)
        result.expect(refused >= late, f"only {refused} late results were refused")
        result.notes.append(f"{refused} late results refused")
    return result


def _freeze(
    ground: Ground, workers: list[Worker], whom: str, *, kind: str, result: Result
) -> tuple[float, int]:
    """One job under a freeze: seconds until all was well again, and the job's attempts."""
    stage = ground.stage
    job_id = ground.submit(kind, seconds=2.0)
    process = psutil.Process(ground.wait_for_work(job_id).pid)
    worker = next(each for each in workers if each.parent.pid == process.ppid())
    victims = {"process": [process], "parent": [worker.parent], "both": [worker.parent, process]}
    stage.pause(0.2, 1.0)
    frozen_at = time.monotonic()
    for victim in victims[whom]:
        victim.suspend()
    try:
        ground.wait_until_ended(seconds=result.limit)
        took = time.monotonic() - frozen_at
        stage.pause(0.5, 1.0)
        time.sleep(max(0.0, LEASE * 1.5 - (time.monotonic() - frozen_at)))
    finally:
        for victim in victims[whom]:
            victim.resume()
    # The late one wakes up, brings what it has, and takes the next jobs.
    after = [ground.submit(tasks.WORK, seconds=0.1) for _ in range(4)]
    ground.wait_until_ended(seconds=result.limit)
    time.sleep(1.0)
    result.recovered(took)
    ground.count(result, [job_id, *after])
    return took, ground.job(job_id).attempt


def long_jobs(stage: Stage, *, seconds: float) -> Result:
    """Jobs longer than the lease and than the broker's visibility timeout run once."""
    result = Result(limit=seconds * 2 + 15, rounds=1)
    with stage.ground(LEASE_SECONDS="2", VISIBILITY_TIMEOUT_SECONDS="3") as ground:
        queues = "ai,ai.bulk,cleanup"
        ground.worker("one", queues=queues, concurrency=2).wait_until_ready()
        ids = [ground.submit(kind, seconds=seconds) for kind in (tasks.WORK, tasks.DEAF)]
        for job_id in ids:
            ground.wait_for_work(job_id)
        time.sleep(4.0)
        # A worker that starts hands out again what was not acknowledged in time; later it looks
        # every hundred seconds only.
        second = ground.worker("two", queues=queues, concurrency=2)
        result.recovered(ground.wait_until_ended(seconds=result.limit))
        for job_id in ids:
            began = len(ground.traces(job_id))
            result.expect(began == 1, f"a long job was begun {began} times")
            result.expect(ground.job(job_id).attempt == 1, "a long job was claimed again")
        again = second.words().count("job.not_claimable")
        result.notes.append(f"{seconds:g} s jobs; messages handed out again and dropped: {again}")
        result.expect(again >= len(ids), "no message was handed out again: nothing was shown")
        ground.count(result, ids)
    return result
