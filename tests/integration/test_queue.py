"""The message that rings a job is one that Celery would send."""

from __future__ import annotations

import json
import os
from typing import Any

from shared import queue
from shared.redis_client import client
from tests.conftest import Archive

JOB_ID = "7a1c1b1e-0000-4000-8000-000000000000"


def newest(lane: str) -> dict[str, Any]:
    message: Any = client().lindex(lane, 0)
    found = json.loads(message)
    assert isinstance(found, dict)
    return found


def test_a_rung_job_is_the_message_that_celery_would_send(archive: Archive) -> None:
    """Made by hand, it is three times as quick; this holds it to what the installed Celery does."""
    assert queue.ring("ai.bulk", [(JOB_ID, "ai.enrich_text")], limits=lambda kind: (900.0, 930.0))
    ours = newest("ai.bulk")
    queue._producer(os.getpid()).send_task(
        "ai.enrich_text", args=[JOB_ID], queue="ai.bulk", task_id=JOB_ID,
        soft_time_limit=900.0, time_limit=930.0,
    )  # fmt: skip
    celerys = newest("ai.bulk")

    for message in (ours, celerys):
        assert message["properties"].pop("delivery_tag")
        message["properties"].pop("reply_to")  # for remote procedure calls only
        assert str(os.getpid()) in message["headers"].pop("origin")
    assert ours == celerys


def test_many_jobs_are_rung_in_their_order(archive: Archive) -> None:
    ids = [f"{number}{JOB_ID[1:]}" for number in range(3)]

    assert queue.ring("ai", [(each, "ai.test") for each in ids], limits=lambda kind: (1.0, 2.0))

    waiting: Any = client().lrange("ai", 0, -1)
    assert [json.loads(message)["headers"]["id"] for message in reversed(waiting)] == ids
