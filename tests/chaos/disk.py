"""Scenario 10: the disk is full while the database commits and while Redis appends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select

from shared.archive import items
from shared.database.engine import reading
from shared.database.errors import StorageFull
from shared.database.models import Item, Job, JobState, Visibility
from shared.errors import BharatVerseError
from shared.redis_client import REDIS_ERRORS, client
from tests.chaos import tasks
from tests.chaos.harness import SQLITE, Ground, Result, Stage
from tests.chaos.outages import TALE

CI = os.environ.get("CI") == "true"
SIZE = "24m"


def full_disk(stage: Stage, *, jobs: int = 40, redis: bool = True) -> Result:
    """On a full disk nothing is half saved and the error says so; with space all goes on.

    The disk is a small tmpfs, which only root may mount.
    """
    result = Result(limit=60.0)
    folder = stage.folder / "small-disk"
    if not _can_mount(folder):
        result.skipped = "a small disk cannot be mounted here (it needs root)"
        return result
    result.notes.append("the archive keeps no media files yet, so none were tried")
    if redis:
        with _small_disk(folder):
            _full_for_redis(stage, folder, result, jobs=jobs)
    if stage.kind == SQLITE:
        with _small_disk(folder):
            _full_for_sqlite(stage, folder, result, jobs=jobs)
    return result


def _full_for_sqlite(stage: Stage, disk: Path, result: Result, *, jobs: int) -> None:
    with stage.ground(home=disk / "home", LEASE_SECONDS="4") as ground:
        pair = ground.workers()
        ids = [ground.submit(tasks.WORK, seconds=0.2) for _ in range(jobs)]
        stage.pause(0.5, 2.0)
        items_before = _count_items()
        with _filled(disk):
            refused = _contribute_much(ground)
            result.expect(
                isinstance(refused, StorageFull), f"a contribution was told {refused!r} instead"
            )
            stage.say(f"SQLite: a contribution was told '{refused}'")
            time.sleep(stage.chance.uniform(3.0, 6.0))
            # A reader of a full disk needs nothing from it.
            result.expect(_count_items() == items_before, "something of it was saved")
        _expect_well(ground, result, ids)
        result.expect(sum(worker.deaths for worker in pair) == 0, "a worker died of it")


def _full_for_redis(stage: Stage, disk: Path, result: Result, *, jobs: int) -> None:
    with stage.ground(LEASE_SECONDS="4") as ground:
        ground.redis.kill()
        ground.redis.folder = disk  # its append-only file lies there from now on
        ground.redis.start()
        pair = ground.workers()
        ids = [ground.submit(tasks.WORK, seconds=0.1) for _ in range(jobs // 2)]
        stage.pause(0.5, 2.0)
        with _filled(disk):
            error = _redis_refuses()
            result.expect(error, "Redis took writes on a full disk")
            stage.say(f"Redis says: {error}")
            # Whether it says "rung" depends on its turn: one that has to wait is not sent at all.
            made = items.contribute(
                ground.owners[0], title="The lamps", text=TALE, language="en",
                visibility=Visibility.PUBLIC,
            )  # fmt: skip
            result.expect(made.is_new, "a contribution was not saved")
            ids += [ground.submit(tasks.WORK, seconds=0.1) for _ in range(jobs // 2)]
            time.sleep(stage.chance.uniform(2.0, 5.0))
        _expect_well(ground, result, ids)
        deaths = sum(worker.deaths for worker in pair)
        result.notes.append(f"Redis on a full disk: {deaths} deaths of workers")


def _expect_well(ground: Ground, result: Result, ids: list[str]) -> None:
    """With space again everything is done, and new things are, too."""
    took = ground.wait_until_ended(seconds=result.limit)
    result.recovered(took)
    made = items.contribute(
        ground.owners[1], title="The lamps", text=TALE, language="en", visibility=Visibility.PUBLIC
    )
    result.expect(made.is_new, "a contribution afterwards was not taken")
    result.expect(ground.wait_until_ended(seconds=30) <= 30, "it was not enriched afterwards")
    with reading() as session:
        orphans = session.scalar(select(func.count(Item.id)).where(Item.id.not_in(
            select(Job.item_id).where(Job.item_id.is_not(None))
        )))  # fmt: skip
        unfinished = session.scalar(select(func.count(Job.id)).where(Job.state != JobState.DONE))
    result.expect(orphans == 0, f"{orphans} items are half saved: without their job")
    result.expect(unfinished == 0, f"{unfinished} of all jobs are not done")
    result.rounds += 1
    ground.count(result, ids)
    ground.stage.say(f"all well {took:.1f} s after there was space")


def _contribute_much(ground: Ground) -> BharatVerseError | None:
    """Contribute long texts until one is refused: a freed page may still take a small one."""
    for number in range(20):
        try:
            items.contribute(
                ground.owners[0], title="The lamps", text=f"{number} " + TALE * 2000,
                language="en", visibility=Visibility.PUBLIC,
            )  # fmt: skip
        except BharatVerseError as error:
            return error
    return None


def _count_items() -> int:
    with reading() as session:
        return session.scalar(select(func.count(Item.id))) or 0


def _redis_refuses() -> str:
    """What Redis says once it cannot append any more."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            client().set("chaos", "x" * 10_000)
        except REDIS_ERRORS as error:
            return str(error)
        time.sleep(0.05)
    return ""


def _can_mount(folder: Path) -> bool:
    try:
        with _small_disk(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "bharatverse-chaos", str(folder)],
        check=True,
        capture_output=True,
    )
    try:
        yield
    finally:
        # Lazily: whoever still holds a file there must not keep it mounted.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _filled(disk: Path) -> Iterator[None]:
    """No byte is free on this disk, for so long."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
        yield
    finally:
        ballast.unlink(missing_ok=True)
