"""Who may do what: every role, every visibility, every relation to the item."""

from __future__ import annotations

import itertools

import pytest

from shared.accounts.policy import (
    VISITOR,
    Action,
    Actor,
    NotAllowed,
    SignInNeeded,
    may,
    may_control,
    may_read,
    require,
)
from shared.database.models import Item, Role, Visibility

OWNER, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"

#: Relation to the item -> visibilities that it may read, whatever the role.
READS = {
    "owner": {Visibility.PUBLIC, Visibility.MEMBERS, Visibility.PRIVATE},
    "other": {Visibility.PUBLIC, Visibility.MEMBERS},
    "visitor": {Visibility.PUBLIC},
    "operator": {Visibility.PUBLIC, Visibility.MEMBERS, Visibility.PRIVATE},
}

#: Action -> roles of the accounts that may do it.
ACTS = {
    Action.CONTRIBUTE: {Role.CONTRIBUTOR, Role.REVIEWER, Role.ADMIN},
    Action.SEE_ALL_JOBS: {Role.ADMIN},
    Action.OPERATE: {Role.ADMIN},
    Action.MANAGE_USERS: {Role.ADMIN},
}


def actor(relation: str, role: Role) -> Actor:
    """Somebody who stands in this relation to an item of `OWNER`."""
    user_id = {"owner": OWNER, "other": OTHER, "visitor": None, "operator": OTHER}[relation]
    return Actor(user_id=user_id, name=relation, role=role, is_operator=relation == "operator")


@pytest.mark.parametrize(
    ("relation", "role", "visibility"), list(itertools.product(READS, Role, Visibility))
)
def test_who_may_read_depends_on_visibility_and_ownership_and_on_no_role(
    relation: str, role: Role, visibility: Visibility
) -> None:
    item = Item(owner_id=OWNER, visibility=visibility)

    assert may_read(actor(relation, role), item) is (visibility in READS[relation])


@pytest.mark.parametrize(("action", "role"), list(itertools.product(Action, Role)))
def test_what_an_account_may_do_depends_on_its_role(action: Action, role: Role) -> None:
    account, visitor = actor("other", role), actor("visitor", role)

    assert may(account, action) is (role in ACTS[action])
    assert not may(visitor, action)


@pytest.mark.parametrize("action", Action)
def test_a_refusal_says_what_to_do(action: Action) -> None:
    with pytest.raises(NotAllowed, match="ask an admin"):
        require(actor("other", Role.READER), action)
    with pytest.raises(SignInNeeded, match="not signed in"):
        require(VISITOR, action)

    require(actor("other", Role.ADMIN), action)


@pytest.mark.parametrize(("relation", "role"), list(itertools.product(READS, Role)))
def test_a_job_is_controlled_by_its_owner_and_by_admins(relation: str, role: Role) -> None:
    allowed = relation == "owner" or (relation != "visitor" and role is Role.ADMIN)

    assert may_control(actor(relation, role), owner_id=OWNER) is allowed


def test_a_visitor_has_no_account_and_no_power() -> None:
    assert VISITOR.user_id is None
    assert not VISITOR.is_operator
    assert VISITOR.role is Role.READER
