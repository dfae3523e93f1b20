"""A real Celery worker process enriches contributions, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from shared.archive import items
from shared.database.engine import reading, writing
from shared.database.models import Enrichment, Job, JobState
from shared.jobs import ledger, progress
from shared.jobs.progress import PROGRESS_STATE, meta
from shared.observability import canary
from shared.redis_client import client
from tests.conftest import HINDI, Archive
from tests.servers import RedisServer, wait_until, worker


@pytest.fixture
def running_worker(archive: Archive, tmp_path: Path) -> Iterator[None]:
    with worker("ai,cleanup", folder=tmp_path):
        yield


def state(job_id: str) -> JobState:
    with reading() as session:
        return session.get_one(Job, job_id).state


@pytest.mark.usefixtures("running_worker")
def test_a_contribution_is_enriched_and_what_was_contributed_stays(archive: Archive) -> None:
    made = archive.contribute(f"{HINDI}\n" * 10)
    (job_id,) = made.job_ids
    seen: list[progress.Progress] = []

    def is_done() -> bool:
        seen.append(progress.read([job_id])[job_id])
        return seen[-1].state is JobState.DONE

    wait_until(is_done, seconds=60, what="the job is done")

    fractions = [look.fraction for look in seen]
    assert fractions == sorted(fractions)
    assert len({look.phase for look in seen if look.state is JobState.RUNNING}) >= 2
    view = items.get_item(archive.reader, made.item_id)
    assert view.item.text == (f"{HINDI}\n" * 10).strip()
    assert view.item.declared_language is None
    assert view.item.language == "hi"
    assert [found.status for found in view.enrichments].count("draft") == 6
    assert all(found.seconds >= 0 and found.parameters is not None for found in view.enrichments)


@pytest.mark.usefixtures("running_worker")
def test_the_contributors_language_wins_over_the_detected_one(archive: Archive) -> None:
    made = archive.contribute(language="mr")

    wait_until(lambda: state(made.job_ids[0]) is JobState.DONE, seconds=60)

    view = items.get_item(archive.reader, made.item_id)
    assert view.item.language == "mr"
    assert view.item.detected_language == "hi"


@pytest.mark.usefixtures("running_worker")
def test_a_job_that_is_tried_again_goes_on_after_its_last_saved_step(archive: Archive) -> None:
    made = archive.contribute()
    (job_id,) = made.job_ids
    wait_until(lambda: state(job_id) is JobState.DONE, seconds=60)
    with reading() as session:
        first = set(session.scalars(select(Enrichment.id)))
    with writing() as session:
        session.execute(update(Job).values(state=JobState.QUEUED, ring_after=1.0))
        last = session.scalars(select(Enrichment).where(Enrichment.step == "sentiment")).one()
        session.delete(last)

    ledger.recover()

    wait_until(lambda: state(job_id) is JobState.DONE, seconds=60)
    with reading() as session:
        second = set(session.scalars(select(Enrichment.id)))
    assert len(second) == len(first) == 7
    assert second & first == first - {last.id}


@pytest.mark.usefixtures("running_worker")
def test_a_message_that_comes_twice_enriches_once_and_hides_nothing(archive: Archive) -> None:
    made = archive.contribute()
    (job_id,) = made.job_ids
    with reading() as session:
        job = session.get_one(Job, job_id)
    for _ in range(5):
        ledger.ring([job])

    wait_until(lambda: state(job_id) is JobState.DONE, seconds=60)

    assert progress.read([job_id])[job_id].state is JobState.DONE
    with reading() as session:
        assert session.get_one(Job, job_id).attempt == 1
        assert len(session.scalars(select(Enrichment.id)).all()) == 7


def test_a_worker_that_restarts_after_redis_was_emptied_does_what_waited(
    archive: Archive, redis_server: RedisServer, tmp_path: Path
) -> None:
    made = archive.contribute()
    redis_server.kill()
    for leftover in redis_server.folder.rglob("*.aof"):
        leftover.unlink()
    for leftover in redis_server.folder.rglob("*.manifest"):
        leftover.unlink()
    redis_server.start()
    with writing() as session:
        session.execute(update(Job).values(ring_after=1.0))

    with worker("ai,cleanup", folder=tmp_path):
        assert ledger.recover() == [made.job_ids[0]]
        wait_until(lambda: state(made.job_ids[0]) is JobState.DONE, seconds=60)


@pytest.mark.usefixtures("running_worker")
def test_a_worker_proves_that_it_consumes_each_of_its_queues(archive: Archive) -> None:
    wait_until(lambda: None not in (canary.last_tasks()["ai"], canary.last_tasks()["cleanup"]))

    assert canary.last_tasks()["warmup"] is None


def test_a_page_believes_only_fresh_progress(archive: Archive, redis_server: RedisServer) -> None:
    """A worker that died leaves its last progress in Redis; the ledger knows better."""
    (job_id,) = archive.contribute().job_ids
    stale = meta(3, 7, "keywords") | {"at": 1.0}
    for result, expected in (
        (stale, JobState.QUEUED),
        ("not a record", JobState.QUEUED),
        (meta(3, 7, "keywords"), JobState.RUNNING),
    ):
        record = {"status": PROGRESS_STATE, "result": result}
        client().set(f"celery-task-meta-{job_id}", json.dumps(record))
        assert progress.read([job_id])[job_id].state is expected
