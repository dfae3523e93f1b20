"""Waiting in SQL: turns, windows and pauses are exact, on both databases."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import Ignore
from sqlalchemy import func, select, update

from shared import redis_client
from shared.accounts.policy import Actor
from shared.archive import items
from shared.config import get_settings
from shared.database.engine import reading, writing
from shared.database.models import Job, JobAttempt, JobState, Lane
from shared.jobs import dispatch, lanes, ledger, recovery, reports, running, shutdown
from shared.jobs.lanes import UnknownQueue
from shared.jobs.ledger import Claim
from shared.queue import celery_settings
from shared.redis_client import client
from tests.conftest import Archive
from tests.integration.test_ledger import StateRecorder
from tests.servers import RedisServer, wait_until


def submit(owner: Actor, key: str, *, bulk: bool = True, kind: str = "ai.test") -> ledger.Submitted:
    with writing() as session:
        made = ledger.submit(
            session, kind=kind, owner_id=owner.user_id or "", item_id=None, key=key, bulk=bulk
        )
    dispatch.ring(made)
    return made


def submit_many(owner: Actor, count: int, *, prefix: str) -> list[str]:
    return [submit(owner, f"{prefix}{number}").job_id for number in range(count)]


def heard(lane: str = "ai.bulk") -> list[str]:
    """The job ids that Redis holds for the workers, the next one first."""
    waiting: Any = client().lrange(lane, 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(waiting)]


def work_off(lane: str = "ai.bulk") -> list[str]:
    """Do what a worker does, without its work: the ids in the order in which they were done."""
    done = []
    while (message := client().rpop(lane)) is not None:
        job_id = json.loads(message)["headers"]["id"]  # type: ignore[arg-type]
        held = claim(job_id)
        dispatch.dispatch(lane)
        with writing() as session:
            ledger.finish(session, held)
        done.append(job_id)
    return done


def claim(job_id: str, *, worker: str = "w") -> Claim:
    held = ledger.claim(job_id, worker=worker)
    assert held is not None
    return held


def job(job_id: str) -> Job:
    with reading() as session:
        return session.get_one(Job, job_id)


def lose(job_id: str) -> None:
    with writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=1.0))
    recovery.recover()


def window(lane: str = "ai.bulk") -> int:
    with reading() as session:
        return session.get_one(Lane, lane).window


@pytest.fixture(autouse=True)
def no_shutdown() -> Iterator[None]:
    yield
    shutdown.forget()


# Turns


def test_only_a_window_of_a_lane_is_rung_and_the_rest_waits_in_sql(archive: Archive) -> None:
    ids = submit_many(archive.contributor, 30, prefix="a")

    assert heard() == ids[: window()]
    with reading() as session:
        assert session.scalar(select(func.count()).where(Job.rung_at.is_(None))) == 30 - window()


def test_all_that_waits_is_done_in_the_order_of_its_turns(archive: Archive) -> None:
    ids = submit_many(archive.contributor, 40, prefix="a")

    assert work_off() == ids


def test_a_single_contribution_does_not_wait_behind_an_import(archive: Archive) -> None:
    submit_many(archive.contributor, 50, prefix="a")

    single = submit(archive.other, "single", bulk=False)

    assert single.lane == "ai"
    assert heard("ai") == [single.job_id]


def test_owners_take_turns_in_the_bulk_lane(archive: Archive) -> None:
    many = submit_many(archive.contributor, 60, prefix="a")
    few = submit_many(archive.other, 5, prefix="b")

    order = work_off()

    assert sorted(order) == sorted(many + few)
    # Those of the window were rung before the others came; from then on they alternate.
    assert max(order.index(job_id) for job_id in few) < window() + 2 * len(few)
    assert [job_id for job_id in order if job_id in few] == few


def test_an_owner_who_comes_later_gets_no_credit_for_the_time_before(archive: Archive) -> None:
    submit_many(archive.contributor, 60, prefix="a")
    for _ in range(40):
        message = client().rpop("ai.bulk")
        held = claim(json.loads(message)["headers"]["id"])  # type: ignore[arg-type]
        with writing() as session:
            ledger.finish(session, held)
        dispatch.dispatch("ai.bulk")
    late = submit_many(archive.other, 15, prefix="b")

    rest = work_off()

    first = rest[: 2 * len(late)]
    assert sum(job_id in late for job_id in first) < len(first)


def test_a_new_job_does_not_overtake_those_that_wait(archive: Archive) -> None:
    ids = submit_many(archive.contributor, 20, prefix="a")
    claim(ids[0])  # there is room in the window now

    late = submit(archive.contributor, "late")

    assert not late.ring
    assert late.job_id not in heard()


def test_a_window_grows_when_workers_starve_and_shrinks_when_messages_wait(
    archive: Archive,
) -> None:
    submit_many(archive.contributor, 200, prefix="a")
    first = window()
    for job_id in heard():
        claim(job_id)
    client().delete("ai.bulk")

    dispatch.dispatch("ai.bulk")
    assert window() == 2 * first
    assert len(heard()) == 2 * first

    with writing() as session:
        session.execute(update(Job).where(Job.rung_at.is_not(None)).values(rung_at=Job.rung_at - 9))
    dispatch.dispatch("ai.bulk")
    assert window() == first


def test_a_job_that_waits_for_its_next_try_is_not_rung_before(archive: Archive) -> None:
    made = submit(archive.contributor, "a")
    client().delete("ai.bulk")
    held = claim(made.job_id)
    with writing() as session:
        ledger.requeue(session, held, wait=60, code="unavailable", sentence="It sleeps.")

    recovery.recover()
    assert heard() == []

    with writing() as session:
        session.execute(update(Job).values(ring_after=1.0))
    recovery.recover()
    assert heard() == [made.job_id]


def test_messages_that_a_full_redis_refuses_are_rung_as_soon_as_it_has_room(
    archive: Archive,
) -> None:
    made = submit(archive.contributor, "a")
    client().delete("ai.bulk")
    with writing() as session:
        session.execute(update(Job).values(rung_at=1.0))
    client().config_set("maxmemory", "1")
    try:
        recovery.recover()
    finally:
        client().config_set("maxmemory", "0")

    redis_client.breaker.succeeded()
    recovery.recover()

    assert heard() == [made.job_id]


# Pause


def test_a_paused_lane_hands_nothing_out_not_even_what_was_rung(archive: Archive) -> None:
    rung = submit(archive.contributor, "a")
    assert lanes.set_paused("ai", paused=True) == ("ai", "ai.bulk")

    later = submit(archive.contributor, "b")
    assert not later.ring
    assert ledger.claim(rung.job_id, worker="w") is None
    client().delete("ai.bulk")
    recovery.recover()
    assert heard() == []

    lanes.set_paused("ai", paused=False)
    with writing() as session:
        session.execute(update(Job).values(ring_after=1.0))
    recovery.recover()
    assert sorted(heard()) == sorted([rung.job_id, later.job_id])


def test_pausing_what_is_no_queue_names_those_that_are(archive: Archive) -> None:
    with pytest.raises(UnknownQueue, match="the queues are ai, speech"):
        lanes.set_paused("analytics", paused=True)


def test_what_runs_goes_on_when_its_queue_is_paused(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BULK_TURN", 0.0)
    long = submit(archive.contributor, "long")
    submit(archive.other, "single", bulk=False)
    with writing() as session:
        session.execute(update(Job).where(Job.lane == "ai").values(rung_at=Job.rung_at - 5))

    with running.running(long.job_id, StateRecorder()) as work:
        lanes.set_paused("ai", paused=True)
        work.save_chunk("step", 0, b"half")

    assert job(long.job_id).state is JobState.DONE


# Without Redis


def test_jobs_submitted_without_redis_are_rung_in_order_when_it_returns(
    archive: Archive, redis_server: RedisServer
) -> None:
    redis_server.kill()
    ids = submit_many(archive.contributor, 5, prefix="a")

    redis_server.start_empty()
    redis_client.breaker.succeeded()
    recovery.recover()

    assert heard() == ids


# Suspects


def test_a_job_that_lost_its_worker_runs_alone_on_the_next_one(archive: Archive) -> None:
    suspect, other, later = submit_many(archive.contributor, 3, prefix="a")
    claim(suspect, worker="first")
    lose(suspect)

    assert claim(other, worker="second").is_suspect is False
    assert claim(suspect, worker="second").is_suspect is True
    assert ledger.claim(later, worker="second") is None
    assert ledger.claim(later, worker="third") is not None


def test_a_suspect_begins_when_its_worker_does_nothing_else(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect, other = submit_many(archive.contributor, 2, prefix="a")
    task = StateRecorder()
    beside = claim(other, worker=running._worker_name(task))
    claim(suspect, worker="dead")
    lose(suspect)

    def finish_beside(_seconds: float) -> None:
        assert job(suspect).state is JobState.RUNNING
        with writing() as session:
            ledger.finish(session, beside)

    monkeypatch.setattr(running.time, "sleep", finish_beside)
    with running.running(suspect, task):
        assert job(other).state is JobState.DONE


def test_an_innocent_job_is_not_blamed_for_its_neighbour(archive: Archive) -> None:
    poison, innocent = submit_many(archive.contributor, 2, prefix="a")
    for job_id in (poison, innocent):
        claim(job_id)
    for job_id in (poison, innocent):
        lose(job_id)

    held = claim(innocent, worker="second")
    with writing() as session:
        ledger.finish(session, held)
    for _ in range(2):
        claim(poison, worker="third")
        lose(poison)

    assert job(innocent).state is JobState.DONE
    assert job(poison).state is JobState.QUARANTINED


# Making room


def test_long_bulk_work_makes_room_for_a_single_contribution_and_goes_on(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BULK_TURN", 0.0)
    long = submit(archive.contributor, "long")
    submit(archive.other, "single", bulk=False)
    with writing() as session:
        session.execute(update(Job).where(Job.lane == "ai").values(rung_at=Job.rung_at - 5))

    with pytest.raises(Ignore), running.running(long.job_id, StateRecorder()) as work:
        work.save_chunk("step", 0, b"half")
        pytest.fail("it went on")

    assert job(long.job_id).state is JobState.QUEUED
    assert (job(long.job_id).errors, job(long.job_id).losses) == (0, 0)
    monkeypatch.undo()
    with running.running(long.job_id, StateRecorder()) as work:
        assert work.chunks("step") == {0: b"half"}
    with reading() as session:
        (attempt,) = session.scalars(select(JobAttempt)).all()
    assert (attempt.number, attempt.outcome) == (1, "handed_back")


def test_long_work_lets_other_owners_go_first(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LONG_TURN", 0.0)
    mine = submit(archive.contributor, "mine")
    client().delete("ai.bulk")
    with pytest.raises(Ignore), running.running(mine.job_id, StateRecorder()) as work:
        theirs = submit(archive.other, "theirs")
        with writing() as session:
            session.execute(
                update(Job).where(Job.id == theirs.job_id).values(rung_at=None, ring_after=1.0)
            )
        client().delete("ai.bulk")
        work.save_chunk("step", 0, b"half")

    dispatch.dispatch("ai.bulk")

    assert heard() == [theirs.job_id, mine.job_id]


def test_finished_jobs_leave_no_chunks_behind(archive: Archive) -> None:
    done, waiting = submit_many(archive.contributor, 2, prefix="a")
    held = [claim(job_id) for job_id in (done, waiting)]
    with writing() as session:
        for each in held:
            ledger.save_chunk(session, each, step="s", number=0, value=b"x")
        ledger.finish(session, held[0])

    assert ledger.forget_chunks() == 1

    with reading() as session:
        assert ledger.chunks(session, waiting, step="s") == {0: b"x"}


# Stopping


def test_a_running_job_is_cancelled_at_its_next_chunk_and_keeps_what_it_saved(
    archive: Archive,
) -> None:
    made = submit(archive.contributor, "a")

    with pytest.raises(Ignore), running.running(made.job_id, StateRecorder()) as work:
        with writing() as session:
            session.execute(update(Job).values(cancel_requested=True))
        work.save_chunk("step", 0, b"kept")
        pytest.fail("it went on")

    assert job(made.job_id).state is JobState.CANCELLED
    with reading() as session:
        assert ledger.chunks(session, made.job_id, step="step") == {0: b"kept"}


@pytest.mark.parametrize("how", ["error", "hand_back", "loss"])
def test_a_job_that_is_to_stop_does_not_wait_again_however_its_attempt_ends(
    archive: Archive, how: str
) -> None:
    made = submit(archive.contributor, "a")
    held = claim(made.job_id)
    with writing() as session:
        session.execute(update(Job).values(cancel_requested=True))

    if how == "loss":
        lose(made.job_id)
    else:
        with writing() as session:
            if how == "error":
                ledger.requeue(session, held, wait=1.0, code="unavailable", sentence="It sleeps.")
            else:
                ledger.hand_back(session, held, reason="Its worker was stopped.")

    ended = job(made.job_id)
    assert (ended.state, ended.error_code) == (JobState.CANCELLED, "cancelled")
    assert ended.finished_at is not None


def test_work_is_handed_back_when_its_worker_is_about_to_stop(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = submit(archive.contributor, "a")
    monkeypatch.setattr(shutdown, "SOFT_TIME", 0.0)

    with pytest.raises(Ignore), running.running(made.job_id, StateRecorder()) as work:
        work.progress(1, 2, "step")
        shutdown.ask()
        wait_until(lambda: (shutdown.since() or 0) > 0)
        work.progress(2, 2, "step")
        pytest.fail("it went on")

    assert job(made.job_id).state is JobState.QUEUED
    assert (job(made.job_id).errors, job(made.job_id).losses) == (0, 0)
    with pytest.raises(Ignore), running.running(made.job_id, StateRecorder()):
        pytest.fail("a worker that stops takes nothing new")


def test_work_that_hears_nothing_is_handed_back_in_the_last_moment(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = submit(archive.contributor, "a")
    monkeypatch.setattr(shutdown, "LAST_MOMENT", 0.0)

    with pytest.raises(Ignore), running.running(made.job_id, StateRecorder()) as work:
        shutdown.ask()
        wait_until(lambda: job(made.job_id).state is JobState.QUEUED)
        with work.saving(last=True):
            pytest.fail("a late result was accepted")

    assert job(made.job_id).losses == 0


def test_work_that_hears_no_time_limit_is_called_failed_before_it_is_killed(
    archive: Archive,
) -> None:
    made = submit(archive.contributor, "a")

    with pytest.raises(Ignore), running.running(made.job_id, StateRecorder()) as work:
        work._claimed_at -= 10_000
        wait_until(lambda: job(made.job_id).state is JobState.FAILED)
        work.progress(1, 1, "late")

    assert job(made.job_id).error_code == "timeout"
    assert job(made.job_id).error_message == "It took longer than 900 seconds and was stopped."


def test_a_full_memory_is_retried_and_does_not_end_the_worker(archive: Archive) -> None:
    made = submit(archive.contributor, "a")

    with pytest.raises(Ignore), running.running(made.job_id, StateRecorder()):
        raise MemoryError
    assert job(made.job_id).error_code == "out_of_memory"


# Reports of a worker's parent


def test_the_job_of_a_dead_process_is_requeued_at_once(archive: Archive) -> None:
    made = submit(archive.contributor, "a")
    client().delete("ai.bulk")
    claim(made.job_id, worker="w:1")

    reports.take("process_died", job_id=made.job_id, worker="w:1", began=1.0, why="signal 9")

    assert (job(made.job_id).state, job(made.job_id).losses) == (JobState.QUEUED, 1)
    assert "signal 9" in (job(made.job_id).error_message or "")
    assert heard() == [made.job_id]


@pytest.mark.parametrize(("worker", "began"), [("w:2", 1.0), ("w:1", 4e9)])
def test_a_report_about_another_attempt_changes_nothing(
    archive: Archive, worker: str, began: float
) -> None:
    made = submit(archive.contributor, "a")
    claim(made.job_id, worker="w:1")

    reports.take("process_died", job_id=made.job_id, worker=worker, began=began, why="signal 9")
    reports.take("process_died", job_id="unknown", worker="w:1", began=1.0, why="signal 9")

    assert job(made.job_id).state is JobState.RUNNING


def test_a_late_report_about_an_attempt_that_ended_spares_the_next_one(archive: Archive) -> None:
    made = submit(archive.contributor, "a")
    began = time.time()
    held = claim(made.job_id, worker="w:1")
    with writing() as session:
        ledger.hand_back(session, held, reason="It made room.")
    claim(made.job_id, worker="w:1")

    reports.take("timed_out", job_id=made.job_id, worker="w:1", began=began, why="")

    assert job(made.job_id).state is JobState.RUNNING


def test_a_job_that_was_killed_at_its_limit_has_failed(archive: Archive) -> None:
    made = submit(archive.contributor, "a")
    claim(made.job_id, worker="w:1")

    reports.take("timed_out", job_id=made.job_id, worker="w:1", began=1.0, why="")

    assert (job(made.job_id).state, job(made.job_id).error_code) == (JobState.FAILED, "timeout")


def test_an_import_waits_in_the_bulk_lane(archive: Archive) -> None:
    made = archive.contribute(bulk=True)

    assert job(made.job_ids[0]).lane == "ai.bulk"
    assert job(made.job_ids[0]).queue == "ai"
    assert items.get_item(archive.contributor, made.item_id).jobs[0].id == made.job_ids[0]


def test_the_urgent_lane_comes_first_in_the_order_in_which_workers_look() -> None:
    for queue, its_lanes in lanes.LANES_OF.items():
        assert list(its_lanes) == sorted(its_lanes)
        assert its_lanes[0] == queue
    assert (
        celery_settings(get_settings())["broker_transport_options"]["queue_order_strategy"]
        == "sorted"
    )


def test_the_database_knows_every_lane(archive: Archive) -> None:
    with reading() as session:
        assert set(session.scalars(select(Lane.name))) == set(lanes.LANES)
