"""Signing in and out: server-side sessions behind a random token in a cookie."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import delete, select, update

from shared.accounts.policy import VISITOR, Actor
from shared.accounts.users import InvalidName, actor_for, normalise_name, password_matches
from shared.config import get_settings
from shared.database.engine import reading, writing
from shared.database.models import SignIn, User, utc_now
from shared.errors import BharatVerseError
from shared.observability.logging import get_logger

log = get_logger(__name__)

#: Wrong passwords in a row before an account waits.
FREE_TRIES = 5
_FIRST_LOCK = timedelta(seconds=30)
_LONGEST_LOCK = timedelta(minutes=15)


class WrongPassword(BharatVerseError):
    """The name or the password is not right."""

    code = "wrong_password"


class TooManyTries(BharatVerseError):
    """Too many wrong passwords; wait a little, then try again."""

    code = "too_many_tries"


def sign_in(*, name: str, password: str) -> tuple[str, Actor, bool]:
    """A new session: (token for the cookie, who it is, whether the password must be changed).

    Raises `WrongPassword`, the same for an unknown name, or `TooManyTries` for a known one.
    """
    try:
        wanted = normalise_name(name)
    except InvalidName:
        raise WrongPassword() from None
    now = utc_now()
    with reading() as session:
        user = session.scalars(select(User).where(User.name == wanted)).one_or_none()
    if user is not None and user.locked_until is not None and user.locked_until > now:
        raise TooManyTries()
    # Outside of any transaction, because hashing is slow on purpose; and for unknown names, too,
    # so that the time it takes does not tell them apart.
    right = password_matches(user or User(password_hash=None), password)
    if user is None or not right:
        if user is not None:
            _count_failure(user.id)
        log.info("A sign-in was refused", action="sign_in.refused")
        raise WrongPassword()
    token = secrets.token_urlsafe(32)
    lasts = timedelta(hours=get_settings().session_hours)
    with writing() as session:
        # Not with a password that was changed while this one was checked.
        now_set = session.get_one(User, user.id, with_for_update=True).password_hash
        if now_set != user.password_hash:
            raise WrongPassword()
        session.add(SignIn(token_hash=_hash(token), user_id=user.id, expires_at=now + lasts))
        session.execute(
            update(User).where(User.id == user.id).values(failed_sign_ins=0, locked_until=None)
        )
    return token, actor_for(user), user.must_change_password


def _count_failure(user_id: str) -> None:
    with writing() as session:
        # Read again, and locked, so that guesses at the same time are all counted.
        user = session.get_one(User, user_id, with_for_update=True)
        user.failed_sign_ins += 1
        doublings = user.failed_sign_ins - FREE_TRIES
        if doublings >= 0:
            lock = min(_FIRST_LOCK * 2 ** min(doublings, 10), _LONGEST_LOCK)
            user.locked_until = utc_now() + lock


def actor_of(token: str | None) -> tuple[Actor, bool]:
    """Who holds this cookie, and whether a new password is due; the visitor when nobody does."""
    if not token:
        return VISITOR, False
    query = (
        select(User)
        .join(SignIn)
        .where(SignIn.token_hash == _hash(token), SignIn.expires_at > utc_now())
    )
    with reading() as session:
        user = session.scalars(query).one_or_none()
    return (VISITOR, False) if user is None else (actor_for(user), user.must_change_password)


def sign_out(token: str) -> None:
    """End this session."""
    with writing() as session:
        session.execute(delete(SignIn).where(SignIn.token_hash == _hash(token)))


def forget_expired() -> int:
    """Delete the sessions that have ended; returns how many."""
    with writing() as session:
        gone = session.scalars(
            delete(SignIn).where(SignIn.expires_at <= utc_now()).returning(SignIn.token_hash)
        ).all()
    return len(gone)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
