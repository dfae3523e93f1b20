"""What the workers themselves promise: an end in time, signs of life, ears that are watched."""

from __future__ import annotations

import itertools
import json
import shelve
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import redis
from celery import Celery
from sqlalchemy import select

from shared.config import Settings
from shared.database.engine import reading, writing
from shared.database.models import Job, JobAttempt, JobState
from shared.jobs import dispatch, ledger, recovery, shutdown
from shared.observability import canary, workers
from shared.queue import QUEUES, send
from shared.redis_client import RedisUnavailable
from tests import servers
from tests.conftest import Archive
from tests.servers import RedisServer, wait_until
from workers import schedule, watchdog
from workers.schedule import beat_schedule

#: For what does not depend on the kind of database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

#: What `ai.test_chunks` saves. Its module is not imported here: that makes the workers' Celery app
#: this process's own.
CHUNKS = 24

_numbers = itertools.count()


def submit(archive: Archive, kind: str) -> str:
    """A job of one of the kinds in `tests.tasks`, rung."""
    with writing() as session:
        submitted = ledger.submit(
            session,
            kind=kind,
            owner_id=archive.contributor.user_id,
            item_id=None,
            key=f"{kind} {next(_numbers)}",
        )
    assert dispatch.ring(submitted)
    return submitted.job_id


def job(job_id: str) -> Job:
    with reading() as session:
        return session.get_one(Job, job_id)


def is_in(job_id: str, state: JobState) -> bool:
    return job(job_id).state == state


@contextmanager
def worker(
    folder: Path, *, queues: str = "ai,ai.bulk", name: str = "test", processes: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with the tasks of the tests."""
    with servers.worker(
        queues, folder=folder, name=name, processes=processes, options=["--include", "tests.tasks"]
    ) as process:
        yield process


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> float:
    """Signal the parent of a worker as a supervisor does; seconds until it and its pool ended."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    started = time.monotonic()
    process.send_signal(number)
    process.wait(20)
    took = time.monotonic() - started
    wait_until(lambda: not any(map(works, family)), seconds=1, what="its processes end with it")
    return took


def works(process: psutil.Process) -> bool:
    """Whether it still does something; a dead one may wait for init to notice."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def copies(server: RedisServer, job_id: str) -> int:
    """The messages about a job that Redis holds: those that wait, and those that were taken."""
    probe = redis.Redis(port=server.port)
    assert probe.hlen("unacked") == probe.zcard("unacked_index")
    held = [*probe.lrange("ai", 0, -1), *probe.lrange("ai.bulk", 0, -1), *probe.hvals("unacked")]
    return sum(job_id.encode() in message for message in held)


def was_handed_back(server: RedisServer, job_id: str) -> bool:
    """It waits at no cost in tries, and has one message if it is rung already, else none."""
    waits = job(job_id)
    assert (waits.state, waits.errors, waits.losses) == (JobState.QUEUED, 0, 0)
    assert copies(server, job_id) == (0 if waits.rung_at is None else 1)
    return True


# A stop in order


def test_at_a_stop_a_short_job_ends_by_itself(
    archive: Archive, redis_server: RedisServer, tmp_path: Path
) -> None:
    with worker(tmp_path) as process:
        job_id = submit(archive, "ai.test_short")
        wait_until(lambda: is_in(job_id, JobState.RUNNING))

        took = stop(process)

    assert process.returncode == 0
    assert job(job_id).state == JobState.DONE
    assert took < shutdown.SOFT_TIME
    assert copies(redis_server, job_id) == 0


def test_at_a_stop_a_long_job_is_handed_back_and_the_next_worker_goes_on(
    archive: Archive, redis_server: RedisServer, tmp_path: Path
) -> None:
    with worker(tmp_path) as process:
        job_id = submit(archive, "ai.test_chunks")
        wait_until(lambda: is_in(job_id, JobState.RUNNING))

        took = stop(process)

    assert process.returncode == 0
    assert took < shutdown.LIMIT
    assert was_handed_back(redis_server, job_id)
    with reading() as session:
        saved = ledger.chunks(session, job_id, step="count")
    assert 10 <= len(saved) < CHUNKS

    with worker(tmp_path, name="next"):
        wait_until(lambda: is_in(job_id, JobState.DONE), what="the next worker ends it")

    ended = job(job_id)
    assert (ended.attempt, ended.errors, ended.losses) == (2, 0, 0)
    with reading() as session:
        made = ledger.chunks(session, job_id, step="count")
    assert {number: made[number] for number in saved} == saved
    assert len(made) == CHUNKS


def test_at_a_stop_a_stuck_job_is_handed_back_and_the_worker_ends_in_time(
    archive: Archive, redis_server: RedisServer, tmp_path: Path
) -> None:
    with worker(tmp_path, processes=2) as process:
        job_id = submit(archive, "ai.test_stuck")
        wait_until(lambda: is_in(job_id, JobState.RUNNING))

        took = stop(process)

    assert process.returncode == 0
    assert shutdown.LAST_MOMENT < took < 15
    assert was_handed_back(redis_server, job_id)


@on_sqlite
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_idle_worker_ends_at_once(archive: Archive, tmp_path: Path, number: int) -> None:
    with worker(tmp_path, processes=2) as process:
        # The canaries of its start are through.
        wait_until(lambda: [(one.active, one.done) for one in workers.all_workers()] == [(0, 2)])

        took = stop(process, number)

    assert took < shutdown.SOFT_TIME  # not by one of the limits
    assert workers.all_workers() == []


@on_sqlite
def test_the_processes_of_a_killed_worker_end_their_jobs_or_hand_them_back(
    archive: Archive, redis_server: RedisServer, tmp_path: Path
) -> None:
    with worker(tmp_path, processes=3) as process:
        short, stuck = submit(archive, "ai.test_short"), submit(archive, "ai.test_stuck")
        wait_until(lambda: is_in(short, JobState.RUNNING) and is_in(stuck, JobState.RUNNING))
        orphans = psutil.Process(process.pid).children(recursive=True)

        process.kill()

        wait_until(lambda: sum(map(works, orphans)) == 2, seconds=4, what="the idle one ends")
        wait_until(lambda: not any(map(works, orphans)), seconds=16, what="all end")

    assert job(short).state == JobState.DONE
    waits = job(stuck)
    assert (waits.state, waits.errors, waits.losses) == (JobState.QUEUED, 0, 0)


# Signs of life


@on_sqlite
def test_a_worker_says_what_it_is_doing(archive: Archive, tmp_path: Path) -> None:
    with worker(tmp_path, processes=2) as process:
        submit(archive, "ai.test_chunks")

        def says_that_it_works() -> bool:
            return [(one.active, one.done) for one in workers.all_workers()] == [(1, 3)]

        wait_until(says_that_it_works, seconds=10)

        (seen,) = workers.all_workers()
        assert seen == workers.Worker(
            name="test@test", pid=process.pid, queues=("ai", "ai.bulk"), processes=2,
            active=1, done=3, age=seen.age, restarts=0,  # 3: a canary of each queue, and the job
        )  # fmt: skip
        assert 0 <= seen.age < workers.INTERVAL + 1


@on_sqlite
def test_damaged_and_old_entries_are_left_out(archive: Archive, redis_server: RedisServer) -> None:
    for name in ("good@a", "bad@a", "other@a", "gone@a"):
        workers.publish(name, pid=1, queues=["ai"], processes=4, active=4, done=9)
    probe = redis.Redis(port=redis_server.port)
    probe.set("workers:entry:bad@a", "{half")
    probe.delete("workers:entry:other@a")
    probe.lpush("workers:entry:other@a", "no string")
    probe.delete("workers:entry:gone@a")
    probe.zadd("workers:names", {b"\xff\xfe": time.time()})
    probe.pexpire("workers:entry:good@a", round((workers.EXPIRES - workers.SILENT - 1) * 1000))

    (seen,) = workers.all_workers()

    assert seen.name == "good@a"
    assert workers.SILENT + 1 <= seen.age < workers.SILENT + 3
    assert seen.is_silent
    assert not seen.is_busy, "who is silent may be dead"


@on_sqlite
def test_without_redis_nobody_knows_the_workers(
    archive: Archive, redis_server: RedisServer
) -> None:
    redis_server.kill()

    with pytest.raises(RedisUnavailable):
        workers.all_workers()


@on_sqlite
def test_a_worker_that_stops_does_not_strike_its_successor_off(archive: Archive) -> None:
    workers.publish("test@a", pid=2, queues=["ai"], processes=1, active=0, done=0)

    workers.forget("test@a", pid=1)
    assert [one.pid for one in workers.all_workers()] == [2]

    workers.forget("test@a", pid=2)
    assert workers.all_workers() == []


# Ears


def look(ears: watchdog.Ears, *, now: float, is_free: bool = True, **waiting: int) -> str | None:
    return ears.deaf_to(waiting, is_free=is_free, limit=30, now=now)


def seconds_until_deaf(ears: watchdog.Ears, **waiting: int) -> int | None:
    """Looks every 5 s for two minutes."""
    for now in range(1000, 1120, 5):
        if look(ears, now=now, **waiting):
            return now - 1000
    return None


def test_a_queue_that_waits_unheard_for_the_limit_is_named() -> None:
    assert seconds_until_deaf(watchdog.Ears(["a", "b"]), a=1) == 30
    assert seconds_until_deaf(watchdog.Ears(["a", "b"]), b=7) == 30
    assert seconds_until_deaf(watchdog.Ears(["a", "b"])) is None


@pytest.mark.parametrize(
    "event", ["heard", "emptied", "busy", "redis away", "asleep", "urgent ones first"]
)
def test_what_explains_the_silence_starts_the_count_anew(event: str) -> None:
    ears = watchdog.Ears(["a", "b"])
    found = []
    for now in range(1000, 1120, 5):
        shift = 0
        if now % 20 == 0:  # more often than the limit
            if event == "heard":
                ears.hear("b", now=now - 1)
            elif event == "redis away":
                ears.start_over()
        if event == "asleep" and now >= 1020:
            shift = 1000  # the machine stood still for so long
        found.append(
            look(
                ears,
                now=now + shift,
                is_free=not (event == "busy" and now % 20 == 0),
                a=int(event == "urgent ones first" and now % 20 == 0),
                b=0 if event == "emptied" and now % 20 == 0 else 3,
            )
        )
        if event == "asleep" and now == 1045:
            break

    assert set(found) == {None}


def test_what_is_heard_of_one_queue_does_not_speak_for_the_other() -> None:
    ears = watchdog.Ears(["a", "b"])
    for now in range(1000, 1030, 5):
        ears.hear("a", now=now)
        assert look(ears, now=now, b=1) is None

    assert look(ears, now=1030, b=1) == "b"


@on_sqlite
@pytest.mark.parametrize("cancelled", [["ai", "ai.bulk"], ["ai.bulk"]], ids=["all", "one"])
def test_a_worker_that_answers_pings_but_hears_nothing_ends_to_be_started_anew(
    archive: Archive,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cancelled: list[str],
) -> None:
    monkeypatch.setenv("WATCHDOG_LIMIT", "3")
    control = Celery(broker=redis_server.url, set_as_current=False).control
    with worker(tmp_path, processes=2) as process:
        for queue in cancelled:
            control.cancel_consumer(queue, destination=["test@test"], reply=True, timeout=5)
        assert control.ping(destination=["test@test"], timeout=5), "it answers pings"
        assert send(canary.TASK, queue=cancelled[-1], expires=1, args=[cancelled[-1]])

        status = process.wait(20)

    assert status == 1, "a supervisor has to see it"
    log = (tmp_path / "worker-test.log").read_text()
    assert f"action=worker.deaf queue={cancelled[-1]}" in log
    workers.publish("test@test", pid=1, queues=["ai"], processes=1, active=0, done=0)
    assert [one.restarts for one in workers.all_workers()] == [1]


@on_sqlite
def test_neither_long_jobs_nor_an_outage_nor_stale_messages_count_as_deafness(
    archive: Archive,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def passed_lately() -> bool:
        seconds = canary.last_tasks()["ai"]
        return seconds is not None and seconds < 5

    monkeypatch.setenv("WATCHDOG_LIMIT", "3")
    with worker(tmp_path) as process:
        busy, waiting = submit(archive, "ai.test_chunks"), submit(archive, "ai.test_short")
        wait_until(lambda: is_in(busy, JobState.RUNNING))
        for _ in range(50):
            assert send(canary.TASK, queue="ai.bulk", expires=1, args=["ai.bulk"])
        wait_until(lambda: is_in(busy, JobState.DONE), seconds=30)
        wait_until(lambda: is_in(waiting, JobState.DONE), seconds=30)

        redis_server.kill()
        time.sleep(7)
        redis_server.start()
        assert send(canary.TASK, queue="ai", expires=60, args=["ai"])
        wait_until(passed_lately, seconds=20, what="it consumes again")
        time.sleep(4)

        assert process.poll() is None
    assert "worker.deaf" not in (tmp_path / "worker-test.log").read_text()


@on_sqlite
def test_a_worker_that_another_one_leaves_nothing_is_not_deaf(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_LIMIT", "2")
    with worker(tmp_path) as one, worker(tmp_path, name="other", processes=2) as other:
        until = time.monotonic() + 6
        while time.monotonic() < until:
            for _ in range(10):
                send(canary.TASK, queue="ai", expires=60, args=["ai"])
            time.sleep(0.05)

        assert one.poll() is None
        assert other.poll() is None


# The clock


@on_sqlite
def test_after_an_hour_without_the_clock_each_task_is_sent_once(
    archive: Archive, redis_server: RedisServer
) -> None:
    home = archive.settings.bharatverse_home
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    with beat():
        wait_until(lambda: sent(redis_server))
    with shelve.open(str(home / "beat-schedule"), writeback=True) as kept:
        assert set(kept["entries"]) >= set(beat_schedule(archive.settings))
        for entry in kept["entries"].values():
            entry.last_run_at = an_hour_ago
    redis_server.start_empty()

    with beat():
        wait_until(lambda: sent(redis_server))
        time.sleep(3)  # less than the shortest interval
        found = sent(redis_server)

    names = [entry["task"] for entry in beat_schedule(archive.settings).values()]
    assert found == Counter(names)


@on_sqlite
def test_every_periodic_task_expires_before_its_next_run(archive: Archive) -> None:
    for entry in beat_schedule(archive.settings).values():
        assert 0 < entry["options"]["expires"] < entry["schedule"]


def test_the_ledger_is_recovered_as_often_as_it_expects() -> None:
    assert schedule.RECOVERY_INTERVAL == recovery.INTERVAL


def test_beat_and_flower_load_neither_the_database_nor_task_code() -> None:
    script = (
        "import sys; from workers.app import app; app.finalize(); "
        "print({'sqlalchemy', 'numpy', 'workers.ai'} & {*sys.modules})"
    )

    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert output == "set()\n"


@contextmanager
def beat() -> Iterator[None]:
    """A real beat process with this process's environment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "--quiet", "-A", "workers.app", "beat"],
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def sent(server: RedisServer) -> Counter[str]:
    """The messages that wait in all queues, by their task's name."""
    probe = redis.Redis(port=server.port)
    found = [json.loads(text) for queue in QUEUES for text in probe.lrange(queue, 0, -1)]
    return Counter(message["headers"]["task"] for message in found)


@on_sqlite
def test_the_death_of_a_pool_process_is_told_at_once_and_not_by_the_lease(
    archive: Archive, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(LEASE_SECONDS="60")
    options = ["--include", "tests.tasks"]
    with servers.worker("ai,cleanup", folder=tmp_path, processes=2, options=options) as worker:
        job_id = submit(archive, "ai.test_short")
        wait_until(lambda: job(job_id).state is JobState.RUNNING)
        for process in psutil.Process(worker.pid).children():
            process.kill()

        wait_until(lambda: job(job_id).state is JobState.DONE, seconds=30)

    assert job(job_id).losses == 1
    with reading() as session:
        (lost,) = session.scalars(select(JobAttempt)).all()
    assert "The process that worked on it died" in (lost.message or "")
