"""Canary tasks: the evidence that a queue is consumed, not only that a worker answers a ping."""

from __future__ import annotations

import time
from typing import Any

from shared.queue import QUEUES
from shared.redis_client import REDIS_ERRORS, RedisUnavailable, client

#: The task's name; its argument is the queue that it passed through.
TASK = "health.canary"
#: Seconds between two canary tasks of a queue.
INTERVAL = 20
#: Seconds after which a queue without evidence counts as dead: several canaries and a long task.
MAX_AGE = 60

_QUEUE_KEY = "health:queue:{}"


def note_task_passed(queue: str) -> None:
    """A worker calls this from a task of the queue; raises one of `REDIS_ERRORS`."""
    client().set(_QUEUE_KEY.format(queue), time.time(), ex=MAX_AGE * 10)


def forget() -> None:
    """Drop all evidence: nothing runs yet; raises one of `REDIS_ERRORS`."""
    client().delete(*(_QUEUE_KEY.format(queue) for queue in QUEUES))


def last_tasks() -> dict[str, float | None]:
    """Seconds since a task last passed through each queue; None when none did.

    Raises `RedisUnavailable`.
    """
    try:
        values: Any = client().mget([_QUEUE_KEY.format(queue) for queue in QUEUES])
    except REDIS_ERRORS as error:
        raise RedisUnavailable() from error
    now = time.time()
    return {
        queue: None if value is None else max(0.0, now - float(value))
        for queue, value in zip(QUEUES, values, strict=True)
    }
