"""Whether everything that the archive needs is there, with evidence."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from shared.config import get_settings
from shared.database.engine import engine
from shared.database.errors import SchemaMissing, SchemaNewer
from shared.database.schema import check_schema
from shared.errors import BharatVerseError, Unavailable
from shared.jobs.lanes import LANES
from shared.observability import canary, workers
from shared.queue import QUEUES
from shared.redis_client import REDIS_ERRORS, RedisUnavailable, client


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One part of the archive: what was seen, and what to do about it."""

    name: str
    ok: bool
    detail: str  # what was seen: "SQLite, 3 ms"
    remedy: str = ""  # what to do, when it is not ok


@dataclass(frozen=True, slots=True)
class Report:
    """All checks."""

    checks: list[Check] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether a contribution would travel the whole way now."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """`{"ready": ..., "checks": [...]}`."""
        return {"ready": self.ready, "checks": [asdict(check) for check in self.checks]}


def report() -> Report:
    """Look at the database, Redis, a recent task of each queue, and the disk."""
    return Report([check_database(), check_redis(), *check_queues(), check_disk()])


def check_database() -> Check:
    """It answers and has this version's schema."""
    started = time.monotonic()
    try:
        check_schema()
    except BharatVerseError as error:
        # No address in any remedy: /readyz shows them to everybody. `doctor` has the addresses.
        if isinstance(error, SchemaMissing):
            remedy = "Run `bharatverse migrate`."
        elif isinstance(error, SchemaNewer):
            remedy = "Update BharatVerse here."
        elif isinstance(error, Unavailable):
            remedy = "Start the database, or correct DATABASE_URL."
        else:
            remedy = "Correct BHARATVERSE_HOME or DATABASE_URL."
        return Check(name="database", ok=False, detail=error.sentence, remedy=remedy)
    name = "SQLite" if engine().dialect.name == "sqlite" else "PostgreSQL"
    return Check(name="database", ok=True, detail=f"{name}, {_ms(started)}")


def check_redis() -> Check:
    """It answers, and accepts writes."""
    settings = get_settings()
    started = time.monotonic()
    try:
        client().set("health:write", 1, px=1000)
    except REDIS_ERRORS as error:
        remedy = (
            f"`make up` starts the embedded server on port {settings.redis_port}."
            if settings.embedded_redis
            else "Start Redis, or correct REDIS_URL."
        )
        # The error's own words may quote the URL with its password.
        detail = f"Redis does not answer or takes no writes ({type(error).__name__})."
        return Check(name="redis", ok=False, detail=detail, remedy=remedy)
    return Check(name="redis", ok=True, detail=_ms(started))


def check_queues() -> list[Check]:
    """A task has passed through each queue not long ago, or all processes of its worker work."""
    try:
        seen = canary.last_tasks()
        busy = {queue for one in workers.all_workers() if one.is_busy for queue in one.queues}
    except RedisUnavailable as error:
        return [
            Check(name=f"queue {queue}", ok=False, detail=error.sentence, remedy="See redis.")
            for queue in QUEUES
        ]
    return [_check_queue(queue, age, is_busy=queue in busy) for queue, age in seen.items()]


def _check_queue(queue: str, age: float | None, *, is_busy: bool) -> Check:
    name = f"queue {queue}"
    if age is None or age > canary.MAX_AGE:
        worker = f"worker-{queue.partition('.')[0]}" if queue in LANES else "worker-ops"
        if is_busy:  # a recording of hours; the canary waits behind it
            return Check(name=name, ok=True, detail=f"all processes of {worker} are at work")
        detail = "no task has passed" + ("" if age is None else f" for {age:.0f} s")
        return Check(name=name, ok=False, detail=detail, remedy=f"Start {worker}; see its log.")
    return Check(name=name, ok=True, detail=f"a task passed {age:.0f} s ago")


def check_disk() -> Check:
    """There is room where the data lies, or will lie once there is any."""
    settings = get_settings()
    home = settings.bharatverse_home
    folder = next(folder for folder in (home, *home.parents) if folder.exists())
    if not folder.is_dir():
        return Check(
            name="disk", ok=False, detail=f"{folder} is not a folder",
            remedy="Set BHARATVERSE_HOME to a folder.",
        )  # fmt: skip
    free = shutil.disk_usage(folder).free // 1_000_000
    enough = free >= settings.min_free_disk_mb
    return Check(
        name="disk", ok=enough, detail=f"{free:,} MB free in {home}",
        remedy="" if enough else f"Free some space; {settings.min_free_disk_mb} MB are needed.",
    )  # fmt: skip


def _ms(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:.0f} ms"
