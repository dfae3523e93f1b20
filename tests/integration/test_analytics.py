"""Analytics events: recorded in microseconds, written in batches, each exactly once."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from redis.exceptions import LockError
from sqlalchemy import event, select, text

from shared.analytics import buffer, flush, record
from shared.analytics.buffer import EVENTS_KEY, MAX_BUFFERED, send_buffered
from shared.analytics.flush import _LOCK_KEY
from shared.config import Settings
from shared.database.engine import engine, reading, writing
from shared.database.models import AnalyticsEvent, new_id
from shared.errors import BharatVerseError
from shared.redis_client import REDIS_ERRORS
from tests.conftest import Archive
from tests.servers import RedisServer, wait_until

#: For what does not depend on the kind of database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def probe(archive: Archive, redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A connection to a Redis without events, with none from other tests on their way to it."""
    with buffer._sending:
        buffer._buffer.clear()
        connection = redis.Redis(port=redis_server.port)
        connection.delete(EVENTS_KEY)
    yield connection
    with buffer._sending:
        buffer._buffer.clear()


def numbered(kind: str = "test") -> list[int]:
    """The numbers that the written events of this kind carry."""
    with reading() as session:
        rows = session.scalars(select(AnalyticsEvent).where(AnalyticsEvent.kind == kind)).all()
    return sorted(row.fields["number"] for row in rows)


def waiting_numbers(probe: redis.Redis) -> list[int]:
    """The numbers that the events in Redis carry, oldest first."""
    return [json.loads(waiting)["fields"]["number"] for waiting in probe.lrange(EVENTS_KEY, 0, -1)]


def push(probe: redis.Redis, *numbers: int) -> None:
    """Put events where the processes' buffers send them."""
    for number in numbers:
        fields = {"number": number}
        probe.rpush(
            EVENTS_KEY,
            json.dumps({"id": new_id(), "kind": "test", "at": time.time(), "fields": fields}),
        )


class Commits:
    """Counts the commits of this process's engine, and does something at the first one."""

    def __init__(self, at_first: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self._at_first = at_first
        event.listen(engine(), "commit", self._note)

    def _note(self, _connection: Any) -> None:
        self.count += 1
        if self.count == 1:
            self._at_first()


# Recording


def test_an_event_travels_from_the_code_to_the_database(archive: Archive) -> None:
    before = datetime.now(UTC)
    fields = {"number": 1, "words": "कथा", "nothing": None, "nested": {"a": [1.5, True]}}
    record("test", **fields)

    assert send_buffered()
    assert flush() == 1

    with reading() as session:
        row = session.scalars(select(AnalyticsEvent).where(AnalyticsEvent.kind == "test")).one()
    assert row.fields == fields
    assert abs((row.occurred_at - before).total_seconds()) < 60


@on_sqlite
def test_events_reach_redis_without_anybody_waiting_for_it(probe: redis.Redis) -> None:
    record("test", number=1)

    wait_until(lambda: probe.llen(EVENTS_KEY) == 1, seconds=5, what="the sender has sent it")


@on_sqlite
def test_recording_never_raises_and_what_is_no_event_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    for value in (object(), b"bytes", {1, 2}, circle, deep, float("nan"), float("inf"), {(): 1}):
        record("test", value=value)
    record("test", number=1)

    assert caplog.text.count("analytics.invalid") == 8
    assert len(buffer._buffer) <= 1


@on_sqlite
def test_recording_never_waits_whatever_redis_does(
    redis_server: RedisServer, configure: Callable[..., Settings]
) -> None:
    configure(REDIS_TIMEOUT_SECONDS="2")
    record("test", number=0)
    assert redis_server._process is not None
    redis_server._process.send_signal(signal.SIGSTOP)
    sending = threading.Thread(target=send_buffered)
    try:
        sending.start()
        wait_until(buffer._sending.locked, what="the sender waits for Redis")

        started = time.perf_counter()
        for number in range(1000):
            record("test", number=number)
        took = time.perf_counter() - started
    finally:
        redis_server._process.send_signal(signal.SIGCONT)
        sending.join()

    assert took < 0.5


@on_sqlite
def test_a_child_of_a_process_that_was_just_sending_records_its_own_events_only(
    probe: redis.Redis,
) -> None:
    record("test", number=1)  # the parent's
    with buffer._sending:
        child = os.fork()
        if child == 0:  # nothing may leave this block
            try:
                record("test", number=2)
                os._exit(0 if len(buffer._buffer) == 1 and send_buffered() else 1)
            finally:
                os._exit(2)
        ended: list[int] = []
        waiting = threading.Thread(target=lambda: ended.append(os.waitpid(child, 0)[1]))
        waiting.start()
        waiting.join(5)
        if not ended:
            os.kill(child, signal.SIGKILL)
            waiting.join()

    assert ended == [0]
    assert send_buffered()
    assert sorted(waiting_numbers(probe)) == [1, 2]


@on_sqlite
def test_while_redis_is_away_events_are_kept_and_arrive_later(
    redis_server: RedisServer,
) -> None:
    redis_server.kill()
    for number in range(5):
        record("test", number=number)

    assert not send_buffered()
    assert len(buffer._buffer) == 5

    redis_server.start()
    assert send_buffered()
    assert flush() == 5
    assert numbered() == [0, 1, 2, 3, 4]


@on_sqlite
def test_of_too_many_events_the_oldest_are_dropped_and_counted(
    redis_server: RedisServer, probe: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()
    for number in range(MAX_BUFFERED + 5):
        record("test", number=number)
    assert len(buffer._buffer) == MAX_BUFFERED

    redis_server.start()
    wait_until(send_buffered, what="Redis is back")

    assert waiting_numbers(probe) == list(range(5, MAX_BUFFERED + 5))
    wait_until(lambda: "Analytics events were dropped" in caplog.text, seconds=2)
    assert "count=5" in caplog.text


# Writing


def test_a_flush_writes_batches_of_batch_size_and_empties_the_list(
    probe: redis.Redis, configure: Callable[..., Settings]
) -> None:
    configure(BATCH_SIZE="10")
    push(probe, *range(25))
    commits = Commits()

    assert flush() == 25

    assert commits.count == 3
    assert numbered() == list(range(25))
    assert probe.llen(EVENTS_KEY) == 0
    assert flush() == 0


def test_a_flush_that_dies_between_commit_and_trim_writes_nothing_twice(
    probe: redis.Redis, redis_server: RedisServer, configure: Callable[..., Settings]
) -> None:
    configure(BATCH_SIZE="4")
    push(probe, *range(10))
    Commits(at_first=redis_server.kill)

    with pytest.raises(REDIS_ERRORS):
        flush()
    assert numbered() == [0, 1, 2, 3], "the first batch was committed"

    redis_server.start()
    probe.delete(_LOCK_KEY)  # the dead flush's lock has run out
    flush()
    assert numbered() == list(range(10))
    assert probe.llen(EVENTS_KEY) == 0


def test_what_is_no_event_of_ours_is_passed_over_and_holds_nothing_up(
    probe: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"id": new_id(), "kind": "test", "at": 1.7e9, "fields": {"number": 1}}
    foreign: list[bytes] = [
        b"", b"\xff", b"{", b"null", b"[]", b'"text"', b"12", b"[" * 100_000,
        *(
            json.dumps({**good, "id": new_id(), **wrong}).encode()
            for wrong in (
                {"id": "i" * 37},
                {"id": "a\0b"},
                {"id": "\ud800"},
                {"kind": "a\0b"},
                {"kind": "\ud800"},
                {"at": "yesterday"},
                {"at": 1e15},
                {"at": 1e17},
                {"at": float("nan")},
                {"fields": "none"},
                {"fields": {"number": float("nan")}},
                {"fields": {"number": float("-inf")}},
            )
        ),
        *(
            json.dumps({key: value for key, value in good.items() if key != lost}).encode()
            for lost in good
        ),
    ]  # fmt: skip
    push(probe, 0)
    probe.rpush(EVENTS_KEY, *foreign, json.dumps(good))
    push(probe, 2)

    assert flush() == 3

    assert numbered() == [0, 1, 2]
    assert probe.llen(EVENTS_KEY) == 0
    assert caplog.text.count("analytics.foreign") == len(foreign)


def test_a_kind_that_is_too_long_is_cut_and_not_lost(probe: redis.Redis) -> None:
    record("k" * 100, number=1)
    send_buffered()

    assert flush() == 1
    assert numbered("k" * 64) == [1]


def test_two_flushes_at_once_write_each_event_once(
    probe: redis.Redis, configure: Callable[..., Settings]
) -> None:
    configure(BATCH_SIZE="5")
    push(probe, *range(60))
    written: list[object] = []
    gate = threading.Barrier(3)

    def run() -> None:
        gate.wait()
        try:
            written.append(flush())
        except Exception as error:  # noqa: BLE001 - asserted below
            written.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(isinstance(count, int) for count in written), written
    assert sum(written) == 60  # type: ignore[arg-type]
    assert numbered() == list(range(60))
    assert probe.llen(EVENTS_KEY) == 0


@on_sqlite
def test_a_flush_that_was_frozen_past_its_lock_trims_nothing_that_another_has_not_written(
    probe: redis.Redis,
) -> None:
    push(probe, 0, 1)

    def meanwhile() -> None:
        """The lock runs out, another flush takes the same events, and new ones come."""
        probe.delete(_LOCK_KEY, EVENTS_KEY)
        push(probe, 2, 3)

    Commits(at_first=meanwhile)

    with pytest.raises(LockError):
        flush()
    flush()

    assert numbered() == [0, 1, 2, 3]


def test_when_the_database_fails_the_events_wait_in_redis(
    probe: redis.Redis,
) -> None:
    push(probe, 0, 1)
    with writing() as session:
        session.execute(text("ALTER TABLE analytics_events RENAME TO away"))

    with pytest.raises(BharatVerseError):
        flush()
    assert probe.llen(EVENTS_KEY) == 2

    with writing() as session:
        session.execute(text("ALTER TABLE away RENAME TO analytics_events"))
    assert flush() == 2, "the failed flush has given its lock back"
    assert numbered() == [0, 1]


@on_sqlite
def test_without_redis_a_flush_says_so(redis_server: RedisServer) -> None:
    redis_server.kill()

    with pytest.raises(REDIS_ERRORS):
        flush()


@on_sqlite
def test_a_contribution_is_recorded_without_a_word_of_its_text(
    archive: Archive, probe: redis.Redis
) -> None:
    archive.contribute("very private words", title="secret title", language="en")
    wait_until(lambda: send_buffered() and probe.llen(EVENTS_KEY), what="the event was sent")

    (sent,) = [json.loads(waiting) for waiting in probe.lrange(EVENTS_KEY, 0, -1)]
    assert sent["kind"] == "contributed"
    assert sent["fields"] == {"language": "en", "visibility": "public"}
