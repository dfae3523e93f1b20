"""Tasks of the queue `ai`: what AI does to an item."""

from __future__ import annotations

from typing import Any

from shared.enrichment import item as enrichment
from shared.jobs.running import running
from workers.app import app


@app.task(bind=True, name="ai.enrich_text")
def enrich_text(self: Any, job_id: str) -> None:
    """Find out about an item's text: language, keywords, summary, themes, embedding, sentiment."""
    with running(job_id, self) as job:
        enrichment.enrich_item(job)
