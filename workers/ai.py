"""Tasks of the queue `ai`: what AI does to an item."""

from __future__ import annotations

from typing import Any

from shared.enrichment import item as enrichment
from shared.jobs.running import running
from shared.observability.canary import note_task_passed
from workers.app import app


@app.task(bind=True, name="ai.enrich_text")
def enrich_text(self: Any, job_id: str) -> None:
    """Find out about an item's text: language, keywords, summary, themes, embedding, sentiment."""
    with running(job_id, self) as job:
        enrichment.enrich_item(job)


@app.task(name="ai.canary", ignore_result=True)
def canary() -> None:
    """The evidence that this queue is consumed."""
    note_task_passed("ai")
