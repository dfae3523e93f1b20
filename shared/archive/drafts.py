"""What a person is writing, kept as they go: a lost connection costs nothing."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.accounts.policy import Action, Actor, require
from shared.config import get_settings
from shared.database.engine import reading, writing
from shared.database.models import Draft, Visibility
from shared.errors import Invalid


class DraftTooLarge(Invalid):
    """It is too long to be kept; this tab still has it."""

    code = "draft_too_large"


def load_draft(actor: Actor) -> Draft | None:
    """The draft that the person wrote last; None when there is none."""
    with reading() as session:
        return session.scalars(
            select(Draft)
            .where(Draft.user_id == actor.user_id, (Draft.title != "") | (Draft.text != ""))
            .order_by(Draft.saved_at.desc())
            .limit(1)
        ).one_or_none()


def save_draft(
    actor: Actor,
    *,
    submission_key: str,
    title: str,
    text: str,
    language: str | None,
    visibility: Visibility,
) -> None:
    """Keep the draft as it stands, right or wrong; raises `DraftTooLarge`.

    What the database cannot hold (NUL, lone surrogates) is left out of the kept copy only.
    """
    require(actor, Action.CONTRIBUTE)
    assert actor.user_id is not None
    if len(title) + len(text) > get_settings().max_text_bytes:
        raise DraftTooLarge()
    draft = Draft(
        user_id=actor.user_id,
        submission_key=submission_key,
        title=_storable(title),
        text=_storable(text),
        language=language,
        visibility=visibility,
    )
    with writing() as session:
        try:
            with session.begin_nested():
                session.merge(draft)
        except IntegrityError:  # another tab kept the first draft meanwhile
            session.merge(draft)


def discard_draft(session: Session, user_id: str, submission_key: str, *, text: str) -> None:
    """Drop the draft that has become a contribution, in the contribution's own transaction.

    One that holds another text by now, from another tab or device, stays.
    """
    session.execute(
        delete(Draft).where(
            Draft.user_id == user_id,
            Draft.submission_key == submission_key,
            Draft.text == _storable(text),
        )
    )


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "ignore").decode()
