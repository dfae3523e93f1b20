"""The living numbers of the archive, as its first page shows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import func, select

from shared import cache
from shared.accounts.policy import VISITOR, readable_by
from shared.database.engine import reading
from shared.database.models import Item

_KEY = "archive:numbers"
_TTL = 60  # seconds; a contribution refreshes them at once


@dataclass(frozen=True, slots=True)
class Numbers:
    """What everyone may see of the archive, counted."""

    items: int
    languages: int
    contributors: int


def archive_numbers() -> Numbers:
    """The numbers over public items, at most a minute old."""
    return Numbers(**cache.get_or_compute(_KEY, _TTL, lambda: asdict(_count())))


def forget() -> None:
    """Have them counted anew at the next look."""
    cache.forget(_KEY)


def _count() -> Numbers:
    language = func.coalesce(Item.declared_language, Item.detected_language)
    query = select(
        func.count(Item.id),
        func.count(language.distinct()),
        func.count(Item.owner_id.distinct()),
    ).where(readable_by(VISITOR))
    with reading() as session:
        return Numbers(*session.execute(query).one())
