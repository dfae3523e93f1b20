"""`readable_by` in SQL and `may_read` in Python are one policy."""

from __future__ import annotations

import itertools

from sqlalchemy import select

from shared.accounts.policy import VISITOR, Actor, may_read, readable_by
from shared.database.engine import reading, writing
from shared.database.models import Item, Role, User, Visibility, new_id
from tests.conftest import Archive


def test_lists_and_single_items_agree_for_everyone_about_everything(archive: Archive) -> None:
    # One account of each role, each with one item of each visibility.
    with writing() as session:
        accounts = [User(id=new_id(), name=f"the-{role.value}", role=role) for role in Role]
        session.add_all(accounts)
        session.flush()
        for owner, visibility in itertools.product(accounts, Visibility):
            session.add(
                Item(
                    owner_id=owner.id,
                    title=f"{owner.name} {visibility.value}",
                    text="कथा",
                    text_sha256="0" * 64,
                    visibility=visibility,
                )
            )
    people = [Actor(user_id=user.id, name=user.name, role=user.role) for user in accounts]
    operator = Actor(user_id=new_id(), name="operator", role=Role.ADMIN, is_operator=True)

    seen = {}
    with reading() as session:
        items = session.scalars(select(Item)).all()
        assert len(items) == len(Role) * len(Visibility)
        for actor in (*people, operator, VISITOR):
            listed = set(session.scalars(select(Item.title).where(readable_by(actor))))
            assert listed == {item.title for item in items if may_read(actor, item)}, actor.name
            seen[actor.name] = len(listed)

    # Guards against two wrongs that agree: everything public and for members, and one's own.
    assert seen == {**{person.name: 9 for person in people}, "operator": 12, "visitor": 4}
