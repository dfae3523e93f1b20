"""Scenario 9: beat was dead for an hour."""

from __future__ import annotations

import json
import shelve
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.config import ROOT, get_settings
from shared.jobs import recovery
from shared.queue import QUEUES
from shared.redis_client import client
from tests.chaos.harness import Ground, Result, Stage
from workers.schedule import beat_schedule


def beat_after_an_hour(stage: Stage) -> Result:
    """Beat that was away for an hour runs each entry once on its return, not 720 times."""
    result = Result(limit=30.0, rounds=1)
    with stage.ground() as ground:
        schedule = ground.folder / "schedule"
        entries = beat_schedule(get_settings())
        with _beat(ground, schedule):  # makes the schedule file
            ground.wait_until(lambda: sum(_messages().values()) >= 1, seconds=60)
            time.sleep(1.0)
        _let_an_hour_pass(schedule)
        client().flushall()

        with _beat(ground, schedule):
            started = time.monotonic()
            ground.wait_until(lambda: sum(_messages().values()) >= 1, seconds=60, every=0.02)
            result.recovered(time.monotonic() - started)
            # Below the shortest interval: whatever comes twice is a run that was made up for.
            time.sleep(recovery.INTERVAL * 0.7)
            runs = _messages()
        result.jobs = len(entries)
        result.lost = len(entries) - len(runs)
        result.doubled = sum(count > 1 for count in runs.values())
        stage.say(f"{sum(runs.values())} messages of {len(entries)} entries after an hour")
        result.notes.append(f"{sum(runs.values())} messages of {len(entries)} entries")
    return result


@contextmanager
def _beat(ground: Ground, schedule: Path) -> Iterator[None]:
    with (ground.folder / "beat.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "workers.app", "beat", "-s", str(schedule),
             "--pidfile", ""],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


def _let_an_hour_pass(schedule: Path) -> None:
    with shelve.open(str(schedule), writeback=True) as kept:
        for entry in kept["entries"].values():
            entry.last_run_at -= timedelta(hours=1)


def _messages() -> Counter[tuple[str, str]]:
    """The waiting messages, by task and arguments."""
    found: Counter[tuple[str, str]] = Counter()
    for name in QUEUES:
        waiting: Any = client().lrange(name, 0, -1)
        for message in waiting:
            headers = json.loads(message)["headers"]
            found[headers["task"], headers["argsrepr"]] += 1
    return found
