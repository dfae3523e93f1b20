"""Celery's settings, and sending by task name.

Producers (the UI, the terminal, the recovery) hold no task code: a job's kind is its task's name.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from functools import cache
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from shared.config import Settings, get_settings
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS, breaker, client

log = get_logger(__name__)

#: The queues of Celery: the lanes of jobs, then one for each kind of housekeeping.
QUEUES = ("ai", "ai.bulk", "speech", "analytics", "warmup", "cleanup")


def celery_settings(settings: Settings) -> dict[str, Any]:
    """What workers, beat, Flower and producers share."""
    common: dict[str, Any] = {
        "broker_url": settings.broker_url,
        "broker_connection_retry_on_startup": True,
        "task_default_queue": "ai",
        "task_create_missing_queues": True,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],  # nothing that comes from Redis is ever unpickled
        "broker_transport_options": {
            "visibility_timeout": settings.visibility_timeout_seconds,
            # By name, and a queue's urgent lane is named to come first. ("priority" would take them
            # in the order of a set, which is another one in every process.)
            "queue_order_strategy": "sorted",
        },
        "timezone": "UTC",
    }
    if settings.broker_url.startswith("rediss"):
        verified = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        common |= {"broker_use_ssl": verified, "redis_backend_use_ssl": verified}
    return common


@cache
def _producer(pid: int) -> Celery:
    settings = get_settings()
    app = Celery("bharatverse-producer", set_as_current=False)
    app.conf.update(celery_settings(settings))
    timeout = settings.redis_timeout_seconds
    app.conf.broker_transport_options |= {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
    }
    # With a result backend every send would subscribe to a channel and keep it; progress is read
    # with one MGET instead.
    app.conf.result_backend = "disabled"
    return app


def ring(kind: str, queue: str, job_id: str, *, soft_limit: float, hard_limit: float) -> bool:
    """Send the message that makes a worker look at this job; False when Redis is away.

    The limits are seconds of work: after the first it is interrupted, after the second its process
    is killed. Returns within a few Redis time-outs.
    """
    return _send(
        kind, args=[job_id], queue=queue, task_id=job_id,
        soft_time_limit=soft_limit, time_limit=hard_limit,
    )  # fmt: skip


def send(task: str, *, queue: str, expires: float, args: Sequence[Any] = ()) -> bool:
    """Send a task without a job, such as a canary; False when Redis is away."""
    return _send(task, args=args, queue=queue, expires=expires, ignore_result=True)


def _send(task: str, *, args: Sequence[Any], queue: str, **options: Any) -> bool:
    if breaker.is_open:
        return False
    try:
        _producer(os.getpid()).send_task(
            task,
            args=args,
            queue=queue,
            # After a restart of Redis the first try on a pooled connection fails, the second works.
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0},
            **options,
        )
    except (KombuError, *REDIS_ERRORS) as error:
        breaker.failed()
        log.warning(
            "Redis could not take a message; the ledger keeps it",
            action="queue.send_failed",
            task=task,
            queue=queue,
            error=type(error).__name__,
        )
        return False
    breaker.succeeded()
    return True


def depths() -> dict[str, int]:
    """Messages waiting in each queue; raises one of `REDIS_ERRORS`."""
    pipe = client().pipeline(transaction=False)
    for queue in QUEUES:
        pipe.llen(queue)
    return dict(zip(QUEUES, pipe.execute(), strict=True))
