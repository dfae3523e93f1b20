"""The ledger on both databases: what it promises about every job."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Ignore
from sqlalchemy import func, select, update

from shared.database.engine import reading, writing
from shared.database.models import Job, JobState
from shared.errors import Invalid, Unavailable
from shared.jobs import ledger, progress
from shared.jobs.ledger import LeaseLost
from shared.jobs.running import running
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
        job, _ = ledger.submit(
            session, kind="ai.test", owner_id=archive.admin.user_id or "", item_id=None, key=key
        )
        return job.id


def job(job_id: str) -> Job:
    with reading() as session:
        return session.get_one(Job, job_id)


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


def test_identical_submits_join_the_live_job_and_a_later_one_is_new(archive: Archive) -> None:
    first, again = submit(archive), submit(archive)
    assert first == again
    assert submit(archive, key="another") != first

    held = ledger.claim(first, worker="w")
    assert held is not None
    with writing() as session:
        ledger.finish(session, held)

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
    ledger.recover()
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
    assert ledger.recover() == []

    let_lease_expire(job_id)

    assert ledger.recover() == [job_id]
    assert job(job_id).state is JobState.QUEUED
    assert job(job_id).error_code == "worker_lost"


def test_a_job_that_lost_three_workers_is_set_aside(archive: Archive) -> None:
    job_id = submit(archive)

    for _ in range(3):
        assert ledger.claim(job_id, worker="dying") is not None
        let_lease_expire(job_id)
        ledger.recover()

    assert job(job_id).state is JobState.QUARANTINED
    assert "3 times" in (job(job_id).error_message or "")
    assert ledger.claim(job_id, worker="w") is None


def test_a_waiting_job_is_rung_again_only_after_a_growing_delay(archive: Archive) -> None:
    job_id = submit(archive)
    assert ledger.recover() == []

    with writing() as session:
        session.execute(update(Job).values(ring_after=1.0))

    assert ledger.recover() == [job_id]
    assert ledger.recover() == []
    assert job(job_id).ring_after > time.time() + ledger.FIRST_RING_DELAY - 2


def test_two_recoveries_at_once_ring_a_job_once(archive: Archive) -> None:
    ids = {submit(archive, key=str(number)) for number in range(20)}
    with writing() as session:
        session.execute(update(Job).values(ring_after=1.0))
    rung: list[str] = []
    gate = threading.Barrier(4)

    def recover() -> None:
        gate.wait()
        rung.extend(ledger.recover())

    threads = [threading.Thread(target=recover) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(rung) == sorted(ids)


def test_the_lease_is_renewed_while_the_body_works(archive: Archive) -> None:
    job_id = submit(archive)
    task = StateRecorder()

    with running(job_id, task) as work:
        work.progress(1, 2, "long step")
        time.sleep(archive.settings.lease_seconds * 1.5)
        ledger.recover()
        assert job(job_id).state is JobState.RUNNING
        assert job(job_id).phase == "long step"

    assert job(job_id).state is JobState.DONE
    assert job(job_id).attempt == 1


def test_a_body_that_lost_its_lease_is_told_and_its_end_is_dropped(archive: Archive) -> None:
    job_id = submit(archive)

    with pytest.raises(Ignore), running(job_id, StateRecorder()) as work:
        let_lease_expire(job_id)
        ledger.recover()
        assert ledger.claim(job_id, worker="other") is not None
        wait_until(work._lost.is_set, what="the heartbeat noticed")
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
