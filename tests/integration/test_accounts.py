"""Accounts: the first ones, signing in and out, passwords, and who may make more."""

from __future__ import annotations

import re
import stat
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from shared.accounts import sign_in as sign_ins
from shared.accounts import users
from shared.accounts.policy import VISITOR, NotAllowed
from shared.accounts.sign_in import (
    FREE_TRIES,
    TooManyTries,
    WrongPassword,
    actor_of,
    sign_in,
    sign_out,
)
from shared.accounts.users import (
    InvalidName,
    NameTaken,
    UnknownUser,
    WeakPassword,
    first_admin_file,
    normalise_name,
)
from shared.config import Settings
from shared.database.engine import reading, writing
from shared.database.models import Role, SignIn, User, utc_now
from shared.database.schema import migrate
from shared.errors import Invalid
from tests.conftest import Archive
from tests.servers import RedisServer

#: For what does not depend on the kind of database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

NEW = "a long new password"


def password_of(archive: Archive, name: str) -> str:
    """A password that the account may sign in with."""
    return users.reset_password(archive.admin, name=name)


def user(name: str) -> User:
    with reading() as session:
        return session.scalars(select(User).where(User.name == name)).one()


def fail_to_sign_in(name: str, times: int) -> None:
    for _ in range(times):
        with pytest.raises(WrongPassword):
            sign_in(name=name, password="wrong")


def let_the_lock_end(name: str) -> None:
    with writing() as session:
        session.execute(
            update(User)
            .where(User.name == name)
            .values(locked_until=utc_now() - timedelta(seconds=1))
        )


# The first accounts


def test_a_new_archive_has_an_operator_and_an_admin_and_they_are_made_once(
    archive: Archive,
) -> None:
    assert users.create_first_accounts() is None

    with reading() as session:
        names = session.scalars(select(User.name).where(User.role == Role.ADMIN)).all()
    assert sorted(names) == ["admin", "operator"]
    assert user("admin").must_change_password


@on_sqlite
def test_the_one_time_password_is_for_its_owner_s_eyes_and_goes_when_it_is_changed(
    archive: Archive,
) -> None:
    path = first_admin_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    one_time = path.read_text().strip()
    assert len(one_time) >= 20
    _, actor, must_change = sign_in(name="admin", password=one_time)
    assert must_change

    users.change_password(actor.user_id or "", old=one_time, new=NEW)

    assert not path.exists()
    assert sign_in(name="admin", password=NEW)[2] is False
    with pytest.raises(WrongPassword):
        sign_in(name="admin", password=one_time)


@on_sqlite
def test_a_reset_of_the_first_admin_s_password_leaves_no_file_with_the_old_one(
    archive: Archive,
) -> None:
    users.reset_password(users.operator(), name="admin")

    assert not first_admin_file().exists()


@on_sqlite
def test_another_account_s_new_password_leaves_the_first_admin_s_file_alone(
    archive: Archive,
) -> None:
    old = password_of(archive, "asha")
    users.change_password(archive.contributor.user_id or "", old=old, new=NEW)

    assert first_admin_file().exists()


@on_sqlite
def test_an_archive_without_any_admin_gets_one_again_whatever_file_was_left(
    archive: Archive,
) -> None:
    first_admin_file().chmod(0o644)
    with writing() as session:
        session.execute(text("DELETE FROM users WHERE name = 'admin'"))

    password = users.create_first_accounts()

    assert password == first_admin_file().read_text().strip()
    assert stat.S_IMODE(first_admin_file().stat().st_mode) == 0o600
    assert sign_in(name="admin", password=password or "")[1].role is Role.ADMIN


@on_sqlite
def test_passwords_and_tokens_are_stored_as_hashes_only(archive: Archive) -> None:
    password = password_of(archive, "asha")
    token, _, _ = sign_in(name="asha", password=password)

    with reading() as session:
        stored = str(session.execute(text("SELECT * FROM users")).all())
        stored += str(session.execute(text("SELECT * FROM sign_ins")).all())
    assert stored.count("$argon2id$") == 4
    assert password not in stored
    assert token not in stored


# Signing in


def test_signing_in_gives_a_session_and_signing_out_ends_that_one_only(archive: Archive) -> None:
    password = password_of(archive, "asha")
    one, actor, must_change = sign_in(name=" Asha ", password=password)
    two, _, _ = sign_in(name="asha", password=password)
    assert (actor, must_change) == (archive.contributor, True)
    assert actor_of(one) == actor_of(two) == (archive.contributor, True)

    sign_out(one)
    sign_out("no such token")

    assert actor_of(one) == (VISITOR, False)
    assert actor_of(two)[0] == archive.contributor


@on_sqlite
def test_a_wrong_password_and_an_unknown_name_get_the_same_words(archive: Archive) -> None:
    refusals = set()
    for name in ("asha", "nobody", "no name at all!", "", "\0", "\ud800", "अ" * 100_000):
        with pytest.raises(WrongPassword) as refused:
            sign_in(name=name, password="wrong")
        refusals.add(refused.value.sentence)

    assert refusals == {"The name or the password is not right."}


@on_sqlite
def test_nobody_holds_a_token_that_was_never_given(archive: Archive) -> None:
    for token in (None, "", "x", "é", "0" * 64, "a" * 100_000):
        assert actor_of(token) == (VISITOR, False)


def test_an_expired_session_is_a_visitor_s(archive: Archive) -> None:
    token, _, _ = sign_in(name="asha", password=password_of(archive, "asha"))
    with writing() as session:
        lasts = session.scalars(select(SignIn.expires_at)).one() - utc_now()
        session.execute(update(SignIn).values(expires_at=utc_now() - timedelta(seconds=1)))

    assert actor_of(token) == (VISITOR, False)
    assert abs(lasts - timedelta(hours=archive.settings.session_hours)) < timedelta(minutes=1)
    assert sign_ins.forget_expired() == 1


@on_sqlite
def test_a_role_that_changes_holds_for_sessions_that_go_on(archive: Archive) -> None:
    token, _, _ = sign_in(name="asha", password=password_of(archive, "asha"))

    with writing() as session:
        session.execute(update(User).where(User.name == "asha").values(role=Role.READER))

    assert actor_of(token)[0].role is Role.READER


@on_sqlite
def test_the_operator_cannot_sign_in_and_has_no_password_to_reset(archive: Archive) -> None:
    for password in ("", "operator", "None"):
        with pytest.raises(WrongPassword):
            sign_in(name="operator", password=password)
    with pytest.raises(Invalid, match="cannot sign in"):
        users.reset_password(archive.admin, name="Operator")

    assert users.operator().is_operator
    assert not users.actor_named("operator").is_operator, "a name alone opens nothing"


# Throttling


def test_after_five_wrong_passwords_even_the_right_one_waits(archive: Archive) -> None:
    password = password_of(archive, "asha")

    fail_to_sign_in("asha", FREE_TRIES)

    with pytest.raises(TooManyTries, match="wait a little"):
        sign_in(name="asha", password=password)
    let_the_lock_end("asha")
    assert sign_in(name="asha", password=password)[1] == archive.contributor
    assert (user("asha").failed_sign_ins, user("asha").locked_until) == (0, None)


@on_sqlite
def test_each_further_wrong_password_doubles_the_wait_up_to_a_limit(archive: Archive) -> None:
    waits = []
    with writing() as session:
        session.execute(update(User).values(failed_sign_ins=FREE_TRIES - 1))
    for _ in range(7):
        fail_to_sign_in("asha", 1)
        waits.append(round(((user("asha").locked_until or utc_now()) - utc_now()).total_seconds()))
        let_the_lock_end("asha")

    assert waits == pytest.approx([30, 60, 120, 240, 480, 900, 900], abs=2)


@on_sqlite
def test_four_wrong_passwords_and_the_right_one_begin_the_count_anew(archive: Archive) -> None:
    password = password_of(archive, "asha")

    for _ in range(2):
        fail_to_sign_in("asha", FREE_TRIES - 1)
        assert sign_in(name="asha", password=password)[1] == archive.contributor


def test_wrong_passwords_at_the_same_time_are_all_counted(archive: Archive) -> None:
    password = password_of(archive, "asha")
    gate = threading.Barrier(FREE_TRIES)

    def guess() -> None:
        gate.wait()
        with pytest.raises(WrongPassword):
            sign_in(name="asha", password="wrong")

    threads = [threading.Thread(target=guess) for _ in range(FREE_TRIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with pytest.raises(TooManyTries):
        sign_in(name="asha", password=password)


@on_sqlite
def test_one_account_s_wrong_passwords_hold_up_no_other(archive: Archive) -> None:
    fail_to_sign_in("ravi", FREE_TRIES)

    assert sign_in(name="asha", password=password_of(archive, "asha"))[1] == archive.contributor


# Passwords


def test_a_reset_signs_the_account_out_everywhere_and_ends_the_wait(archive: Archive) -> None:
    old = password_of(archive, "asha")
    tokens = [sign_in(name="asha", password=old)[0] for _ in range(2)]
    bystander, _, _ = sign_in(name="ravi", password=password_of(archive, "ravi"))
    fail_to_sign_in("asha", FREE_TRIES)

    new = users.reset_password(archive.admin, name="asha")

    assert [actor_of(token) for token in tokens] == [(VISITOR, False)] * 2
    assert actor_of(bystander)[0] == archive.other
    assert sign_in(name="asha", password=new)[2], "a one-time password must be changed"


@on_sqlite
def test_a_new_password_of_one_s_own_signs_out_everywhere_and_need_not_be_changed(
    archive: Archive,
) -> None:
    old = password_of(archive, "asha")
    token, actor, _ = sign_in(name="asha", password=old)

    users.change_password(actor.user_id or "", old=old, new=NEW)

    assert actor_of(token) == (VISITOR, False)
    assert sign_in(name="asha", password=NEW)[2] is False


@on_sqlite
def test_a_password_that_will_not_do_changes_nothing(archive: Archive) -> None:
    old = password_of(archive, "asha")
    token, actor, _ = sign_in(name="asha", password=old)
    asha = actor.user_id or ""

    with pytest.raises(Invalid, match="old password is not right"):
        users.change_password(asha, old="wrong", new=NEW)
    with pytest.raises(WeakPassword, match="must differ"):
        users.change_password(asha, old=old, new=old)
    for weak in ("", "nine char", "x" * 201):
        with pytest.raises(WeakPassword, match="10 to 200 characters"):
            users.change_password(asha, old=old, new=weak)

    assert actor_of(token) == (archive.contributor, True)


# Names


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Asha", "asha"),
        ("ＡＳＨＡ", "asha"),
        ("  asha\n", "asha"),
        ("ﬁroz", "firoz"),
        ("STRAßE", "strasse"),
        ("Ame\u0301lie", "amélie"),
        ("आशा_देवी", "आशा_देवी"),
        ("a.b-c_1", "a.b-c_1"),
        ("aa", "aa"),
        ("a" * 64, "a" * 64),
    ],
)
def test_names_that_look_alike_are_one(name: str, kept: str) -> None:
    assert normalise_name(name) == kept
    assert normalise_name(kept) == kept


@pytest.mark.parametrize(
    "name",
    ["", "a", "a" * 65, "ﷺ" * 20, "a b", "a\0b", "a\u202eb", "a\u200db", "\ud800a", "<b>", "a@b"],
)
def test_a_name_that_could_deceive_or_break_something_is_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="2 to 64 letters"):
        normalise_name(name)


def test_a_name_is_taken_in_every_spelling_of_it(archive: Archive) -> None:
    for name in ("asha", "ASHA", "ａｓｈａ"):
        with pytest.raises(NameTaken, match="'asha' already"):
            users.add_user(archive.admin, name=name, role=Role.READER)

    assert user("asha").role is Role.CONTRIBUTOR


@on_sqlite
def test_an_unknown_account_is_named(archive: Archive) -> None:
    with pytest.raises(UnknownUser, match="no account named 'nobody'"):
        users.actor_named("nobody")


# Making accounts


@on_sqlite
def test_only_an_admin_and_the_operator_make_accounts_reset_and_list_them(
    archive: Archive,
) -> None:
    for actor in (archive.contributor, archive.reader, VISITOR):
        with pytest.raises(NotAllowed):
            users.add_user(actor, name="new", role=Role.ADMIN)
        with pytest.raises(NotAllowed):
            users.reset_password(actor, name="admin")
        with pytest.raises(NotAllowed):
            users.list_users(actor)

    password = users.add_user(users.operator(), name="नया", role=Role.REVIEWER)

    assert sign_in(name="नया", password=password)[2]
    listed = [account.name for account in users.list_users(archive.admin)]
    assert listed == ["admin", "asha", "mira", "operator", "ravi", "नया"]


@on_sqlite
def test_nobody_registers_where_the_settings_do_not_allow_it(archive: Archive) -> None:
    with pytest.raises(NotAllowed, match="made by its admins"):
        users.register(name="visitor1", password=NEW)

    with reading() as session:
        assert session.scalar(select(func.count(User.id))) == 5


@on_sqlite
def test_a_visitor_registers_as_a_contributor_where_the_settings_allow_it(
    archive: Archive, configure: Callable[..., Settings]
) -> None:
    configure(SELF_REGISTRATION="true")

    users.register(name="Leela", password=NEW)

    _, actor, must_change = sign_in(name="leela", password=NEW)
    assert (actor.name, actor.role, must_change) == ("leela", Role.CONTRIBUTOR, False)
    for taken in ("operator", "ADMIN", "leela"):
        with pytest.raises(NameTaken):
            users.register(name=taken, password=NEW)
    for weak in ("short", "a-long-name-here"):
        with pytest.raises(WeakPassword):
            users.register(name="A-Long-Name-Here", password=weak)


@on_sqlite
def test_one_time_passwords_differ_and_can_be_typed(archive: Archive) -> None:
    made = {password_of(archive, "asha") for _ in range(3)}

    assert len(made) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{20}", password) for password in made)


def test_two_first_starts_at_once_leave_a_password_that_works(
    configure: Callable[..., Settings], database_url: str, redis_server: RedisServer
) -> None:
    configure(DATABASE_URL=database_url, REDIS_URL=redis_server.url)
    migrate()
    made: list[str | None] = []
    gate = threading.Barrier(4)

    def start() -> None:
        gate.wait()
        made.append(users.create_first_accounts())

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (password,) = [one for one in made if one is not None]
    assert users.first_admin_file().read_text().strip() == password
    assert sign_in(name="admin", password=password)[1].name == "admin"
