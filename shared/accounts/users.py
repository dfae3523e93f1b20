"""Accounts: making them, their passwords, the first admin and the operator."""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import delete, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.accounts.policy import Action, Actor, NotAllowed, require
from shared.config import InvalidSetting, get_settings
from shared.database.engine import reading, writing
from shared.database.models import Role, SignIn, User
from shared.errors import Invalid, NotFound

MIN_PASSWORD_LENGTH = 10  # characters; length protects better than rules about signs
MAX_PASSWORD_LENGTH = 200  # characters; hashing time grows with it

_OPERATOR = "operator"
_FIRST_ADMIN = "admin"


class InvalidName(Invalid):
    """A name has 2 to 64 letters, digits, dots, dashes or underscores, and no spaces."""

    code = "invalid_name"


class NameTaken(Invalid):
    """There is an account of this name already; choose another name."""

    code = "name_taken"


class WeakPassword(Invalid):
    """A password has 10 to 200 characters and is not the account's name."""

    code = "weak_password"


class UnknownUser(NotFound):
    """There is no account of this name."""

    code = "unknown_user"


def normalise_name(name: str) -> str:
    """The name as it is stored and compared; raises `InvalidName`.

    NFKC and case folding: names that differ in width, capitals or composition only are one.
    """
    folded = unicodedata.normalize("NFKC", name).strip().casefold()
    allowed = all(sign in "._-" or unicodedata.category(sign)[0] in "LNM" for sign in folded)
    if not 2 <= len(folded) <= 64 or not allowed:
        raise InvalidName()
    return folded


def add_user(actor: Actor, *, name: str, role: Role) -> str:
    """Make an account; returns its one-time password. Raises `NotAllowed` or `Invalid`."""
    require(actor, Action.MANAGE_USERS)
    password = _new_password()
    hashed = _hasher().hash(password)
    with writing() as session:
        _insert(session, name=name, role=role, hashed=hashed, must_change=True)
    return password


def register(*, name: str, password: str) -> None:
    """A visitor makes their own contributor account, where the settings allow it."""
    if not get_settings().self_registration:
        raise NotAllowed("This archive's accounts are made by its admins; ask one of them.")
    _check_password(password, normalise_name(name))
    hashed = _hasher().hash(password)
    with writing() as session:
        _insert(session, name=name, role=Role.CONTRIBUTOR, hashed=hashed, must_change=False)


def reset_password(actor: Actor, *, name: str) -> str:
    """A new one-time password; signs the account out everywhere."""
    require(actor, Action.MANAGE_USERS)
    password = _new_password()
    hashed = _hasher().hash(password)
    with writing() as session:
        user = _by_name(session, name)
        if user.name == _OPERATOR:
            raise Invalid("The operator's account has no password: it cannot sign in.")
        _set_password(session, user, hashed, must_change=True)
    if user.name == _FIRST_ADMIN:
        first_admin_file().unlink(missing_ok=True)  # what it holds opens nothing any more
    return password


def change_password(user_id: str, *, old: str, new: str) -> None:
    """The account's own choice of a password; signs it out everywhere else."""
    with reading() as session:
        user = session.get_one(User, user_id)
    # Hashed outside of any transaction: SQLite has one write lock, and hashing is slow on purpose.
    if not password_matches(user, old):
        raise Invalid("The old password is not right.")
    if old == new:
        raise WeakPassword("The new password must differ from the old one.")
    _check_password(new, user.name)
    name, before, hashed = user.name, user.password_hash, _hasher().hash(new)
    with writing() as session:
        user = session.get_one(User, user_id, with_for_update=True)
        if user.password_hash != before:
            raise Invalid("The old password is not right.")
        _set_password(session, user, hashed, must_change=False)
    if name == _FIRST_ADMIN:
        first_admin_file().unlink(missing_ok=True)


def list_users(actor: Actor) -> Sequence[User]:
    """All accounts by name."""
    require(actor, Action.MANAGE_USERS)
    with reading() as session:
        return session.scalars(select(User).order_by(User.name)).all()


def actor_named(name: str) -> Actor:
    """The actor for an account's name; raises `UnknownUser`."""
    with reading() as session:
        return actor_for(_by_name(session, name))


def actor_for(user: User) -> Actor:
    """The account as the policy sees it."""
    return Actor(user_id=user.id, name=user.name, role=user.role)


def operator() -> Actor:
    """Whoever runs `bharatverse` on the machine."""
    with reading() as session:
        user = _by_name(session, _OPERATOR)
    return Actor(user_id=user.id, name=user.name, role=user.role, is_operator=True)


def first_admin_file() -> Path:
    """Holds the first admin's one-time password until it is changed, readable by the owner only."""
    return get_settings().bharatverse_home / "first-admin-password"


def create_first_accounts() -> str | None:
    """Make the operator, and the first admin with a one-time password, where there are none.

    Returns the one-time password when it was just made. It is written to `first_admin_file`
    before the account exists, so that a crash in between cannot lock everybody out.
    """
    with writing() as session:
        if session.get_bind().dialect.name == "postgresql":
            # Two that start at once would else each write a password, and only one would be right.
            session.execute(text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE"))
        if session.scalar(select(User.id).where(User.name == _OPERATOR)) is None:
            session.add(User(name=_OPERATOR, role=Role.ADMIN))
        people = select(User.id).where(User.role == Role.ADMIN, User.name != _OPERATOR).limit(1)
        if session.scalar(people) is not None:
            return None
        password = _new_password()
        _write_first_password(password)
        hashed = _hasher().hash(password)
        _insert(session, name=_FIRST_ADMIN, role=Role.ADMIN, hashed=hashed, must_change=True)
    return password


def _write_first_password(password: str) -> None:
    path = first_admin_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password + "\n")
    except OSError as error:
        raise InvalidSetting(
            f"BHARATVERSE_HOME is '{path.parent}', but nothing can be written there: "
            f"{error.strerror}."
        ) from error


def password_matches(user: User, password: str) -> bool:
    """Whether this is the account's password; takes as long for an account without one."""
    try:
        return _hasher().verify(user.password_hash or _no_password_hash(), password) and (
            user.password_hash is not None
        )
    except (VerifyMismatchError, InvalidHashError):
        return False


@cache
def _hasher() -> PasswordHasher:
    # RFC 9106's second recommendation, with less memory so that ten sign-ins at once fit a laptop.
    return PasswordHasher(time_cost=3, memory_cost=19 * 1024, parallelism=1)


@cache
def _no_password_hash() -> str:
    return _hasher().hash(secrets.token_hex(16))


def _new_password() -> str:
    return secrets.token_urlsafe(15)


def _check_password(password: str, name: str) -> None:
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise WeakPassword()
    if password.casefold() == name:
        raise WeakPassword()


def _by_name(session: Session, name: str) -> User:
    user = session.scalars(select(User).where(User.name == normalise_name(name))).one_or_none()
    if user is None:
        raise UnknownUser(f"There is no account named '{name}'.")
    return user


def _insert(session: Session, *, name: str, role: Role, hashed: str, must_change: bool) -> None:
    user = User(
        name=normalise_name(name),
        role=role,
        password_hash=hashed,
        must_change_password=must_change,
    )
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise NameTaken(f"There is an account named '{user.name}' already.") from None


def _set_password(session: Session, user: User, hashed: str, *, must_change: bool) -> None:
    user.password_hash = hashed
    user.must_change_password = must_change
    user.failed_sign_ins, user.locked_until = 0, None
    session.execute(delete(SignIn).where(SignIn.user_id == user.id))
