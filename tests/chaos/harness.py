"""What every scenario stands on: an archive with real servers and workers, and the count at the end.

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
        """Return when the present run takes messages."""
        deadline = time.monotonic() + START_LIMIT
        while self.words().count("ready.") <= len(self._dead) - self._unready():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start:\n{self.words()[-3000:]}")
            time.sleep(0.05)

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

    def _unready(self) -> int:
        """Runs that died before they were ready."""
        return self._deaths_before_ready

    def _start(self) -> None:
        self._deaths_before_ready = 0
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
            if process is None or not _has_ended(process.pid):
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
