"""The way of the events from Redis to the database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from shared.analytics.buffer import EVENTS_KEY
from shared.config import get_settings
from shared.database.engine import writing
from shared.database.models import AnalyticsEvent
from shared.observability.logging import get_logger
from shared.redis_client import client

log = get_logger(__name__)

_LOCK_KEY = "analytics:flush-lock"
_LOCK_SECONDS = 60  # a flush that died holds up the next ones for so long


def flush() -> int:
    """Write the waiting events in batches of BATCH_SIZE; returns how many were written.

    An event leaves Redis only after its commit, and its id keeps one that is read again after a
    crash from being written twice. Raises `REDIS_ERRORS` or `Unavailable`; nothing is lost then.
    """
    lock = client().lock(_LOCK_KEY, timeout=_LOCK_SECONDS)
    if not lock.acquire(blocking=False):
        return 0  # another worker is at it
    written = 0
    size = get_settings().batch_size
    try:
        while batch := _waiting(size):
            rows = [row for row in map(_row, batch) if row is not None]
            if rows:
                _insert(rows)
            lock.reacquire()  # raises when it took too long and another worker began
            client().ltrim(EVENTS_KEY, len(batch), -1)
            written += len(rows)
    finally:
        if lock.owned():
            lock.release()
    if written:
        log.info("Analytics events written", action="analytics.flushed", count=written)
    return written


def _waiting(count: int) -> list[bytes]:
    events: Any = client().lrange(EVENTS_KEY, 0, count - 1)
    return list(events)


def _row(event: bytes) -> dict[str, Any] | None:
    """The event as the database takes it; None for anything that a database would refuse."""
    try:
        record = json.loads(event)
        kind, fields = str(record["kind"])[:64], dict(record["fields"])
        json.dumps(fields, allow_nan=False)
        if not kind.isprintable():
            raise ValueError(kind)
        return {
            "id": str(UUID(str(record["id"]))),
            "kind": kind,
            "occurred_at": datetime.fromtimestamp(float(record["at"]), UTC),
            "fields": fields,
        }
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
        log.warning("Not an event", action="analytics.foreign", error=type(error).__name__)
        return None


def _insert(rows: list[dict[str, Any]]) -> None:
    with writing() as session:
        dialect = session.get_bind().dialect.name
        make = postgresql_insert if dialect == "postgresql" else sqlite_insert
        statement: Any = make(AnalyticsEvent)
        session.execute(statement.on_conflict_do_nothing(index_elements=["id"]), rows)
