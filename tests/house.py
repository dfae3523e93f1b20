"""A fresh copy of the checkout, with its own virtualenv, run by `make up` as a person runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from shared.config import ROOT, Settings
from tests.servers import free_port, wait_until


def copy_checkout(target: Path) -> None:
    """What a fresh clone of the present state would hold, uncommitted changes included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():  # a deleted file is still listed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


@dataclass
class House:
    """One checkout with everything that `make up` starts."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    output: str = ""
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        ours = {name.upper() for name in Settings.__dataclass_fields__}
        inherited = {
            name: value
            for name, value in os.environ.items()
            # A make around the tests must not leak its flags, nor a virtualenv its programs.
            if name not in ours | {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VIRTUAL_ENV"}
        }
        ports = {name: str(free_port()) for name in ("UI_PORT", "FLOWER_PORT", "REDIS_PORT")}
        self.environ = inherited | ports

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['UI_PORT']}"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.environ['FLOWER_PORT']}"

    @property
    def home(self) -> Path:
        return self.folder / "var"

    def up(self, *, seconds: float) -> float:
        """`make up` until it says where to look; returns the seconds that took."""
        log = self.folder / "make-up.log"
        started = time.monotonic()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["make", "up"],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal of its own, for its own Ctrl-C
            )

        def is_up() -> bool:
            self.output = log.read_text(errors="replace")
            assert self._process is not None
            assert self._process.poll() is None, self.output
            return "Ctrl-C stops all of it" in self.output

        try:
            wait_until(is_up, seconds=seconds, what="make up says where to look")
        except AssertionError as error:
            self.ctrl_c()
            raise AssertionError(f"{error}\n{self.output[-5000:]}") from error
        return time.monotonic() - started

    def ctrl_c(self) -> None:
        """What the terminal does on Ctrl-C: SIGINT to make and to what it runs, then wait."""
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(40)
        self.output = (self.folder / "make-up.log").read_text(errors="replace")

    def processes(self) -> dict[str, psutil.Process]:
        """What the supervisor runs now, by name."""
        records = json.loads((self.home / "run" / "processes.json").read_text())
        return {
            name: psutil.Process(record["pid"])
            for name, record in records.items()
            if psutil.pid_exists(record["pid"])  # one that just died is still listed
        }

    def first_password(self) -> str:
        """The first admin's one-time password, as the operator reads it in the terminal."""
        found = re.search(r"admin, password (\S+) \(one-time", self.output)
        assert found, self.output
        return found.group(1)

    def bharatverse(
        self, *arguments: str, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """The command of this checkout's virtualenv."""
        return subprocess.run(
            [str(self.folder / ".venv" / "bin" / "bharatverse"), *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            check=check,
            timeout=300,
        )

    def json(self, *arguments: str) -> Any:
        """The document that a command prints with --json."""
        return json.loads(self.bharatverse(*arguments, "--json").stdout)
