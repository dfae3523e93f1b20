"""An archive of the suite's own: `scripts/up.py` with a temporary home and free ports."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import requests

from bench.rows import NotMeasured
from shared.config import ROOT, get_settings
from shared.database import engine as database
from shared.queue import QUEUES
from shared.redis_client import REDIS_ERRORS, client

LONGEST_START = 60.0  # seconds
LONGEST_STOP = 30.0  # seconds; up.py itself gives its processes 20
POLL = 0.05  # seconds; /readyz asks the database and Redis, so not more often

#: Where a worker notes when a task last passed through a queue, in seconds since 1970.
EVIDENCE = "health:queue:{}"


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nothing listens on now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def own_settings(home: Path) -> dict[str, str]:
    """What keeps the suite away from any other archive; all else is as whoever runs it set it."""
    ui, flower, redis = map(str, free_ports(3))
    return {
        "BHARATVERSE_HOME": str(home),
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "PUBLIC_URL": "",
        "WARMUP_URLS": "",
        "UI_HOST": "127.0.0.1",
        "FLOWER_HOST": "127.0.0.1",
        "UI_PORT": ui,
        "FLOWER_PORT": flower,
        "REDIS_PORT": redis,
    }


@dataclass(frozen=True, slots=True)
class Start:
    """How long a start took, in seconds."""

    said_ready: float  # until the first 200 of /readyz
    ready: float  # until /readyz said 200 and a task of THIS run had passed through each queue


class Archive:
    """stopped -> running and untouched -> running and used -> stopped, as often as needed.

    The settings of this process must be those of `own_settings`. Every method that starts the
    archive raises `NotMeasured` when it does not come up.
    """

    def __init__(self) -> None:
        self._settings = get_settings()
        self._home = self._settings.bharatverse_home
        self._output = self._home.with_name("up.log")
        self._process: psutil.Popen | None = None
        self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the UI is."""
        return self._settings.ui_url

    def fresh(self) -> None:
        """Have it run, empty and not used by anybody since its start."""
        if self._process is None or self._used:
            self.wipe()
            self.start()
        self._used = True

    def running(self) -> None:
        """Have it run, whatever it holds."""
        if self._process is None:
            self.start()
        self._used = True

    def start(self) -> Start:
        """Start up.py and wait until the archive is ready."""
        began, clock = time.time(), time.perf_counter()
        with self._output.open("wb") as output:
            self._process = psutil.Popen(
                [sys.executable, str(ROOT / "scripts" / "up.py")],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the suite, which then stops it
            )
        self._used = False
        said_ready = None
        while (seconds := time.perf_counter() - clock) < LONGEST_START:
            if answers(f"{self.url}/readyz"):
                said_ready = said_ready or seconds
                if _evidence_since(began):
                    return Start(said_ready, seconds)
            if self._process.poll() is not None:
                raise self._failed("scripts/up.py ended by itself")
            time.sleep(POLL)
        raise self._failed(f"the archive was not ready after {LONGEST_START:g} s")

    def stop(self) -> None:
        """Stop it gracefully, and by force what is still there after `LONGEST_STOP`."""
        database.dispose()
        if self._process is not None:
            process, self._process = self._process, None
            stop(process)

    def wipe(self) -> None:
        """Stop it and forget everything it held."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def processes(self) -> dict[str, psutil.Process]:
        """The supervisor, what it runs by its Procfile's names, and their children."""
        assert self._process is not None
        path = self._home / "run" / "processes.json"
        try:
            records = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotMeasured(f"{path} does not tell what runs.") from None
        found: dict[str, psutil.Process] = {"up": self._process}
        for name, record in records.items():
            parent = psutil.Process(record["pid"])
            found[name] = parent
            for number, child in enumerate(parent.children(recursive=True), start=1):
                found[f"{name} child {number}"] = child
        return found

    def _failed(self, sentence: str) -> NotMeasured:
        """Stop what did not come up, so that the next area tries anew; what to raise about it."""
        lines = self._output.read_text(encoding="utf-8", errors="replace").splitlines()
        self.stop()
        return NotMeasured(f"{sentence}; its last lines: " + " / ".join(lines[-3:]))


def stop(process: psutil.Popen) -> None:
    """Ask a process to end, and kill what is left of it and its children when it takes too long."""
    with suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.terminate()
        try:
            process.wait(LONGEST_STOP)
        except psutil.TimeoutExpired:
            pass
        finally:  # also when somebody presses Ctrl-C once more
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()


@contextmanager
def server(command: list[str], *, folder: Path, ready: str) -> Iterator[None]:
    """Another server to measure beside the archive; `ready` is an address that then answers."""
    output = folder / "output.log"
    with output.open("wb") as log:
        process = psutil.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        clock = time.perf_counter()
        while not answers(ready):
            if process.poll() is not None or time.perf_counter() - clock > LONGEST_START:
                words = output.read_text(encoding="utf-8", errors="replace").strip()
                raise NotMeasured(f"the reference's server did not start: {words[-300:]}")
            time.sleep(POLL)
        yield
    finally:
        stop(process)


def answers(url: str) -> bool:
    """Whether a GET gives 200."""
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment knows nothing of this machine
        try:
            return session.get(url, timeout=5).status_code == 200
        except requests.RequestException:
            return False


def last_evidence(queue: str) -> float:
    """When a task last passed through the queue, in seconds since 1970; 0 when none did."""
    return float(client().get(EVIDENCE.format(queue)) or 0)  # type: ignore[arg-type]


def _evidence_since(began: float) -> bool:
    # Redis keeps the evidence of the run before on disk; it says nothing about this one.
    try:
        return all(last_evidence(queue) > began for queue in QUEUES)
    except REDIS_ERRORS:
        return False
