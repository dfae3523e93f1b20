"""The bell: which waiting jobs are told to the workers, and when.

What waits its turn waits in SQL. Of each lane only a small window of jobs has a message in Redis
("is rung"), so that turns, pause and position are exact, and a lane of ten thousand jobs costs
Redis nothing. The window follows the workers: it doubles when they found the lane empty while jobs
waited, and halves when its oldest message has waited long.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, exists, func, select, update
from sqlalchemy.orm import Session

from shared import queue as bell
from shared.database.clock import database_now
from shared.database.engine import reading, writing
from shared.database.models import Job, Lane
from shared.errors import Unavailable
from shared.jobs.kinds import kind_of
from shared.jobs.lanes import LANES
from shared.jobs.ledger import (
    IS_QUEUED,
    IS_RUNG,
    IS_UNRUNG,
    Submitted,
)
from shared.observability.logging import get_logger
from shared.redis_client import answers, breaker, client

log = get_logger(__name__)

SMALLEST_WINDOW = 8  # two jobs for each of four processes
LARGEST_WINDOW = 512
#: Seconds that a message gets before recovery looks whether Redis still has it; so much more with
#: each time that it was lost.
RING_DELAY = 10.0
#: Seconds that a message may wait in Redis before the window is called too large: what is rung can
#: no longer be overtaken.
PATIENCE = 2.0
#: Seconds between two dispatches of a lane by the same busy process.
INTERVAL = 0.1

_UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

_last: dict[str, float] = {}


def ring(submitted: Submitted) -> bool:
    """Tell the workers of a job that was just committed; False when Redis is away.

    A job that only waits its turn counts as told. What could not be told waits in SQL, and is
    dispatched when Redis is back.
    """
    if not submitted.ring:
        return answers()
    if _send(submitted.lane, [(submitted.job_id, submitted.kind)]):
        return True
    _put_back([submitted.job_id])
    return False


def refill(lane: str) -> None:
    """`dispatch`, but at most ten times a second in one process: for after every claim."""
    now = time.monotonic()
    if now - _last.get(lane, 0.0) < INTERVAL:
        return
    _last[lane] = now
    with reading() as session:
        due = exists().where(IS_UNRUNG, Job.lane == lane, Job.ring_after <= database_now())
        if not session.scalar(select(due)):
            return
    dispatch(lane)


def dispatch_all() -> int:
    """`dispatch` every lane in which a job waits that may be rung."""
    with reading() as session:
        waiting = session.scalars(
            select(Job.lane).where(IS_UNRUNG, Job.ring_after <= database_now()).distinct()
        ).all()
    return sum(dispatch(lane) for lane in LANES if lane in waiting)


def dispatch(lane: str) -> int:
    """Ring the next jobs of this lane until its window is full; returns how many were rung.

    Of several that dispatch a lane at once one does it. Without Redis nothing happens.
    """
    if breaker.is_open:
        return 0
    with writing() as session:
        known = session.scalars(
            select(Lane).where(Lane.name == lane).with_for_update(skip_locked=True)
        ).one_or_none()
        if known is None or known.paused:
            return 0
        rung, oldest = session.execute(
            select(func.count(), func.min(Job.rung_at)).where(IS_RUNG, Job.lane == lane)
        ).one()
        now = session.scalar(select(database_now())) or 0.0
        if rung == 0:
            window = min(known.window * 2, LARGEST_WINDOW)
        elif now - (oldest or now) > PATIENCE:
            window = max(known.window // 2, SMALLEST_WINDOW)
        else:
            window = known.window
        chosen = _take(session, lane, count=window - rung) if rung < window else []
        # An empty lane teaches nothing: the window only grows when jobs waited.
        if window != known.window and (chosen or window < known.window):
            known.window = window
    if chosen and not _send(lane, [(job.id, job.kind) for job in chosen]):
        _put_back([job.id for job in chosen])
        return 0
    return len(chosen)


def _take(session: Session, lane: str, *, count: int) -> Sequence[Row[str, str, int, datetime]]:
    """The next jobs by turn, now marked as rung; in the order in which to ring them."""
    due = (
        select(Job.id)
        .where(IS_UNRUNG, Job.lane == lane, Job.ring_after <= database_now())
        .order_by(Job.turn, Job.created_at)
        .limit(count)
    )
    if session.get_bind().dialect.name == "postgresql":
        due = due.with_for_update(skip_locked=True)
    # Two statements: inside an UPDATE, PostgreSQL may run the locking SELECT again for every row,
    # and so past its LIMIT.
    ids = session.scalars(due).all()
    taken = session.execute(
        update(Job)
        .where(Job.id.in_(ids), IS_QUEUED)
        .values(rung_at=database_now(), rings=1)
        .returning(Job.id, Job.kind, Job.turn, Job.created_at)
        .execution_options(synchronize_session=False)
    ).all()
    return sorted(taken, key=lambda row: (row.turn, row.created_at))


def ring_the_lost_again() -> int:
    """Ring the rung jobs whose message Redis does not hold any more; returns how many.

    Raises one of `REDIS_ERRORS`.
    """
    with reading() as session:
        overdue = session.execute(
            select(Job.id, Job.kind, Job.lane).where(
                IS_RUNG, Job.rung_at <= database_now() - RING_DELAY * Job.rings
            )
        ).all()
    if not overdue:
        return 0
    held: set[str] = set()
    for lane in {job.lane for job in overdue}:
        messages: Any = client().lrange(lane, 0, -1)
        held.update(found.decode() for found in _UUID.findall(b"\n".join(messages)))
    lost = [job for job in overdue if job.id not in held]
    with writing() as session:
        session.execute(
            update(Job)
            .where(Job.id.in_([job.id for job in lost]), IS_RUNG)
            .values(rings=Job.rings + 1, rung_at=database_now())
            .execution_options(synchronize_session=False)
        )
    for lane in {job.lane for job in lost}:
        of_lane = [(job.id, job.kind) for job in lost if job.lane == lane]
        if not _send(lane, of_lane):
            _put_back([job_id for job_id, _ in of_lane])
    if lost:
        log.warning("Messages were lost and are sent again", action="jobs.rung", count=len(lost))
    return len(lost)


def _send(lane: str, jobs: Sequence[tuple[str, str]]) -> bool:
    return bell.ring(lane, jobs, limits=_limits)


def _limits(kind: str) -> tuple[float, float]:
    known = kind_of(kind)
    return known.soft_limit, known.hard_limit


def _put_back(job_ids: Sequence[str]) -> None:
    """These could not be told: they wait in SQL again."""
    try:
        with writing() as session:
            session.execute(
                update(Job)
                .where(Job.id.in_(job_ids), IS_QUEUED)
                .values(rung_at=None, ring_after=database_now())
                .execution_options(synchronize_session=False)
            )
    except Unavailable as error:
        # They are saved, and what Redis does not hold is rung again: no reason to fail whoever
        # submitted them.
        log.warning("Not put back", action="jobs.not_put_back", error=error.code)
