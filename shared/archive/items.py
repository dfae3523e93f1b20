"""Contributing an item, and reading it back with what AI found out about it."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from shared import analytics
from shared.accounts.policy import Action, Actor, may_read, readable_by, require
from shared.archive import numbers
from shared.archive.checks import InvalidContribution, check_text, check_title
from shared.archive.drafts import discard_draft
from shared.database.engine import reading, writing
from shared.database.models import Enrichment, Item, Job, JobState, Visibility, new_id
from shared.enrichment.languages import language as known_language
from shared.enrichment.version import PIPELINE_VERSION
from shared.errors import NotFound
from shared.jobs import dispatch, ledger
from shared.jobs.kinds import ENRICH_TEXT
from shared.jobs.ledger import Submitted
from shared.jobs.view import as_json as job_as_json
from shared.observability.logging import get_logger

log = get_logger(__name__)


class ItemNotFound(NotFound):
    """There is no such item, or you may not see it; signing in may help."""

    code = "item_not_found"


class AlreadyContributed(InvalidContribution):
    """This is already here, with another language or visibility; that was not changed."""

    code = "already_contributed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributed:
    """What became of a contribution. It is saved, whatever the queue does."""

    item_id: str
    job_ids: tuple[str, ...]
    is_new: bool  # False: the same submission came before, and this is what it made
    rung: bool  # False: Redis is away, the work starts by itself when it returns


def contribute(
    actor: Actor,
    *,
    title: str,
    text: str,
    language: str | None,
    visibility: Visibility,
    submission_key: str | None = None,
    bulk: bool = False,
) -> Contributed:
    """Save a text and the job that enriches it in ONE transaction, then ring the workers.

    `language` is the contributor's ISO 639-1 code, or None when it shall be detected. The same
    `submission_key` from the same person finds what it made before, so that a double click or a
    repeated import makes nothing twice; a job of it that failed is done again. `bulk` is for one of
    many, whose work lets single contributions pass. Raises `NotAllowed`,
    `InvalidContribution`, `UnknownLanguage`, or `Unavailable` when nothing could be saved.
    """
    require(actor, Action.CONTRIBUTE)
    assert actor.user_id is not None
    written = text
    title, text = check_title(title), check_text(text)
    if language is not None:
        language = known_language(language).code
    item = Item(
        id=new_id(),
        owner_id=actor.user_id,
        submission_key=submission_key or new_id(),
        title=title,
        text=text,
        text_sha256=hash_text(text),
        declared_language=language,
        visibility=visibility,
    )
    with writing() as session:
        discard_draft(session, item.owner_id, item.submission_key, text=written)
        kept, is_new = _insert_or_find(session, item)
        jobs = [] if is_new else _jobs_of(session, kept)
        job_ids = [job.id for job in jobs]
        submitted = None
        if is_new or jobs[-1].state is JobState.FAILED:
            submitted = submit_enrichment(session, kept, bulk=bulk)
            job_ids.append(submitted.job_id)
    rung = submitted is None or dispatch.ring(submitted)
    if is_new:
        numbers.forget()
        analytics.record("contributed", language=language, visibility=visibility.value)
        log.info("An item was contributed", action="item.contributed", item=kept.id[:8], rung=rung)
    return Contributed(item_id=kept.id, job_ids=tuple(job_ids), is_new=is_new, rung=rung)


def _jobs_of(session: Session, item: Item) -> list[Job]:
    """The item's jobs, oldest first."""
    return list(session.scalars(select(Job).where(Job.item_id == item.id).order_by(Job.created_at)))


def _insert_or_find(session: Session, item: Item) -> tuple[Item, bool]:
    """The item, and whether it is new: the same submission may have made it before.

    Raises `AlreadyContributed` when that one has another language or visibility.
    """
    # Another tab may have taken up the same draft and written another story: both are kept. The
    # second key follows from that story, so that its own double click finds it.
    second_key = hash_text(f"{item.submission_key} {item.title}\n{item.text}")
    for key in (item.submission_key, second_key):
        item.submission_key = key
        try:
            with session.begin_nested():
                session.add(item)
            return item, True
        except IntegrityError:
            known = session.scalars(
                select(Item).where(Item.owner_id == item.owner_id, Item.submission_key == key)
            ).one()
        if (known.title, known.text_sha256) == (item.title, item.text_sha256):
            if (known.declared_language, known.visibility) != (
                item.declared_language,
                item.visibility,
            ):
                raise AlreadyContributed(
                    f"This is already here as {known.id}, with the language "
                    f"'{known.declared_language or 'detected'}' and visible to "
                    f"'{known.visibility.value}'; that was not changed."
                )
            return known, False
    raise AssertionError("a key made from an item's content belongs to another content")


def hash_text(text: str) -> str:
    """SHA-256 of the text, the same for every spelling that Unicode calls equivalent."""
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode()).hexdigest()


def submit_enrichment(session: Session, item: Item, *, bulk: bool) -> Submitted:
    """The job that enriches this item's text with today's models, new or joined."""
    return ledger.submit(
        session,
        kind=ENRICH_TEXT,
        owner_id=item.owner_id,
        item_id=item.id,
        key=ledger.content_key(
            kind=ENRICH_TEXT,
            item=item.id,
            text=item.text_sha256,
            language=item.declared_language,
            pipeline=PIPELINE_VERSION,
        ),
        bulk=bulk,
    )


@dataclass(frozen=True, slots=True)
class ItemView:
    """An item as its page shows it."""

    item: Item
    enrichments: Sequence[Enrichment]  # the newest of each step, in the order they were found
    jobs: Sequence[Job]  # oldest first


def get_item(actor: Actor, item_id: str) -> ItemView:
    """The item with its enrichments and jobs; raises `ItemNotFound`, the same for a hidden one."""
    if not item_id.isascii() or "\0" in item_id:
        raise ItemNotFound()  # no id: a database would refuse to look for it
    with reading() as session:
        item = session.get(Item, item_id, options=[joinedload(Item.owner)])
        if item is None or not may_read(actor, item):
            raise ItemNotFound()
        found = session.scalars(
            select(Enrichment)
            .where(Enrichment.item_id == item_id)
            .order_by(Enrichment.created_at, Enrichment.id)
        )
        newest = {enrichment.step: enrichment for enrichment in found}
        jobs = session.scalars(
            select(Job)
            .where(Job.item_id == item_id)
            .options(joinedload(Job.owner))
            .order_by(Job.created_at)
        ).all()
    return ItemView(item, list(newest.values()), jobs)


def recent_items(actor: Actor, *, limit: int) -> Sequence[Item]:
    """The newest items that this person may see, without their whole texts' enrichments."""
    with reading() as session:
        return session.scalars(
            select(Item)
            .where(readable_by(actor))
            .options(joinedload(Item.owner))
            .order_by(Item.created_at.desc(), Item.id)
            .limit(limit)
        ).all()


def titles(actor: Actor, item_ids: Sequence[str]) -> dict[str, str]:
    """The titles of those of these items that this person may see."""
    with reading() as session:
        rows = session.execute(
            select(Item.id, Item.title).where(Item.id.in_(item_ids), readable_by(actor))
        )
        return {row.id: row.title for row in rows}


def as_json(view: ItemView) -> dict[str, Any]:
    """The item in the stable form that `bharatverse item --json` prints."""
    item = view.item
    return {
        "id": item.id,
        "title": item.title,
        "text": item.text,
        "language": item.language,
        "visibility": item.visibility.value,
        "enrichments": [
            {
                "step": found.step,
                "value": found.value,
                "language": found.language,
                "provider": found.provider,
                "model": found.model,
                "version": found.version,
                "parameters": found.parameters,
                "seconds": found.seconds,
                "confidence": found.confidence,
                "status": found.status,
                "note": found.note,
            }
            for found in view.enrichments
        ],
        "jobs": [job_as_json(job) for job in view.jobs],
    }
