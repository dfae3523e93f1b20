"""What the parent of a pool learns about a job's process, told to the ledger at once.

Without it the job would wait for its lease to run out. The parent itself never uses the database:
it forks, and a connection or lock of its own would go along.
"""

from __future__ import annotations

import os
import time
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Task
from celery.worker.request import Request

from shared.queue import send
from workers import watchdog

#: Seconds after which the news is stale: by then the lease has told it.
NEWS_EXPIRES = 10.0


class JobRequest(Request):
    """A message on its way through the worker's parent process."""

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        # Here and not on Celery's signal, which stale messages never reach.
        watchdog.hear(message.delivery_info["routing_key"])
        super().__init__(message, *args, **kwargs)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
        """The task raised, or its process died."""
        super().on_failure(exc_info, *args, **kwargs)
        # Billiard wraps an exception so that it can travel between processes.
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, WorkerLostError):
            self._report("process_died", why=str(error))

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The task passed one of its limits; after the hard one its process is killed."""
        super().on_timeout(soft, timeout)
        if not soft:
            self._report("timed_out", why="")

    def _report(self, what: str, *, why: str) -> None:
        from shared.jobs.lanes import LANES_OF  # beat and Flower load this module without it

        if self.name.partition(".")[0] not in LANES_OF:
            return  # no job of the ledger
        worker = f"{self.hostname}:{os.getpid()}"
        send(
            "cleanup.report",
            queue="cleanup",
            expires=NEWS_EXPIRES,
            args=[what, self.id, worker, self.time_start or time.time(), why],
        )


class JobTask(Task):
    """The base of all tasks."""

    Request = "workers.requests:JobRequest"
