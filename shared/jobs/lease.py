"""The thread that keeps the leases of this process's jobs."""

from __future__ import annotations

import os
import threading
from typing import Protocol

#: Seconds between two looks at the jobs; each knows when its lease is due.
TICK = 0.5


class Leased(Protocol):
    """What has a lease to be renewed."""

    def beat(self) -> None:
        """Renew the lease when it is time to; never raises."""


class _Keeper:
    """One thread for all jobs of a process, started with the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: set[Leased] = set()
        self._thread: threading.Thread | None = None

    def keep(self, job: Leased) -> None:
        with self._lock:
            if self._thread is None:
                # Daemonic: a process that must die is not kept alive by it.
                thread = threading.Thread(target=self._run, name="leases", daemon=True)
                thread.start()  # may raise, and then the next job tries it again
                self._thread = thread
            self._jobs.add(job)

    def let_go(self, job: Leased) -> None:
        with self._lock:
            self._jobs.discard(job)

    def is_idle(self) -> bool:
        with self._lock:
            return not self._jobs

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(TICK):
            with self._lock:
                jobs = list(self._jobs)
            for job in jobs:
                job.beat()


_keeper = _Keeper()


def keep(job: Leased) -> None:
    """Have the job's lease renewed from now on."""
    _keeper.keep(job)


def let_go(job: Leased) -> None:
    """Renew it no longer."""
    _keeper.let_go(job)


def is_idle() -> bool:
    """Whether this process works on no job."""
    return _keeper.is_idle()


def _start_anew() -> None:
    """Gives a forked child a keeper of its own: threads do not survive the fork."""
    global _keeper
    _keeper = _Keeper()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_anew)
