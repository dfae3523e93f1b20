"""Who may do what to which item. The only place that decides it: every read and write asks here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy import ColumnElement, or_, true

from shared.database.models import Item, Role, Visibility
from shared.errors import BharatVerseError


class NotAllowed(BharatVerseError):
    """Your account may not do this; ask an admin of the archive for the right to."""

    code = "not_allowed"


class SignInNeeded(NotAllowed):
    """You are not signed in, or your sign-in has ended."""

    code = "sign_in_needed"


@dataclass(frozen=True, slots=True)
class Actor:
    """The person, or the program, on whose behalf something happens."""

    user_id: str | None  # None: not signed in
    name: str
    role: Role
    is_operator: bool = False  # runs `bharatverse` on the machine, and so holds all its files


#: A visitor who has not signed in.
VISITOR = Actor(user_id=None, name="visitor", role=Role.READER)


class Action(Enum):
    """What can be asked of the policy without an item."""

    CONTRIBUTE = auto()
    SEE_ALL_JOBS = auto()
    MANAGE_USERS = auto()


_ROLES = {
    Action.CONTRIBUTE: {Role.CONTRIBUTOR, Role.REVIEWER, Role.ADMIN},
    Action.SEE_ALL_JOBS: {Role.ADMIN},
    Action.MANAGE_USERS: {Role.ADMIN},
}


def may(actor: Actor, action: Action) -> bool:
    """Whether this person may do this."""
    return actor.user_id is not None and actor.role in _ROLES[action]


def require(actor: Actor, action: Action) -> None:
    """Raise `NotAllowed` unless this person may do this; `SignInNeeded` says who might."""
    if actor.user_id is None:
        raise SignInNeeded()
    if not may(actor, action):
        raise NotAllowed()


def may_read(actor: Actor, item: Item) -> bool:
    """Whether this person may see this item, its jobs' progress and its enrichments."""
    if actor.is_operator or item.visibility is Visibility.PUBLIC:
        return True
    if actor.user_id is None:
        return False
    return item.visibility is Visibility.MEMBERS or item.owner_id == actor.user_id


def readable_by(actor: Actor) -> ColumnElement[bool]:
    """`may_read` as a condition on `Item`, so that lists ask the same question."""
    if actor.is_operator:
        return true()
    if actor.user_id is None:
        return Item.visibility == Visibility.PUBLIC
    return or_(
        Item.visibility.in_([Visibility.PUBLIC, Visibility.MEMBERS]),
        Item.owner_id == actor.user_id,
    )
