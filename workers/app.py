"""The workers' Celery app: `celery -A workers.app worker -Q ai`, `... beat`, `... flower`."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_ready

from shared.config import get_settings
from shared.observability.health import CANARY_MAX_AGE
from shared.observability.logging import configure_logging
from shared.queue import celery_settings, send
from workers.schedule import beat_schedule

settings = get_settings()

app = Celery(
    "bharatverse",
    include=["workers.ai", "workers.analytics", "workers.warmup", "workers.cleanup"],
)
app.conf.update(
    celery_settings(settings),
    beat_schedule=beat_schedule(settings),
    beat_schedule_filename=str(settings.bharatverse_home / "beat-schedule"),
    beat_max_loop_interval=5,  # seconds; beat notices a returned Redis soon
    result_backend=settings.broker_url,
    result_expires=settings.result_ttl_seconds,  # the ledger is the truth, Redis only the bell
    # Progress that Redis does not take at once is not worth waiting for.
    result_backend_transport_options={"retry_policy": {"max_retries": 1, "interval_start": 0}},
    redis_socket_timeout=settings.redis_timeout_seconds,
    redis_socket_connect_timeout=settings.redis_timeout_seconds,
    task_acks_late=True,  # a message outlives the worker that took it
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,  # a long task holds up nothing behind it
    worker_cancel_long_running_tasks_on_connection_loss=False,  # the ledger fences, Redis may blink
    worker_concurrency=settings.ai_processes,
    worker_max_memory_per_child=settings.memory_threshold_mb * 1000,  # kB
    task_time_limit=settings.task_timeout_seconds + 30,  # seconds to write down why it ended
    task_soft_time_limit=settings.task_timeout_seconds,
    worker_send_task_events=True,  # for Flower
    task_send_sent_event=True,
)


@setup_logging.connect
def _log_as_everywhere(**_: Any) -> None:
    configure_logging(settings.log_level)


@worker_ready.connect
def _prove_consumption(sender: Any, **_: Any) -> None:
    """A first canary through each of this worker's queues, so that readiness shows at once."""
    for queue in sender.app.amqp.queues.consume_from:
        send(f"{queue}.canary", queue=queue, expires=CANARY_MAX_AGE)
