"""The way of an event from the code that records it to Redis."""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections import deque
from typing import Any

from shared.database.models import new_id
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS, client

log = get_logger(__name__)

#: Redis holds the events of all processes here until the next flush.
EVENTS_KEY = "analytics:events"
#: Events a process keeps while Redis is away; the oldest are dropped first, and counted.
MAX_BUFFERED = 10_000
_SEND_EVERY = 1.0  # seconds

_buffer: deque[str] = deque(maxlen=MAX_BUFFERED)
_dropped = 0
_sending = threading.Lock()
_sender_pid = 0


def record(kind: str, **fields: Any) -> None:
    """Note that something happened now; `fields` are short JSON values. Never blocks or raises."""
    global _dropped
    try:
        # NaN is no JSON, and PostgreSQL would refuse the whole batch for it.
        event = json.dumps(
            {"id": new_id(), "kind": kind, "at": time.time(), "fields": fields}, allow_nan=False
        )
    except (TypeError, ValueError, RecursionError):
        log.exception("An analytics event is not JSON", action="analytics.invalid", kind=kind)
        return
    if len(_buffer) == MAX_BUFFERED:
        _dropped += 1
    _buffer.append(event)
    if _sender_pid != os.getpid():
        _start_sender()


def _start_sender() -> None:
    """One sender a process."""
    global _sender_pid
    with _sending:
        if _sender_pid == os.getpid():
            return
        _sender_pid = os.getpid()
        threading.Thread(target=_send_forever, name="analytics", daemon=True).start()
        atexit.register(send_buffered)


def _forget_parent() -> None:
    """In a forked child: what is buffered is the parent's to send, whose sender holds the lock."""
    global _sending, _dropped
    _sending = threading.Lock()
    _dropped = 0
    _buffer.clear()


os.register_at_fork(after_in_child=_forget_parent)


def _send_forever() -> None:
    while True:
        time.sleep(_SEND_EVERY)
        send_buffered()


def send_buffered() -> bool:
    """Move the buffer to Redis; False, and everything kept, when Redis is away."""
    global _dropped
    with _sending:
        count = len(_buffer)
        if not count:
            return True
        events = [_buffer[index] for index in range(count)]
        try:
            client().rpush(EVENTS_KEY, *events)
        except REDIS_ERRORS as error:
            log.debug("Analytics events wait for Redis", error=type(error).__name__)
            return False
        # Those that fell out of a full buffer meanwhile were the oldest: never drop newer ones.
        sent = set(events)
        while _buffer and _buffer[0] in sent:
            _buffer.popleft()
        if _dropped:
            log.warning("Analytics events were dropped", action="analytics.drop", count=_dropped)
            _dropped = 0
        return True
