"""The workers' Celery app: `celery -A workers.app worker -Q ai`, `... beat`, `... flower`."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from importlib import import_module
from typing import Any

from billiard.util import set_pdeathsig
from celery import Celery
from celery.signals import (
    celeryd_init,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_ready,
    worker_shutting_down,
)

from shared.config import get_settings
from shared.jobs import shutdown
from shared.observability import canary
from shared.observability.logging import configure_logging
from shared.queue import celery_settings, send
from workers.schedule import beat_schedule

settings = get_settings()

#: Imported by workers only: beat and Flower need neither task code nor a database, and start
#: sooner without them. That is why some imports stand inside the functions here.
TASK_MODULES = tuple(
    f"workers.{name}" for name in ("ai", "analytics", "cleanup", "health", "warmup")
)

app = Celery("bharatverse", task_cls="workers.requests:JobTask")
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
    # For housekeeping; a job's message carries the limits of its kind.
    task_time_limit=settings.task_timeout_seconds + 30,
    task_soft_time_limit=settings.task_timeout_seconds,
    worker_send_task_events=True,  # for Flower
    task_send_sent_event=True,
)


@setup_logging.connect
def _log_as_everywhere(**_: Any) -> None:
    configure_logging(settings.log_level)


@celeryd_init.connect
def _load_tasks(**_: Any) -> None:
    for module in TASK_MODULES:
        import_module(module)


@worker_init.connect
def _wait_for_schema(**_: Any) -> None:
    """Take no work before the migrations, which may still be running, are done."""
    from shared.database.schema import wait_for_schema

    wait_for_schema()


@worker_init.connect
def _keep_what_is_loaded(**_: Any) -> None:
    """Spare the garbage collector, from here on and in all processes of the pool, what stays.

    Python collects old garbage only when it is a quarter of all that lives. Beside the hundred
    thousands of objects of the imports, the tracebacks of a thousand failed jobs would wait for
    it: 80 MB. It also leaves the pages untouched that the processes share.
    """
    gc.collect()
    gc.freeze()


@worker_ready.connect
def _prove_consumption(sender: Any, **_: Any) -> None:
    """A first canary through each of this worker's queues, so that readiness shows at once."""
    for queue in sender.app.amqp.queues.consume_from:
        send(canary.TASK, queue=queue, expires=canary.MAX_AGE, args=[queue])


@worker_ready.connect
def _watch_over_it(sender: Any, **_: Any) -> None:
    from workers import watchdog

    watchdog.start(sender.controller)


@worker_process_init.connect
def _recover_too(**_: Any) -> None:
    """Every process of a pool looks after the ledger: beat alone could stall it."""
    with suppress(OSError):  # this is no Linux
        # Celery has the kernel kill it with its parent. It shall hand its job back instead.
        set_pdeathsig(0)
    from shared.jobs import recovery

    recovery.start_timer()
    shutdown.enforce(lambda: os._exit(1), limit=shutdown.ORPHAN_LIMIT)


@worker_shutting_down.connect
def _come_to_an_end(**_: Any) -> None:
    """SIGTERM: what runs may end within some seconds, then it is handed back."""
    shutdown.ask()
