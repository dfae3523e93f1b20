"""Area `memory`: what every process of the archive holds, idle and after some work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from bench.archive import Archive
from bench.contributions import STORIES, contribute, wait_until_enriched
from bench.rows import NotMeasured, Row, single

UI_MUST = 400  # MB; the guide's bound for the UI server
TEXTS = 20
_SETTLE = 2.0  # seconds; Flower and the workers still greet each other when all is ready


def measure(archive: Archive, *, quick: bool) -> Iterator[Row]:
    """RSS (with what is shared) and USS (its own alone) of each process; the sums at the end."""
    archive.fresh()
    time.sleep(_SETTLE)
    yield from _rows("idle", archive)
    stories = list(STORIES.values())
    made = [contribute(number, text=stories[number % len(stories)]) for number in range(TEXTS)]
    wait_until_enriched([job_id for item in made for job_id in item.job_ids])
    yield from _rows(f"after {TEXTS} texts", archive)


def _rows(when: str, archive: Archive) -> Iterator[Row]:
    total_rss = total_uss = 0.0
    for name, process in archive.processes().items():
        with suppress(psutil.NoSuchProcess):  # a pool child that was just replaced
            rss, uss = _megabytes(process)
            total_rss, total_uss = total_rss + rss, total_uss + uss
            must = UI_MUST if name == "ui" else None
            yield Row(name=f"memory {when}: {name}, RSS", unit="MB", value=single(rss), must=must)
            yield Row(name=f"memory {when}: {name}, USS", unit="MB", value=single(uss))
    yield Row(name=f"memory {when}: all, RSS", unit="MB", value=single(total_rss))
    yield Row(name=f"memory {when}: all, USS", unit="MB", value=single(total_uss))


def _megabytes(process: psutil.Process) -> tuple[float, float]:
    try:
        info = process.memory_full_info()
    except psutil.AccessDenied as error:
        raise NotMeasured(f"this system does not tell the memory of pid {error.pid}.") from error
    return info.rss / 1e6, info.uss / 1e6
