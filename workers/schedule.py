"""The beat schedule. Each entry expires before its next run, so that none piles up."""

from __future__ import annotations

from typing import Any

from shared.config import Settings
from shared.observability import canary
from shared.queue import QUEUES

#: Seconds between two recoveries: `recovery.INTERVAL`, without what that module loads.
RECOVERY_INTERVAL = 5.0


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`."""
    tasks = {
        "cleanup.recover_jobs": RECOVERY_INTERVAL,
        "cleanup.clean_up": settings.cleanup_interval_seconds,
        "analytics.flush": settings.analytics_flush_seconds,
        "warmup.ping_services": settings.warmup_interval_seconds,
    }
    entries = {
        task: _entry(task, queue=task.partition(".")[0], seconds=seconds)
        for task, seconds in tasks.items()
    }
    for queue in QUEUES:
        entries[f"canary {queue}"] = _entry(
            canary.TASK, queue=queue, seconds=canary.INTERVAL, args=(queue,)
        )
    return entries


def _entry(task: str, *, queue: str, seconds: float, args: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": seconds,
        "args": args,
        "options": {"queue": queue, "expires": seconds * 0.9},
    }
