"""Who may do what to which item or job.

The only place that decides it: every read and write asks here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy import ColumnElement, false, or_, true

from shared.database.models import Item, Job, Role, Visibility
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
    """What can be asked of the policy without an item or a job."""

    CONTRIBUTE = auto()
    SEE_ALL_JOBS = auto()
    OPERATE = auto()  # pause queues, release what was set aside, see workers and failures
    MANAGE_USERS = auto()


_ROLES = {
    Action.CONTRIBUTE: {Role.CONTRIBUTOR, Role.REVIEWER, Role.ADMIN},
    Action.SEE_ALL_JOBS: {Role.ADMIN},
    Action.OPERATE: {Role.ADMIN},
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


def may_control(actor: Actor, *, owner_id: str) -> bool:
    """Whether this person may see all about this owner's job, stop it and have it done again."""
    if actor.user_id is None:
        return False
    return actor.user_id == owner_id or may(actor, Action.SEE_ALL_JOBS)


def controllable_by(actor: Actor) -> ColumnElement[bool]:
    """`may_control` as a condition on `Job`, so that lists ask the same question."""
    if actor.user_id is None:
        return false()
    if may(actor, Action.SEE_ALL_JOBS):
        return true()
    return Job.owner_id == actor.user_id
