"""Area `ledger`: what the ledger of jobs costs beside Celery alone, on each database.

It has a Redis, a PostgreSQL and workers of its own, whose other work would only disturb it. Both
databases keep what they promise: their settings for it stand beside each figure.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import delete, insert, text, update

from bench import servers
from bench.archive import Archive
from bench.rows import Figure, NotMeasured, Row, median
from bench.statements import Statements, watched
from shared import queue
from shared.accounts import users
from shared.config import get_settings
from shared.database import engine as database
from shared.database.engine import reading, writing
from shared.database.models import Job, JobState, Lane, User, new_id, utc_now
from shared.database.schema import migrate
from shared.jobs import dispatch, lanes, ledger, progress, recovery, view
from shared.redis_client import client

LANE = "ai"
#: No worker takes from it.
HELD = "bench-held"

PROCESSES = 2
SCALES = (1, 2, 4)  # processes
NAPS = 10  # jobs of 0.2 s for each process
RUNNING = 200  # jobs whose progress is read
QUEUED = 10_000
OWNERS = 10
_FEW = 50  # submits, after which the lane is emptied: a lane is short when it is open
_LONGEST_ROUND = 120.0  # seconds

_RESULT = "celery-task-meta-{}"  # where Celery's Redis backend keeps a task's result


def measure(archive: Archive, *, quick: bool) -> Iterator[Row]:
    """All figures on SQLite, then on PostgreSQL."""
    archive.wipe()
    with TemporaryDirectory(prefix="bharatverse-ledger-") as name:
        folder = Path(name)
        get_settings().bharatverse_home.mkdir(parents=True, exist_ok=True)
        with servers.redis(folder):
            with _database("") as promise:
                yield from _rows("SQLite", promise, folder, quick=quick)
            with servers.postgresql(folder) as url, _database(url) as promise:
                yield from _rows("PostgreSQL", promise, folder, quick=quick)


@contextmanager
def _database(url: str) -> Iterator[str]:
    """Have this process and its workers use this empty database; gives what it promises."""
    before = os.environ["DATABASE_URL"]
    _use(url)
    try:
        migrate()
        users.create_first_accounts()
        client().flushall()
        yield _promise()
    finally:
        _use(before)


def _use(url: str) -> None:
    os.environ["DATABASE_URL"] = url
    database.dispose()
    get_settings.cache_clear()


def _promise() -> str:
    """The settings on which it hangs that what was committed survives a power cut."""
    with reading() as session:
        if database.engine().dialect.name == "sqlite":
            level = session.scalar(text("PRAGMA synchronous"))
            mode = session.scalar(text("PRAGMA journal_mode"))
            named = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}[level]
            return f"synchronous={named}, {str(mode).upper()}"
        return f"synchronous_commit={session.scalar(text('SHOW synchronous_commit'))}"


def _rows(name: str, promise: str, folder: Path, *, quick: bool) -> Iterator[Row]:
    yield _submit_row(name, promise, samples=100 if quick else 300)
    yield _progress_row(name, promise, samples=30 if quick else 100)
    yield from _long_lane_rows(name, promise, samples=3 if quick else 5)
    yield _throughput_row(
        name, promise, folder, jobs=100 if quick else 400, rounds=3 if quick else 5
    )
    yield from _scaling_rows(name, promise, folder, rounds=1 if quick else 3)


def _submit_row(name: str, promise: str, *, samples: int) -> Row:
    """Without a worker, which would need the processor, and with the lane's window wide open."""
    from bench.ledger_tasks import NO_OP, bare_no_op  # takes its settings when it is imported

    owner = users.operator().user_id
    assert owner is not None
    ours, bare = [], []
    for number in range(-5, samples):  # the first ones make the connections
        if number % _FEW == 0:
            _empty()
            _open_window()
        began = time.perf_counter()
        with writing() as session:
            made = ledger.submit(
                session,
                kind=NO_OP,
                owner_id=owner,
                item_id=None,
                key=ledger.content_key(number=number),
            )
        rung = dispatch.ring(made)
        committed = time.perf_counter()
        bare_no_op.apply_async([made.job_id], queue=HELD)
        sent = time.perf_counter()
        if not rung or (not made.ring and number >= 0):
            raise NotMeasured("a job that should have been rung at once was not.")
        if number >= 0:
            ours.append((committed - began) * 1000)
            bare.append((sent - committed) * 1000)
    _empty()
    return Row(
        name=f"ledger on {name}: submit and ring; beside a bare apply_async",
        unit="ms",
        value=median(ours),
        reference=median(bare),
        aim=1.5,
        must=3,
        note=promise,
    )


def _progress_row(name: str, promise: str, *, samples: int) -> Row:
    from bench.ledger_tasks import NO_OP, bare_no_op

    ids = _insert(RUNNING, kind=NO_OP, state=JobState.RUNNING)
    for job_id in ids:
        bare_no_op.backend.store_result(
            job_id, progress.meta(3, 10, "keywords"), progress.PROGRESS_STATE
        )
    keys = [_RESULT.format(job_id) for job_id in ids]
    ours, bare = [], []
    for _ in range(samples):
        began = time.perf_counter()
        client().mget(keys)
        read = time.perf_counter()
        seen = progress.read(ids)
        understood = time.perf_counter()
        if [job.done for job in seen.values()] != [3] * RUNNING:
            raise NotMeasured("progress was not read as it was written.")
        bare.append((read - began) * 1000)
        ours.append((understood - read) * 1000)
    _empty()
    return Row(
        name=f"ledger on {name}: the progress of {RUNNING} jobs; beside a raw MGET",
        unit="ms",
        value=median(ours),
        reference=median(bare),
        must=3,
        note=promise,
    )


def _long_lane_rows(name: str, promise: str, *, samples: int) -> Iterator[Row]:
    """The database's time for what looks at all jobs, while very many wait."""
    from bench.ledger_tasks import NO_OP

    _insert(QUEUED, kind=NO_OP, state=JobState.QUEUED)
    operator = users.operator()
    overview: Any = getattr(view, "overview", None)
    looks: dict[str, Callable[[], object] | None] = {
        "recovery": recovery.recover,
        "the overview of Operations": overview and (lambda: overview(operator)),
        "jobs --json": lambda: view.list_jobs(operator),
    }
    for what, look in looks.items():
        title = f"ledger on {name}: {what}, {QUEUED:,} jobs queued, the database's time"
        if look is None:
            yield Row(name=title, note="there is no such overview yet")
            continue
        with watched() as statements:
            look()  # makes the connection, and fills the lane's window
            times, count = _database_times(look, statements, samples)
        yield Row(
            name=title,
            unit="ms",
            value=median(times),
            must=100,
            note=f"{count} statements; {promise}",
        )
    _empty()


def _database_times(
    look: Callable[[], object], statements: Statements, samples: int
) -> tuple[list[float], int]:
    times = []
    for _ in range(samples):
        statements.forget()
        look()
        times.append(statements.seconds * 1000)
    return times, statements.count


def _throughput_row(name: str, promise: str, folder: Path, *, jobs: int, rounds: int) -> Row:
    from bench.ledger_tasks import NO_OP

    ours, bare, submitting = [], [], []
    with servers.worker(folder, queue=LANE, processes=PROCESSES):
        for number in range(-1, rounds):  # the first one fills caches, and widens the window
            began = time.perf_counter()
            ids = _submit_while_paused(jobs, NO_OP)
            submitted = time.perf_counter()
            ledgered = jobs / _seconds_for(ids, release=_resume)
            alone = jobs / _seconds_for(_send_aside(jobs), release=_let_in)
            if number >= 0:
                ours.append(ledgered)
                bare.append(alone)
                submitting.append((submitted - began) / jobs * 1000)
    _empty()
    return Row(
        name=f"ledger on {name}: no-op jobs a second, {PROCESSES} processes; beside bare tasks",
        unit="jobs/s",
        value=median(ours),
        reference=median(bare),
        aim=0.6,
        must=0.35,
        more_is_better=True,
        note=f"submitting took {median(submitting).value:.1f} ms a job; {promise}",
    )


def _scaling_rows(name: str, promise: str, folder: Path, *, rounds: int) -> Iterator[Row]:
    from bench.ledger_tasks import SLEEP

    speeds: dict[int, list[float]] = {processes: [] for processes in SCALES}
    for _ in range(rounds):
        for processes in SCALES:
            with servers.worker(folder, queue=LANE, processes=processes):
                ready = _submit_while_paused(processes * 2, SLEEP)
                _seconds_for(ready, release=_resume)
                ids = _submit_while_paused(processes * NAPS, SLEEP)
                speeds[processes].append(len(ids) / _seconds_for(ids, release=_resume))
    _empty()
    one = median(speeds[1])
    for processes in SCALES[1:]:
        yield Row(
            name=f"ledger on {name}: jobs of 0.2 s a second, {processes} processes; "
            f"beside {processes} times one",
            unit="jobs/s",
            value=median(speeds[processes]),
            reference=Figure(one.value * processes, one.low * processes, one.high * processes),
            must=0.9,
            more_is_better=True,
            note=promise,
        )


def _submit_while_paused(count: int, kind: str) -> list[str]:
    """Submit so many jobs to a lane that nobody takes from; returns their ids."""
    lanes.set_paused(LANE, paused=True)
    owner = users.operator().user_id
    assert owner is not None
    ids = []
    for _ in range(count):
        with writing() as session:
            made = ledger.submit(session, kind=kind, owner_id=owner, item_id=None, key=new_id())
        if not dispatch.ring(made):
            raise NotMeasured("Redis did not take a message.")
        ids.append(made.job_id)
    return ids


def _resume() -> None:
    lanes.set_paused(LANE, paused=False)
    dispatch.dispatch(LANE)


def _send_aside(count: int) -> list[str]:
    """Send so many messages as the ledger sends its own, for bare tasks; returns their ids."""
    from bench.ledger_tasks import BARE

    ids = [new_id() for _ in range(count)]
    if not queue.ring(HELD, [(task_id, BARE) for task_id in ids], limits=lambda _: (60.0, 90.0)):
        raise NotMeasured("Redis did not take the messages.")
    return ids


def _let_in() -> None:
    client().rename(HELD, LANE)


def _seconds_for(ids: Sequence[str], *, release: Callable[[], None]) -> float:
    """From the release to the end of the last task, as the results tell it."""
    keys = [_RESULT.format(task_id) for task_id in ids]
    began = time.time()
    release()
    while client().exists(*keys) < len(keys):  # type: ignore[operator]
        if time.time() - began > _LONGEST_ROUND:
            raise NotMeasured(f"{len(keys)} tasks were not done within {_LONGEST_ROUND:g} s.")
        time.sleep(0.1)
    results: Any = client().mget(keys)
    records = [json.loads(result) for result in results]
    if {record["status"] for record in records} != {"SUCCESS"}:
        raise NotMeasured("a task that does nothing failed.")
    client().delete(*keys)
    return (
        max(datetime.fromisoformat(record["date_done"]).timestamp() for record in records) - began
    )


def _insert(count: int, *, kind: str, state: JobState) -> list[str]:
    """Write so many jobs of several owners at once, of which nobody was told; returns their ids."""
    with writing() as session:
        owners = [User(name=f"bench-{new_id()[:8]}", role="contributor") for _ in range(OWNERS)]
        session.add_all(owners)
        session.flush()
        rows = [
            {
                "id": new_id(),
                "kind": kind,
                "queue": LANE,
                "lane": LANE,
                "turn": number // OWNERS,
                "owner_id": owners[number % OWNERS].id,
                "content_key": new_id(),
                "state": state,
                "ring_after": 0.0,
                "lease_until": time.time() + 3600 if state is JobState.RUNNING else None,
                "created_at": utc_now(),
            }
            for number in range(count)
        ]
        session.execute(insert(Job), rows)
    return [str(row["id"]) for row in rows]


def _open_window() -> None:
    with writing() as session:
        session.execute(
            update(Lane).where(Lane.name == LANE).values(window=dispatch.LARGEST_WINDOW)
        )


def _empty() -> None:
    """Forget all jobs and messages."""
    with writing() as session:
        session.execute(delete(Job))
    client().delete(LANE, HELD)
