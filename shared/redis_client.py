"""This process's Redis connection pool, and the breaker that keeps a dead Redis from slowing it.

Redis holds nothing that can't be had again: messages are rung again from the ledger, progress and
cached values stand in the database.
"""

from __future__ import annotations

import os
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.config import get_settings
from shared.errors import Unavailable

#: What a Redis call may raise when Redis is away, full, loading or not a Redis at all.
REDIS_ERRORS = (redis.RedisError, OSError)


class RedisUnavailable(Unavailable):
    """Redis does not answer; what waits for it goes on by itself when it returns."""

    code = "redis_unavailable"


_lock = threading.Lock()
_client: redis.Redis | None = None
_client_pid = 0


def client() -> redis.Redis:
    """This process's client; made anew after a fork. Its calls raise one of `REDIS_ERRORS`."""
    global _client, _client_pid
    with _lock:
        if _client is None or _client_pid != os.getpid():
            settings = get_settings()
            _client = redis.Redis.from_url(
                settings.broker_url,
                socket_timeout=settings.redis_timeout_seconds,
                socket_connect_timeout=settings.redis_timeout_seconds,
                # One try on a fresh connection mends a restarted server; waiting mends nothing.
                retry=Retry(NoBackoff(), 1),
            )
            _client_pid = os.getpid()
        return _client


def _forget_parent() -> None:
    """In a forked child: a thread of the parent may have held the lock, and lives only there."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_parent)


class Breaker:
    """Closed -> open after a failure -> closed again after `seconds`.

    While it is open nobody waits for the time-out of a service that was just seen dead.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls should not even be tried."""
        return time.monotonic() < self._open_until

    def failed(self) -> None:
        """Open it."""
        self._open_until = time.monotonic() + self._seconds

    def succeeded(self) -> None:
        """Close it."""
        self._open_until = 0.0


def answers() -> bool:
    """Whether Redis answers now; within a time-out, and at once if it was just seen dead."""
    if breaker.is_open:
        return False
    try:
        client().ping()
    except REDIS_ERRORS:
        breaker.failed()
        return False
    return True


#: One for all uses of Redis in this process: what sees it dead first spares the others the wait.
breaker = Breaker(seconds=3)
