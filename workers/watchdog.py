"""What a worker's parent process does beside its work: signs of life, and an end in time.

It publishes what the worker does; it stops a worker that answers pings but consumes nothing, so
that whoever supervises it starts it anew; and it ends a worker whose processes do not end by
themselves. It may use Redis, but never the database: the parent forks, and a connection of its
own would go along.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
from celery.bootsteps import RUN
from celery.worker import state

from shared.jobs import shutdown
from shared.observability import workers
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS, client

log = get_logger(__name__)

#: Seconds for which messages may wait in a queue that this worker should hear, while it has a free
#: process and hears nothing of them. Canaries come every 20 seconds.
LIMIT = 30.0
#: So many times as long while Celery is connecting again: it waits up to 30 s between two tries.
RECONNECTING = 3.0
#: Seconds that Redis gets for forgetting the messages of a worker that has to end now.
FORGET_TIME = 1.0


class Ears:
    """The evidence that a worker is deaf: alive, free, and hearing nothing of what waits.

    A worker that hears and has a free process is blocked in Redis's BRPOP, which hands it every
    message at once. So messages that wait while it is free, and none of that queue received in all
    that time, mean that it does not listen; whatever other workers take meanwhile.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues = queues  # the urgent ones first
        self._heard_at: dict[str, float] = {}
        self._waiting_since: dict[str, float] = {}
        self._looked_at = 0.0

    def hear(self, queue: str, *, now: float) -> None:
        """A message of this queue was received, be it stale."""
        self._heard_at[queue] = now

    def start_over(self) -> None:
        """What was seen so far proves nothing."""
        self._waiting_since.clear()

    def deaf_to(
        self, waiting: Mapping[str, int], *, is_free: bool, limit: float, now: float
    ) -> str | None:
        """The queue that it should hear and does not; `waiting` is messages by queue.

        To be asked every few seconds; `now` and `limit` are seconds.
        """
        paused, self._looked_at = now - self._looked_at, now
        if not is_free or paused > limit / 2:  # the process, or the whole machine, stood still
            self.start_over()
        urgent_ones_wait = False
        for queue in self._queues:
            if not waiting.get(queue) or urgent_ones_wait:
                self._waiting_since.pop(queue, None)
                continue
            urgent_ones_wait = True
            since = self._waiting_since.setdefault(queue, now)
            if self._heard_at.get(queue, 0.0) >= since:
                self._waiting_since[queue] = now
            elif is_free and now - since >= limit:
                return queue
        return None


class Watchdog:
    """Watches over one worker, from two threads of its parent process."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        # Now, because a consumer that is cancelled later is what has to be noticed.
        self._queues = tuple(worker.app.amqp.queues.consume_from)
        self._ears = Ears(self._queues)

    def start(self) -> None:
        """Watch from now on; returns at once."""
        atexit.register(self._forget)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        shutdown.enforce(self._end, asked=lambda: self._worker.blueprint.state != RUN)

    def hear(self, queue: str) -> None:
        """A message of this queue was received."""
        self._ears.hear(queue, now=time.monotonic())

    def _forget(self) -> None:
        """It stops: it is listed no more."""
        try:
            workers.forget(self._worker.hostname, pid=os.getpid())
        except REDIS_ERRORS as error:
            log.debug("Still listed for a while", error=type(error).__name__)

    def _watch(self) -> None:
        while shutdown.since() is None:
            try:
                self._look()
            except REDIS_ERRORS as error:
                self._ears.start_over()
                log.debug("The watchdog waits for Redis", error=type(error).__name__)
            except Exception:
                log.exception("The watchdog failed; it goes on", action="watchdog.failed")
            time.sleep(min(workers.INTERVAL, LIMIT / 6))

    def _look(self) -> None:
        processes = self._worker.pool.num_processes
        workers.publish(
            self._worker.hostname,
            pid=os.getpid(),
            queues=self._queues,
            processes=processes,
            active=len(state.active_requests),
            done=state.all_total_count[0],
        )
        pipe = client().pipeline(transaction=False)
        for queue in self._queues:
            pipe.llen(queue)
        deaf_to = self._ears.deaf_to(
            dict(zip(self._queues, pipe.execute(), strict=True)),
            is_free=len(state.reserved_requests) < processes,
            limit=LIMIT * (1 if self._is_connected() else RECONNECTING),
            now=time.monotonic(),
        )
        if deaf_to is not None:
            self._stop(deaf_to)

    def _is_connected(self) -> bool:
        connection = self._worker.consumer.connection
        return connection is not None and bool(connection.connected)

    def _stop(self, queue: str) -> None:
        """End in order; the exit status tells the supervisor to start it anew."""
        log.error(
            "This worker hears nothing of what waits for it; it stops to be started anew",
            action="worker.deaf",
            queue=queue,
        )
        workers.count_restart(self._worker.hostname)
        state.should_stop = 1
        shutdown.ask()

    def _end(self) -> None:
        """Its processes had their time: end them, and leave."""
        log.warning("What still runs is cut short", action="worker.ended")
        # In a thread of its own, because Redis may not answer.
        forgetting = threading.Thread(target=self._forget_messages, daemon=True)
        forgetting.start()
        forgetting.join(FORGET_TIME)
        for process in psutil.Process().children(recursive=True):
            process.kill()
        os._exit(self._exit_status())

    def _forget_messages(self) -> None:
        """Have Redis not hand them out again: the jobs are rung anew from the ledger."""
        try:
            qos = self._worker.consumer.task_consumer.channel.qos
            tags = list(qos._delivered)
            if tags:
                pipe = client().pipeline()
                pipe.zrem(qos.unacked_index_key, *tags)
                pipe.hdel(qos.unacked_key, *tags)
                pipe.execute()
            self._forget()
        except (AttributeError, *REDIS_ERRORS) as error:  # it had closed its channel already
            log.debug("Messages stay in Redis", error=type(error).__name__)

    def _exit_status(self) -> int:
        for asked in (self._worker.exitcode, state.should_stop, state.should_terminate):
            if asked is not None:
                return int(asked)
        return 0


_watchdog: Watchdog | None = None


def start(worker: Any) -> None:
    """Watch over this worker as long as it lives."""
    global _watchdog
    _watchdog = Watchdog(worker)
    _watchdog.start()


def hear(queue: str) -> None:
    """The worker received a message of this queue."""
    if _watchdog is not None:
        _watchdog.hear(queue)
