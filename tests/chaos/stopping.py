"""Scenario 11: a worker is asked to stop amid long work."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select

from shared.database.engine import reading
from shared.database.models import JobAttempt
from tests.chaos import tasks
from tests.chaos.harness import Result, Stage

#: Seconds within which a worker that is asked to stop must be gone.
STOP_LIMIT = 15.0


def stopped_worker(stage: Stage, *, rounds: int, parts: int = 30) -> Result:
    """SIGTERM amid long work: what was done is kept, and the next worker goes on from there."""
    result = Result(limit=STOP_LIMIT)
    with stage.ground(LEASE_SECONDS="4") as ground:
        ops = ground.worker("ops", queues="cleanup")
        ids = [ground.submit(tasks.CHUNKS, seconds=1.0, parts=parts) for _ in range(2)]
        # As native code: it hears nothing, is handed back at the last moment, and begun anew.
        deaf = ground.submit(tasks.DEAF, seconds=25.0) if rounds > 1 else None
        for number in range(rounds):
            worker = ground.worker(f"ai-{number}", queues="ai,ai.bulk", concurrency=3)
            for job_id in ids:
                before = len(ground.traces(job_id))
                ground.wait_until(
                    lambda job_id=job_id, before=before: len(ground.traces(job_id)) > before,
                    seconds=60,
                )
            stage.pause(1.0, 4.0)
            took = worker.terminate(seconds=STOP_LIMIT + 15)
            result.expect(took is not None, f"the worker was not gone after {STOP_LIMIT + 15:g} s")
            result.recovered(took or STOP_LIMIT + 15)
            result.rounds += 1
            kept = [sum("part" in trace.what for trace in ground.traces(each)) for each in ids]
            stage.say(f"round {number + 1}: gone after {took} s; parts done so far: {kept}")
        last = ground.worker("ai-last", queues="ai,ai.bulk", concurrency=3)
        last.wait_until_ready()
        ground.wait_until_ended(seconds=parts * 2 + 60)
        ops.parent  # noqa: B018 - it lives: nothing but the workers of `ai` was stopped
        for job_id in ids:
            job = ground.job(job_id)
            result.expect(
                (job.errors, job.losses) == (0, 0),
                f"tries were counted: errors {job.errors}, losses {job.losses}",
            )
            times = Counter(trace.what for trace in ground.traces(job_id) if trace.what != "began")
            again = sum(times.values()) - parts
            result.expect(len(times) == parts, f"{len(times)} parts of {parts} were done")
            result.expect(
                again <= job.attempt - 1,
                f"{again} parts were done again in {job.attempt} attempts",
            )
            with reading() as session:
                outcomes = session.scalars(
                    select(JobAttempt.outcome).where(JobAttempt.job_id == job_id)
                ).all()
            result.expect(set(outcomes) <= {"handed_back"}, f"attempts ended as {set(outcomes)}")
            stage.say(f"{job.attempt} attempts, {again} parts done again, {Counter(outcomes)}")
        ground.count(result, ids if deaf is None else [*ids, deaf])
    return result
