"""Jobs that lost a worker run alone, also when several of them are claimed at the same moment."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

from celery.exceptions import Ignore
from sqlalchemy import update

from shared.database.engine import writing
from shared.database.models import Job, JobState
from shared.jobs.running import running
from tests.chaos import tasks
from tests.chaos.conftest import on_both
from tests.chaos.harness import Ground, Stage


class Doorway:
    """The part of a Celery task that a job needs, in one process of one worker."""

    request = SimpleNamespace(hostname="ai@chaos")

    def update_state(self, *, state: str, meta: dict[str, Any]) -> None:
        """Nobody looks."""


@on_both
def test_suspects_that_are_claimed_at_once_do_not_wait_for_each_other(stage: Stage) -> None:
    with stage.ground() as ground:
        for _ in range(10):
            pair = [ground.submit(tasks.WORK) for _ in range(2)]
            with writing() as session:
                session.execute(update(Job).where(Job.id.in_(pair)).values(losses=1))
            gate = threading.Barrier(2)
            threads = [
                threading.Thread(target=_do, args=(ground, job_id, gate), daemon=True)
                for job_id in pair
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)

            assert [ground.job(job_id).state for job_id in pair] == [JobState.DONE] * 2


def _do(ground: Ground, job_id: str, gate: threading.Barrier) -> None:
    """What a process of the pool does with the messages for this job."""
    gate.wait()
    deadline = time.monotonic() + 20
    while ground.job(job_id).state is not JobState.DONE and time.monotonic() < deadline:
        try:
            with running(job_id, Doorway()):
                time.sleep(0.05)
        except Ignore:
            time.sleep(0.05)  # its turn comes
