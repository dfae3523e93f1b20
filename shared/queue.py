"""Celery's settings, and sending by task name.

Producers (the UI, the terminal, the recovery) hold no task code: a job's kind is its task's name.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import uuid
from collections.abc import Callable, Sequence
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


_HOST = socket.gethostname()
_NOTHING_FOLLOWS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


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


def ring(
    lane: str, jobs: Sequence[tuple[str, str]], *, limits: Callable[[str], tuple[float, float]]
) -> bool:
    """Send the messages that make workers look at these jobs `(id, kind)`, in this order.

    `limits` gives a kind's seconds of work: after the first it is interrupted, after the second its
    process is killed. False when Redis is away; then it has taken none of them. Returns within a
    few Redis time-outs.
    """
    if breaker.is_open:
        return False
    messages = [_message(kind, lane, job_id, *limits(kind)) for job_id, kind in jobs]
    try:
        client().lpush(lane, *messages)
    except REDIS_ERRORS as error:
        breaker.failed()
        log.warning(
            "Redis could not take a message; the ledger keeps it",
            action="queue.send_failed",
            queue=lane,
            count=len(jobs),
            error=type(error).__name__,
        )
        return False
    breaker.succeeded()
    return True


def _message(kind: str, lane: str, job_id: str, soft_limit: float, hard_limit: float) -> str:
    """What Celery would put into Redis for this task, without the 1.5 ms that it takes for it.

    Celery's message protocol 2 (docs.celeryq.dev, "Message Protocol") in kombu's envelope for
    Redis; a test holds it against what `send_task` writes.
    """
    body = json.dumps([[job_id], {}, _NOTHING_FOLLOWS])
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": kind,
                "id": job_id,
                "shadow": None,
                "eta": None,
                "expires": None,
                "group": None,
                "group_index": None,
                "retries": 0,
                "timelimit": [hard_limit, soft_limit],
                "root_id": job_id,
                "parent_id": None,
                "argsrepr": repr([job_id]),
                "kwargsrepr": "{}",
                "origin": f"{os.getpid()}@{_HOST}",
                "ignore_result": False,
                "replaced_task_nesting": 0,
                "stamped_headers": None,
                "stamps": {},
            },
            "properties": {
                "correlation_id": job_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": lane},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


def send(task: str, *, queue: str, expires: float, args: Sequence[Any] = ()) -> bool:
    """Send a task without a job, such as a canary; False when Redis is away."""
    if breaker.is_open:
        return False
    try:
        _producer(os.getpid()).send_task(
            task,
            args=args,
            queue=queue,
            expires=expires,
            ignore_result=True,
            # After a restart of Redis the first try on a pooled connection fails, the second works.
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0},
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
