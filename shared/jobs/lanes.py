"""Lanes: the queues in which jobs wait, so that nobody's work stands behind somebody's thousands.

A lane is a Celery queue, too. Its workers look into the lanes of a queue in alphabetical order, so
an urgent lane is named to come first.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from shared.database.engine import reading, writing
from shared.database.models import Lane
from shared.errors import NotFound

#: A queue's lanes, the urgent one first: single contributions, then imports.
LANES_OF = {"ai": ("ai", "ai.bulk"), "speech": ("speech",)}
#: Every lane.
LANES = tuple(lane for lanes in LANES_OF.values() for lane in lanes)


class UnknownQueue(NotFound):
    """There is no such queue of jobs."""

    code = "unknown_queue"


def lane_of(queue: str, *, bulk: bool) -> str:
    """The lane for a job of this queue; `bulk` when it is one of many."""
    lanes = LANES_OF[queue]
    return lanes[-1] if bulk else lanes[0]


def urgent_lane(lane: str) -> str:
    """The lane of the same queue that goes before this one, or this one."""
    return next(lanes[0] for lanes in LANES_OF.values() if lane in lanes)


def lanes_named(name: str) -> Sequence[str]:
    """The lanes of a queue, or the one lane of that name; raises `UnknownQueue`."""
    if name in LANES_OF:
        return LANES_OF[name]
    if name in LANES:
        return (name,)
    raise UnknownQueue(
        f"There is no queue '{name}' of jobs; the queues are {', '.join(LANES_OF)}, "
        f"and their lanes are {', '.join(LANES)}."
    )


def set_paused(name: str, *, paused: bool) -> Sequence[str]:
    """Stop or start handing out the waiting jobs of a queue or lane; returns the lanes."""
    lanes = lanes_named(name)
    with writing() as session:
        session.execute(update(Lane).where(Lane.name.in_(lanes)).values(paused=paused))
    return lanes


def paused_lanes() -> set[str]:
    """The lanes whose jobs wait until somebody resumes them."""
    with reading() as session:
        return set(session.scalars(select(Lane.name).where(Lane.paused)))
