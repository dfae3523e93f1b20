"""Finding the jobs that nobody works on although somebody should.

It runs from beat and from every worker process's own timer, so that neither alone can stall it.
"""

from __future__ import annotations

import os
import random
import threading
import time

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.config import get_settings
from shared.database.clock import database_now
from shared.database.engine import reading, writing
from shared.database.models import Job, Recurring
from shared.errors import Unavailable
from shared.jobs import dispatch, lease, ledger, shutdown
from shared.jobs.ledger import IS_LIVE
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS, breaker

log = get_logger(__name__)

#: Seconds between two recoveries, whoever does them.
INTERVAL = 5.0

#: Seconds between two looks of one process for jobs that may be rung: those that were to wait.
DISPATCH_INTERVAL = 1.0

#: No moment in the ledger is honestly so many seconds ahead.
MOST_AHEAD = 90.0

_NAME = "recovery"


def start_timer() -> None:
    """Recover from this process, too, as long as it lives; returns at once."""
    threading.Thread(target=_run, args=(os.getppid(),), name="recovery", daemon=True).start()


def _run(parent: int) -> None:
    while True:
        # Jitter, so that processes that started together do not ask together.
        time.sleep(DISPATCH_INTERVAL * random.uniform(0.7, 1.3))  # noqa: S311 - no secret
        if os.getppid() != parent:
            _leave_when_idle()
        try:
            if not recover_if_due() and not breaker.is_open:
                dispatch.dispatch_all()
        except (Unavailable, *REDIS_ERRORS) as error:
            log.debug("Recovery waits", error=type(error).__name__)
        except Exception:
            log.exception("Recovery failed; it goes on", action="recovery.failed")


def _leave_when_idle() -> None:
    """Nobody gives this process work any more: its parent was killed."""
    shutdown.ask()
    if lease.is_idle():
        os._exit(0)


def recover_if_due() -> bool:
    """`recover`, unless somebody did so within the last 5 seconds; returns whether it did.

    After a pause, in which the database may have been away, expired leases get one more interval:
    the workers that live renew them first.
    """
    since = database_now() - Recurring.done_at
    with reading() as session:
        if not _is_due(session.scalar(select(since).where(Recurring.name == _NAME))):
            return False
    with writing() as session:
        seconds = session.scalar(select(since).where(Recurring.name == _NAME).with_for_update())
        if seconds is None or not _is_due(seconds):
            return False  # somebody was quicker
        session.execute(
            update(Recurring).where(Recurring.name == _NAME).values(done_at=database_now())
        )
        if seconds < 0:
            _forget_the_future(session)
    recover(expire_leases=0 <= seconds < 2 * INTERVAL)
    return True


def _is_due(seconds: float | None) -> bool:
    """Whether the last recovery was so many seconds ago that another is due."""
    return seconds is not None and not 0 <= seconds < INTERVAL


def _forget_the_future(session: Session) -> None:
    """The database's clock was set back: what is to happen "later" would wait for hours."""
    now, late = database_now(), database_now() + MOST_AHEAD
    for column, latest in (
        (Job.ring_after, now),
        (Job.rung_at, now),
        (Job.lease_until, now + get_settings().lease_seconds),
    ):
        session.execute(
            update(Job).where(IS_LIVE, column > late).values({column: latest})
            .execution_options(synchronize_session=False)
        )  # fmt: skip


def recover(*, expire_leases: bool = True) -> int:
    """Requeue what lost its worker, ring what was never heard; returns how many were requeued.

    Safe to run from several places at once: each job is taken by one UPDATE.
    """
    lost = 0
    if expire_leases:
        with writing() as session:
            lost = len(
                ledger.lose(
                    session,
                    Job.lease_until < database_now(),
                    reason="Its worker died or fell silent; it waits to be done again.",
                )
            )
    if not breaker.is_open:
        try:
            dispatch.ring_the_lost_again()
            dispatch.dispatch_all()
        except REDIS_ERRORS as error:
            breaker.failed()
            log.debug("Redis is away; jobs wait", error=type(error).__name__)
    return lost
