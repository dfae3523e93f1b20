"""The ledger on both databases: what it promises about every job."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Ignore
from sqlalchemy import func, select, update

from shared.database.engine import reading, writing
from shared.database.models import Job, JobAttempt, JobState, Lane, Recurring
from shared.errors import Invalid, Unavailable
from shared.jobs import ledger, progress, recovery
from shared.jobs.ledger import LeaseLost
from shared.jobs.running import running
from shared.redis_client import client
from tests.conftest import Archive
from tests.servers import RedisServer, wait_until


class StateRecorder:
    """The part of a Celery task that a doorway hands over; remembers the states it stored."""

    def __init__(self) -> None:
        self.request = SimpleNamespace(hostname="worker@test")
        self.states: list[tuple[str, dict[str, Any]]] = []

    def update_state(self, *, state: str, meta: dict[str, Any]) -> None:
        self.states.append((state, meta))


def submit(archive: Archive, key: str = "k") -> str:
    with writing() as session:
        made = ledger.submit(
            session, kind="ai.test", owner_id=archive.admin.user_id or "", item_id=None, key=key
        )
        return made.job_id


def job(job_id: str) -> Job:
    with reading() as session:
        return session.get_one(Job, job_id)


def messages(server: RedisServer) -> list[str]:
    """The job ids that wait in Redis, the next one first."""
    waiting: Any = client().lrange("ai", 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(waiting)]


def pretend_rung_long_ago() -> None:
    with writing() as session:
        session.execute(update(Job).where(Job.rung_at.is_not(None)).values(rung_at=1.0))


def in_threads(work: Callable[[], object], *, count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def let_lease_expire(job_id: str) -> None:
    with writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=1.0))


def test_a_job_is_claimed_once(archive: Archive) -> None:
    job_id = submit(archive)

    claims = [ledger.claim(job_id, worker=f"w{number}") for number in range(3)]

    assert [claim is not None for claim in claims] == [True, False, False]
    assert job(job_id).state is JobState.RUNNING
    assert job(job_id).attempt == 1


def test_of_many_workers_that_claim_at_once_one_gets_the_job(archive: Archive) -> None:
    job_id = submit(archive)
    claims = []
    gate = threading.Barrier(8)

    def claim() -> None:
        gate.wait()
        claims.append(ledger.claim(job_id, worker="w"))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(claim is not None for claim in claims) == 1


def test_identical_submits_join_the_live_job_and_the_finished_one(archive: Archive) -> None:
    first, again = submit(archive), submit(archive)
    assert first == again
    assert submit(archive, key="another") != first

    held = ledger.claim(first, worker="w")
    assert held is not None
    with writing() as session:
        ledger.finish(session, held)

    assert submit(archive) == first


def test_the_same_work_is_submitted_anew_after_it_failed(archive: Archive) -> None:
    first = submit(archive)
    with pytest.raises(Invalid), running(first, StateRecorder()):
        raise Invalid("no")

    assert submit(archive) != first


def test_submits_at_the_same_time_make_one_job(archive: Archive) -> None:
    ids: list[str] = []
    gate = threading.Barrier(8)

    def run() -> None:
        gate.wait()
        ids.append(submit(archive))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_late_result_is_refused_and_nothing_of_it_is_saved(archive: Archive) -> None:
    job_id = submit(archive)
    frozen = ledger.claim(job_id, worker="frozen")
    assert frozen is not None
    let_lease_expire(job_id)
    recovery.recover()
    second = ledger.claim(job_id, worker="second")
    assert second is not None
    assert second.attempt == 2

    with pytest.raises(LeaseLost), writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(phase="late"))
        ledger.finish(session, frozen)

    assert job(job_id).phase == ""
    with writing() as session:
        ledger.finish(session, second)
    assert job(job_id).state is JobState.DONE


def test_recovery_requeues_the_job_of_a_dead_worker_and_rings_it(
    archive: Archive, redis_server: RedisServer
) -> None:
    job_id = submit(archive)
    assert ledger.claim(job_id, worker="dead") is not None
    assert recovery.recover() == 0

    let_lease_expire(job_id)

    assert recovery.recover() == 1
    assert job(job_id).state is JobState.QUEUED
    assert job(job_id).error_code == "worker_lost"
    assert messages(redis_server) == [job_id]


def test_a_job_that_lost_three_workers_is_set_aside(archive: Archive) -> None:
    job_id = submit(archive)

    for _ in range(3):
        assert ledger.claim(job_id, worker="dying") is not None
        let_lease_expire(job_id)
        recovery.recover()

    assert job(job_id).state is JobState.QUARANTINED
    assert "3 times" in (job(job_id).error_message or "")
    assert ledger.claim(job_id, worker="w") is None
    with reading() as session:
        attempts = session.scalars(select(JobAttempt).order_by(JobAttempt.number)).all()
    assert [attempt.outcome for attempt in attempts] == ["worker_lost"] * 3


def test_errors_do_not_count_as_lost_workers_nor_the_other_way_round(archive: Archive) -> None:
    job_id = submit(archive)
    for _ in range(2):
        assert ledger.claim(job_id, worker="dying") is not None
        let_lease_expire(job_id)
        recovery.recover()

    with pytest.raises(Ignore), running(job_id, StateRecorder()):
        raise Unavailable("The service sleeps.")

    assert job(job_id).state is JobState.QUEUED
    assert (job(job_id).losses, job(job_id).errors) == (2, 1)


def test_a_message_that_redis_still_holds_is_not_sent_again(
    archive: Archive, redis_server: RedisServer
) -> None:
    (job_id,) = archive.contribute().job_ids
    pretend_rung_long_ago()

    recovery.recover()
    assert messages(redis_server) == [job_id]

    client().flushall()
    recovery.recover()
    assert messages(redis_server) == [job_id]

    client().flushall()
    recovery.recover()
    assert messages(redis_server) == []  # it was just sent: the next look comes later


def test_two_recoveries_at_once_ring_a_job_once(
    archive: Archive, redis_server: RedisServer
) -> None:
    ids = {submit(archive, key=str(number)) for number in range(20)}
    for job_id in ids:
        ledger.claim(job_id, worker="dead")
    with writing() as session:
        session.execute(update(Job).values(lease_until=1.0))
        session.execute(update(Lane).values(window=50))
    gate = threading.Barrier(4)

    def recover() -> None:
        gate.wait()
        recovery.recover()

    in_threads(recover, count=4)
    recovery.recover()

    assert sorted(messages(redis_server)) == sorted(ids)
    assert all(job(job_id).losses == 1 for job_id in ids)


def test_of_many_recoveries_that_are_due_one_is_done(archive: Archive) -> None:
    done: list[bool] = []

    in_threads(lambda: done.append(recovery.recover_if_due()), count=6)

    assert sum(done) == 1


def test_a_clock_that_was_set_back_stops_no_recovery(archive: Archive) -> None:
    job_id = submit(archive)
    assert ledger.claim(job_id, worker="dead") is not None
    hours = 5 * 3600.0
    with writing() as session:
        session.execute(update(Recurring).values(done_at=time.time() + hours))
        session.execute(update(Job).values(lease_until=time.time() + hours))

    assert recovery.recover_if_due()

    assert (job(job_id).lease_until or 0) < time.time() + 60


def test_after_a_pause_the_living_may_renew_their_leases_first(archive: Archive) -> None:
    """The database was away: nobody could renew, and nobody has died."""
    job_id = submit(archive)
    held = ledger.claim(job_id, worker="alive")
    assert held is not None
    let_lease_expire(job_id)
    with writing() as session:
        session.execute(update(Recurring).values(done_at=Recurring.done_at + 1.0))

    assert recovery.recover_if_due()
    with writing() as session:
        ledger.hold(session, held, done=1, total=2, phase="goes on")
    with writing() as session:
        session.execute(update(Recurring).values(done_at=Recurring.done_at - recovery.INTERVAL))
    assert recovery.recover_if_due()

    assert job(job_id).state is JobState.RUNNING


def test_the_lease_is_renewed_while_the_body_works(archive: Archive) -> None:
    job_id = submit(archive)
    task = StateRecorder()

    with running(job_id, task) as work:
        work.progress(1, 2, "long step")
        time.sleep(archive.settings.lease_seconds * 1.5)
        recovery.recover()
        assert job(job_id).state is JobState.RUNNING
        assert job(job_id).phase == "long step"

    assert job(job_id).state is JobState.DONE
    assert job(job_id).attempt == 1


def test_a_body_that_lost_its_lease_is_told_and_its_end_is_dropped(archive: Archive) -> None:
    job_id = submit(archive)

    with pytest.raises(Ignore), running(job_id, StateRecorder()) as work:
        let_lease_expire(job_id)
        recovery.recover()
        assert ledger.claim(job_id, worker="other") is not None
        wait_until(lambda: work._interruption, what="the heartbeat noticed")
        work.progress(1, 2, "late")

    assert job(job_id).state is JobState.RUNNING
    assert job(job_id).worker == "other"


def test_a_message_for_a_finished_job_leaves_no_state_behind(archive: Archive) -> None:
    job_id = submit(archive)
    with running(job_id, StateRecorder()):
        pass
    task = StateRecorder()

    with pytest.raises(Ignore), running(job_id, task):
        pytest.fail("the body ran twice")

    assert task.states == []


def test_an_error_that_time_may_mend_requeues_three_times_then_fails(archive: Archive) -> None:
    job_id = submit(archive)

    for attempt in (1, 2):
        with pytest.raises(Ignore), running(job_id, StateRecorder()):
            raise Unavailable("The service sleeps.")
        assert job(job_id).state is JobState.QUEUED, attempt
        assert job(job_id).ring_after > time.time()
    with pytest.raises(Unavailable), running(job_id, StateRecorder()):
        raise Unavailable("The service sleeps.")

    assert job(job_id).state is JobState.FAILED
    assert job(job_id).error_message == "The service sleeps."


def test_an_error_that_time_does_not_mend_fails_at_once_with_its_sentence(
    archive: Archive,
) -> None:
    job_id = submit(archive)

    with pytest.raises(Invalid), running(job_id, StateRecorder()):
        raise Invalid("This cannot be read.")

    assert job(job_id).state is JobState.FAILED
    assert (job(job_id).error_code, job(job_id).error_message) == (
        "invalid",
        "This cannot be read.",
    )


def test_an_unexpected_error_fails_with_a_sentence_and_without_its_words(
    archive: Archive,
) -> None:
    job_id = submit(archive)

    with pytest.raises(ZeroDivisionError), running(job_id, StateRecorder()):
        raise ZeroDivisionError("secret words")

    assert job(job_id).error_code == "internal"
    assert "secret words" not in (job(job_id).error_message or "")


def test_results_and_the_end_of_the_job_are_one_transaction(archive: Archive) -> None:
    job_id = submit(archive)

    with (
        pytest.raises(Invalid),
        running(job_id, StateRecorder()) as work,
        work.saving(last=True) as session,
    ):
        session.execute(update(Job).where(Job.id == job_id).values(phase="half a result"))
        raise Invalid("no")

    assert job(job_id).state is JobState.FAILED
    assert job(job_id).phase != "half a result"


def test_progress_is_throttled_but_a_new_phase_is_always_told(archive: Archive) -> None:
    task = StateRecorder()
    with running(submit(archive), task) as work:
        for done in range(100):
            work.progress(done, 100, "a")
        work.progress(100, 100, "b")

    phases = [meta["phase"] for _, meta in task.states]
    assert phases[0] == "a"
    assert phases[-1] == "b"
    assert len(phases) < 10


def test_progress_is_read_from_the_ledger_while_redis_is_away(
    archive: Archive, redis_server: RedisServer
) -> None:
    job_id = submit(archive)
    redis_server.kill()

    started = time.monotonic()
    seen = progress.read([job_id, "unknown"])

    assert list(seen) == [job_id]
    assert seen[job_id].state is JobState.QUEUED
    assert time.monotonic() - started < 3


def test_nothing_is_left_half_submitted_when_the_transaction_fails(archive: Archive) -> None:
    with pytest.raises(RuntimeError), writing() as session:
        ledger.submit(
            session, kind="ai.test", owner_id=archive.admin.user_id or "", item_id=None, key="k"
        )
        raise RuntimeError

    with reading() as session:
        assert session.scalar(select(func.count(Job.id))) == 0
