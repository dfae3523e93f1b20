"""What Redis forgets or misremembers, the ledger knows."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import update

from shared.database.engine import reading, writing
from shared.database.models import Job, JobState
from shared.jobs import progress, recovery
from shared.jobs.progress import PROGRESS_STATE, meta
from shared.redis_client import client
from tests.conftest import Archive
from tests.servers import RedisServer, wait_until, worker


def state(job_id: str) -> JobState:
    with reading() as session:
        return session.get_one(Job, job_id).state


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
        session.execute(update(Job).values(rung_at=1.0))

    with worker("ai,cleanup", folder=tmp_path):
        recovery.recover()
        wait_until(lambda: state(made.job_ids[0]) is JobState.DONE, seconds=60)


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
