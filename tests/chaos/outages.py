"""Scenarios 2, 3 and 8: Redis dies, the database does not answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select

from shared.archive import items
from shared.config import get_settings
from shared.database.engine import reading
from shared.database.models import Enrichment, Item, JobState, Visibility
from shared.enrichment.text import STEPS
from shared.errors import Unavailable
from tests.chaos import tasks
from tests.chaos.harness import POSTGRESQL, Ground, Result, Stage, Worker

TALE = (
    "Long ago, in a village on the bank of the river, the potters made lamps of clay for the "
    "festival. The grandmother told the children how the king had lost his way in the forest."
)


class Load:
    """Somebody who submits jobs all the time, in a thread of the harness, until the block ends."""

    def __init__(self, ground: Ground, *, count: int, seconds: float, over: float) -> None:
        self.ids: list[str] = []
        self.refused = 0  # submits that were told "not saved"
        self.slowest = 0.0  # seconds of one submit
        self._ground, self._count, self._work, self._pause = ground, count, seconds, over / count
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def wait(self) -> None:
        """Return when everything is submitted."""
        self._thread.join()

    def _run(self) -> None:
        for _ in range(self._count):
            started = time.monotonic()
            try:
                self.ids.append(self._ground.submit(tasks.WORK, seconds=self._work))
            except Unavailable:
                self.refused += 1
            took = time.monotonic() - started
            self.slowest = max(self.slowest, took)
            if self._ending.wait(max(0.0, self._pause - took)):
                return


def redis_dies(
    stage: Stage, *, rounds: int = 3, jobs: int = 500, over: float = 20.0, settle: float = 1.0
) -> Result:
    """Redis dies under load and returns, in the last round with nothing in it; nobody helps."""
    result = Result(limit=60.0)
    with stage.ground(LEASE_SECONDS="4") as ground:
        pair = ground.workers()
        load = Load(ground, count=jobs, seconds=0.05, over=over)
        with load:
            returned = _kill_redis(ground, result, rounds=rounds, settle=settle)
            load.wait()
        ground.wait_until_ended(seconds=result.limit - (time.monotonic() - returned))
        took = time.monotonic() - returned
        result.recovered(took)
        stage.say(f"all done {took:.1f} s after its last return; a submit {load.slowest:.1f} s")
        ground.count(result, load.ids)
        result.expect(load.refused == 0, f"{load.refused} submits were refused without Redis")
        _count_deaths(result, pair)
        _expect_consumption(ground, result)
    return result


def _kill_redis(ground: Ground, result: Result, *, rounds: int, settle: float) -> float:
    """Kill Redis again and again; returns the moment of its last return."""
    stage = ground.stage
    for number in range(rounds):
        stage.pause(settle, 3 * settle)
        ground.redis.kill()
        away = stage.pause(1.0, 6.0)
        is_empty = number == rounds - 1
        if is_empty:
            shutil.rmtree(ground.folder / "appendonlydir")
        live = ground.live()
        ground.redis.start()
        result.rounds += 1
        stage.say(
            f"Redis was away for {away:.1f} s, {live} jobs live"
            + (", and came back empty" if is_empty else "")
        )
    return time.monotonic()


def database_away(
    stage: Stage, *, rounds: int = 3, jobs: int = 150, seconds: float = 10.0
) -> Result:
    """The database does not answer under load; afterwards every job that was saved is done.

    PostgreSQL is crashed and paused in turn; SQLite is locked by another process.
    """
    result = Result(limit=60.0)
    with stage.ground(LEASE_SECONDS="4", DATABASE_TIMEOUT_SECONDS="3") as ground:
        pair = ground.workers()
        loads = []
        for number in range(rounds):
            load = Load(ground, count=jobs, seconds=0.1, over=seconds)
            loads.append(load)
            with load:
                stage.pause(1.0, 3.0)
                with _no_database(ground, crash=number % 2 == 0) as how:
                    time.sleep(seconds)
                returned = time.monotonic()
                load.wait()
            ground.wait_until_ended(seconds=result.limit)
            took = time.monotonic() - returned
            result.recovered(took)
            result.rounds += 1
            stage.say(
                f"{how} for {seconds:g} s: {load.refused} submits refused, all well in {took:.1f} s"
            )
        for load in loads:
            ground.count(result, load.ids)
        _count_deaths(result, pair)
    return result


@contextmanager
def _no_database(ground: Ground, *, crash: bool) -> Iterator[str]:
    if ground.stage.kind == POSTGRESQL:
        server = ground.stage.postgres
        if crash:
            server.crash()
            try:
                yield "PostgreSQL crashed"
            finally:
                server.start()
        else:
            server.pause()
            try:
                yield "PostgreSQL paused"
            finally:
                server.resume()
        return
    path = get_settings().sqlalchemy_url.removeprefix("sqlite:///")
    program = (
        "import sqlite3, sys; "
        "made = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None); "
        "made.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            yield "SQLite locked by another process"
        finally:
            other.kill()


def contribute_without_redis(stage: Stage) -> Result:
    """A contribution while Redis is away is saved, says so, and is enriched afterwards."""
    result = Result(limit=60.0, rounds=1, jobs=1)
    with stage.ground(LEASE_SECONDS="4") as ground:
        pair = ground.workers(concurrency=1)
        ground.redis.kill()
        stage.pause(0.1, 2.0)
        started = time.monotonic()
        made = items.contribute(
            ground.owners[0], title="The lamps", text=TALE, language="en",
            visibility=Visibility.PUBLIC,
        )  # fmt: skip
        stage.say(f"contribute took {time.monotonic() - started:.1f} s without Redis")
        result.expect(not made.rung, "it said that the workers were told")
        with reading() as session:
            result.expect(session.get(Item, made.item_id), "the item was not saved")
        stage.pause(1.0, 4.0)
        ground.redis.start()
        result.recovered(ground.wait_until_ended(seconds=result.limit))
        with reading() as session:
            found = session.scalar(
                select(func.count(Enrichment.id)).where(Enrichment.item_id == made.item_id)
            )
        (job_id,) = made.job_ids
        result.lost = int(ground.job(job_id).state is not JobState.DONE or found < len(STEPS))
        result.doubled = int(found > len(STEPS))
        _count_deaths(result, pair)
    return result


def _count_deaths(result: Result, workers: tuple[Worker, ...]) -> None:
    deaths = sum(worker.deaths for worker in workers)
    result.notes.append(
        "no worker died of it"
        if deaths == 0
        else f"workers died {deaths} times, and were restarted"
    )


def _expect_consumption(ground: Ground, result: Result) -> None:
    """Both workers still take messages, at once."""
    last = ground.submit(tasks.WORK)
    took = ground.wait_until_ended(seconds=10)
    result.expect(took <= 10, "afterwards a new job was not done within 10 s")
    ground.count(result, [last])
