"""Jobs as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from shared.accounts.policy import Action, Actor, may
from shared.database.engine import reading
from shared.database.models import Job


def list_jobs(actor: Actor, *, limit: int | None = None) -> Sequence[Job]:
    """The jobs that this person may see, newest first; `limit` None means all."""
    query = select(Job).options(joinedload(Job.owner))
    if not may(actor, Action.SEE_ALL_JOBS):
        query = query.where(Job.owner_id == actor.user_id)
    query = query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    with reading() as session:
        return session.scalars(query).all()


def as_json(job: Job) -> dict[str, Any]:
    """The job in the stable form that `bharatverse jobs --json` prints."""
    return {
        "id": job.id,
        "item_id": job.item_id,
        "kind": job.kind,
        "queue": job.queue,
        "state": job.state.value,
        "owner": job.owner.name,
        "attempt": job.attempt,
        "progress": {
            "done": job.progress_done,
            "total": job.progress_total,
            "phase": job.phase,
        },
        "error": (
            {"code": job.error_code, "message": job.error_message} if job.error_code else None
        ),
        "created_at": _iso(job.created_at),
        "started_at": _iso(job.started_at),
        "finished_at": _iso(job.finished_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
