"""Enriching one item: each finding is saved as soon as it is known, with its provenance."""

from __future__ import annotations

import time

from sqlalchemy import select, update
from sqlalchemy.orm import undefer

from shared import analytics
from shared.database.engine import reading
from shared.database.models import Enrichment, Item
from shared.enrichment.finding import Finding, Status, Step
from shared.enrichment.text import STEPS, enrich_text
from shared.errors import NotFound
from shared.jobs.running import RunningJob


class ItemGone(NotFound):
    """The item was removed before it could be enriched."""

    code = "item_gone"


def enrich_item(job: RunningJob) -> None:
    """Take the item's text through every step that this job has not saved yet.

    A job that is tried again goes on after its last saved step, and in a long one after its last
    saved chunk. The last finding and the job's
    end are one transaction; what the contributor wrote is never changed.
    """
    with reading() as session:
        item = session.get(Item, job.item_id)
        if item is None:
            raise ItemGone()
        saved = session.scalars(
            select(Enrichment)
            .where(Enrichment.job_id == job.job_id)
            .options(undefer(Enrichment.vector))
        ).all()
    finished = {Step(row.step): _finding(row) for row in saved}
    findings = enrich_text(
        item.text,
        declared_language=item.declared_language,
        finished=finished,
        progress=job.progress,
        kept=job,
    )
    begun = started = time.monotonic()
    for finding in findings:
        seconds = time.monotonic() - started
        with job.saving(last=finding.step is STEPS[-1]) as session:
            session.add(_row(finding, job=job, item=item, seconds=seconds))
            if finding.step is Step.LANGUAGE:
                session.execute(
                    update(Item)
                    .where(Item.id == item.id)
                    .values(detected_language=finding.language)
                )
        started = time.monotonic()
    analytics.record("enriched", language=item.language, seconds=round(started - begun, 3))


def _row(finding: Finding, *, job: RunningJob, item: Item, seconds: float) -> Enrichment:
    return Enrichment(
        item_id=item.id,
        job_id=job.job_id,
        step=finding.step.value,
        status=finding.status.value,
        value=finding.value,
        language=finding.language,
        provider=finding.provider,
        model=finding.model,
        version=finding.version,
        parameters=finding.parameters,
        confidence=finding.confidence,
        note=finding.note,
        seconds=seconds,
        vector=finding.vector,
    )


def _finding(row: Enrichment) -> Finding:
    return Finding(
        step=Step(row.step),
        value=row.value,
        language=row.language,
        provider=row.provider,
        model=row.model,
        version=row.version,
        parameters=row.parameters,
        confidence=row.confidence,
        status=Status(row.status),
        note=row.note,
        vector=row.vector,
    )
