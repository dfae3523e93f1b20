"""The beat schedule. Each entry expires before its next run, so that none piles up."""

from __future__ import annotations

from typing import Any

from shared.config import Settings
from shared.observability import canary
from shared.queue import QUEUES

#: Seconds between two recoveries of jobs that lost their worker or their message.
RECOVERY_INTERVAL = 5


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`."""
    entries = {
        "cleanup.recover_jobs": RECOVERY_INTERVAL,
        "cleanup.clean_up": settings.cleanup_interval_seconds,
        "analytics.flush": settings.analytics_flush_seconds,
        "warmup.ping_services": settings.warmup_interval_seconds,
        **{f"{queue}.canary": canary.INTERVAL for queue in QUEUES},
    }
    return {
        task: {
            "task": task,
            "schedule": seconds,
            "options": {"queue": task.partition(".")[0], "expires": seconds * 0.9},
        }
        for task, seconds in entries.items()
    }
