"""Scenarios 7 and 13: many ask for the same at once; one asks for very much."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import func, select

from shared.config import ROOT
from shared.database.engine import reading
from shared.database.models import Job, JobState
from tests.chaos import tasks
from tests.chaos.harness import Ground, Result, Stage
from tests.chaos.tables import Effect

#: Identical submits by each of four processes: fifty in all.
SHARES = (13, 13, 12, 12)


def identical_submits(stage: Stage, *, rounds: int) -> Result:
    """Fifty identical submits from four processes make one job; later ones get its result."""
    result = Result(limit=30.0)
    with stage.ground(LEASE_SECONDS="4") as ground, _crowd(ground) as crowd:
        ground.workers()
        for number in range(rounds):
            key = f"same-{number}"
            seconds = stage.chance.choice([0.0, 0.05, 0.5])  # so that some come when it is done
            started = time.monotonic()
            handles = _submit_at_once(crowd, key=key, seconds=seconds)
            ground.wait_until_ended(seconds=result.limit)
            result.recovered(time.monotonic() - started)
            handles += [ground.submit(tasks.WORK, key=key) for _ in range(5)]
            ground.wait_until_ended(seconds=result.limit)
            jobs = sorted(set(handles))
            calls = sum(trace.what == "began" for job_id in jobs for trace in ground.traces(job_id))
            stage.say(f"{len(handles)} handles, {len(jobs)} job(s), {calls} call(s)")
            result.expect(len(handles) == sum(SHARES) + 5, "a submit got no handle")
            result.expect(len(jobs) == 1, f"{len(jobs)} jobs instead of one")
            result.expect(calls == 1, f"{calls} AI calls instead of one")
            result.rounds += 1
            ground.count(result, jobs)
        with reading() as session:
            effects = session.scalar(select(func.count(Effect.number)))
        result.expect(effects == rounds, f"{effects} effects instead of {rounds}")
    return result


@contextmanager
def _crowd(ground: Ground) -> Iterator[list[subprocess.Popen[str]]]:
    """Four processes that wait for what to submit."""
    command = [sys.executable, "-m", "tests.chaos.crowd"]
    command += [tasks.WORK, ground.owners[0].user_id or ""]
    with ExitStack() as cleanup:
        processes = []
        for _ in SHARES:
            process = cleanup.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            cleanup.callback(process.kill)
            processes.append(process)
        for process in processes:
            _answer(process)
        yield processes


def _submit_at_once(crowd: list[subprocess.Popen[str]], *, key: str, seconds: float) -> list[str]:
    for process, share in zip(crowd, SHARES, strict=True):
        assert process.stdin is not None
        process.stdin.write(f"{key} {seconds} {share}\n")
        process.stdin.flush()
    return [job_id for process in crowd for job_id in json.loads(_answer(process))]


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def fairness(
    stage: Stage, *, imported: int = 10_000, watched: int = 1000, singles: int = 10
) -> Result:
    """While one owner's import runs, another's contributions start within seconds.

    A third owner's five bulk jobs do not wait for the rest of the import. Of a larger import the
    scenario waits for the first `watched` jobs only.
    """
    result = Result(limit=8.0, rounds=1)
    with stage.ground(LEASE_SECONDS="5") as ground:
        ground.workers()
        started = time.monotonic()
        bulk = ground.submit_at_once(tasks.WORK, count=imported, seconds=0.05, owner=0)
        stage.say(f"{imported} jobs were submitted in {time.monotonic() - started:.1f} s")
        ids: list[str] = []
        few: list[str] = []
        for number in range(singles):
            stage.pause(0.3, 2.0)
            ids.append(ground.submit(tasks.WORK, seconds=0.05, owner=1))
            if number == singles // 2:
                few = ground.submit_at_once(tasks.WORK, count=5, seconds=0.05, owner=2)
        ground.wait_until(lambda: _ended(ground, ids + few) == singles + 5, seconds=120)
        rest = ground.live()
        starts = [_wait(ground, job_id) for job_id in ids]
        turns = [_wait(ground, job_id) for job_id in few]
        result.recovered(max(starts))
        stage.say(
            f"singles started after {sorted(starts)[len(starts) // 2]:.2f} s (median), "
            f"{max(starts):.2f} s (slowest); another's five bulk jobs after {max(turns):.2f} s, "
            f"with {rest} of the import still before them"
        )
        result.notes.append(
            f"slowest start of a single {max(starts):.2f} s, of another's bulk {max(turns):.2f} s"
        )
        result.expect(rest > 0, "the import was over before the others came: nothing was shown")
        result.expect(max(turns) <= 15, f"another owner's bulk job waited {max(turns):.1f} s")
        ground.wait_until(lambda: ground.live() <= imported - watched, seconds=300)
        if watched >= imported:
            ground.wait_until_ended(seconds=300)
            ids += bulk
        ground.count(result, ids + few)
    return result


def _ended(ground: Ground, ids: list[str]) -> int:
    with reading() as session:
        return session.scalar(
            select(func.count(Job.id)).where(Job.id.in_(ids), Job.state == JobState.DONE)
        ) or 0  # fmt: skip


def _wait(ground: Ground, job_id: str) -> float:
    """Seconds from the submit to a worker's start."""
    job = ground.job(job_id)
    assert job.started_at is not None
    return (job.started_at - job.created_at).total_seconds()
