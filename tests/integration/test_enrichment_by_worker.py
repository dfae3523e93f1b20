"""A real Celery worker process enriches contributions, on both databases."""

from __future__ import annotations

from sqlalchemy import select, update

from shared.archive import items
from shared.database.engine import reading, writing
from shared.database.models import Enrichment, Job, JobState, Lane
from shared.jobs import dispatch, progress, recovery
from shared.jobs.ledger import Submitted
from shared.observability import canary
from shared.redis_client import client
from tests.conftest import HINDI, Archive
from tests.servers import wait_until


def state(job_id: str) -> JobState:
    with reading() as session:
        return session.get_one(Job, job_id).state


def found_by(job_id: str) -> set[str]:
    with reading() as session:
        return set(session.scalars(select(Enrichment.id).where(Enrichment.job_id == job_id)))


def test_a_contribution_is_enriched_and_what_was_contributed_stays(
    enriching_archive: Archive,
) -> None:
    made = enriching_archive.contribute(f"{HINDI}\n" * 10)
    (job_id,) = made.job_ids
    seen: list[progress.Progress] = []

    def is_done() -> bool:
        seen.append(progress.read([job_id])[job_id])
        return seen[-1].state is JobState.DONE

    wait_until(is_done, seconds=60, what="the job is done")

    fractions = [look.fraction for look in seen]
    assert fractions == sorted(fractions)
    assert len({look.phase for look in seen if look.state is JobState.RUNNING}) >= 2
    view = items.get_item(enriching_archive.reader, made.item_id)
    assert view.item.text == (f"{HINDI}\n" * 10).strip()
    assert view.item.declared_language is None
    assert view.item.language == "hi"
    assert [found.status for found in view.enrichments].count("draft") == 6
    assert all(found.seconds >= 0 and found.parameters is not None for found in view.enrichments)


def test_the_contributors_language_wins_over_the_detected_one(enriching_archive: Archive) -> None:
    made = enriching_archive.contribute(language="mr")

    wait_until(lambda: state(made.job_ids[0]) is JobState.DONE, seconds=60)

    view = items.get_item(enriching_archive.reader, made.item_id)
    assert view.item.language == "mr"
    assert view.item.detected_language == "hi"


def test_a_job_that_is_tried_again_goes_on_after_its_last_saved_step(
    enriching_archive: Archive,
) -> None:
    made = enriching_archive.contribute()
    (job_id,) = made.job_ids
    wait_until(lambda: state(job_id) is JobState.DONE, seconds=60)
    first = found_by(job_id)
    with writing() as session:
        again = update(Job).where(Job.id == job_id)
        session.execute(again.values(state=JobState.QUEUED, ring_after=1.0))
        last = session.scalars(
            select(Enrichment).where(Enrichment.job_id == job_id, Enrichment.step == "sentiment")
        ).one()
        session.delete(last)

    recovery.recover()

    wait_until(lambda: state(job_id) is JobState.DONE, seconds=60)
    second = found_by(job_id)
    assert len(second) == len(first) == 7
    assert second & first == first - {last.id}


def test_a_message_that_comes_twice_enriches_once_and_hides_nothing(
    enriching_archive: Archive,
) -> None:
    made = enriching_archive.contribute()
    (job_id,) = made.job_ids
    with reading() as session:
        job = session.get_one(Job, job_id)
    for _ in range(5):
        dispatch.ring(
            Submitted(job_id=job_id, kind=job.kind, lane=job.lane, is_new=True, ring=True)
        )

    wait_until(lambda: state(job_id) is JobState.DONE, seconds=60)

    assert progress.read([job_id])[job_id].state is JobState.DONE
    with reading() as session:
        assert session.get_one(Job, job_id).attempt == 1
    assert len(found_by(job_id)) == 7


def test_progress_that_cannot_be_read_fails_no_job(enriching_archive: Archive) -> None:
    with writing() as session:
        session.execute(update(Lane).values(paused=True))
    (job_id,) = enriching_archive.contribute("एक कहानी जो पढ़ी नहीं जा सकती।").job_ids
    client().set(f"celery-task-meta-{job_id}", b'{"status": "RETRY", "result": {"done": 1}}')

    with writing() as session:
        session.execute(update(Lane).values(paused=False))

    wait_until(lambda: state(job_id) is JobState.DONE, seconds=60)
    with reading() as session:
        assert session.get_one(Job, job_id).attempt == 1


def test_a_worker_proves_that_it_consumes_each_of_its_queues(enriching_archive: Archive) -> None:
    wait_until(lambda: None not in (canary.last_tasks()["ai"], canary.last_tasks()["cleanup"]))

    assert canary.last_tasks()["warmup"] is None
