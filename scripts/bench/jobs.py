"""Area `jobs`: milliseconds from a contribution to the worker's start on it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.archive import Archive, last_evidence
from bench.contributions import contribute, wait_until_enriched
from bench.rows import NotMeasured, Row, median, p95
from shared.database.engine import reading
from shared.database.models import Job
from shared.observability import canary
from shared.queue import send

_TEXT = "लोककथा"  # one word: what follows the start is not measured here
_WARM_UP = 4  # contributions, so that every pool process has its connections
_PAUSE = 0.1  # seconds in which the worker puts the last job away
_LONGEST_WAIT = 10.0  # seconds


def measure(archive: Archive, *, quick: bool) -> Iterator[Row]:
    """One contribution after the other to idle workers, each beside a bare no-op task."""
    archive.running()
    for number in range(_WARM_UP):
        wait_until_enriched(contribute(number, text=_TEXT).job_ids)
    to_start, contributing, to_no_op, sending = [], [], [], []
    for number in range(10 if quick else 30):
        time.sleep(_PAUSE)
        began, sent, passed = _no_op()
        to_no_op.append((passed - began) * 1000)
        sending.append((sent - began) * 1000)
        time.sleep(_PAUSE)
        began, saved, started = _contribution(number)
        to_start.append((started - began) * 1000)
        contributing.append((saved - began) * 1000)
    for word, statistic in (("median", median), ("p95", p95)):
        yield Row(
            name=f"jobs: contribute() to the worker's start, {word}; beside a no-op task",
            unit="ms",
            value=statistic(to_start),
            reference=statistic(to_no_op),
        )
    yield Row(
        name="jobs: contribute() itself, median; beside a bare send_task",
        unit="ms",
        value=median(contributing),
        reference=median(sending),
    )


def _no_op() -> tuple[float, float, float]:
    """When the canary was begun to be sent, was sent, and ran; seconds since 1970."""
    began = time.time()
    if not send(canary.TASK, queue="ai", expires=_LONGEST_WAIT, args=["ai"]):
        raise NotMeasured("Redis did not take a message.")
    sent = time.time()
    # Beat's own canary may come between, once in thousands of times; the median does not mind.
    while (passed := last_evidence("ai")) <= began:
        if time.time() - began > _LONGEST_WAIT:
            raise NotMeasured(f"no worker ran a no-op task within {_LONGEST_WAIT:g} s.")
        time.sleep(0.002)
    return began, sent, passed


def _contribution(number: int) -> tuple[float, float, float]:
    """When contribute() began, when it returned, and when a worker claimed the job."""
    began = time.time()
    made = contribute(number, text=_TEXT)
    saved = time.time()
    wait_until_enriched(made.job_ids)
    with reading() as session:
        started = session.get_one(Job, made.job_ids[0]).started_at
    assert started is not None
    return began, saved, started.timestamp()
