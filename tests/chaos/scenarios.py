"""The list of scenarios, with what each does at length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import beat, crowds, disk, freezing, killing, memory, outages, stopping
from tests.chaos.harness import Result


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One line of the table; some numbers have several."""

    number: int
    title: str
    play: Callable[..., Result]
    long: Mapping[str, Any] = field(default_factory=dict)


SCENARIOS = (
    Scenario(number=1, title="workers and their processes killed",
             play=killing.killed_workers, long={"rounds": 20}),
    Scenario(number=1, title="the same with the default lease",
             play=killing.killed_workers, long={"rounds": 5, "lease": 10.0}),
    Scenario(number=2, title="Redis dies under load, once for good",
             play=outages.redis_dies, long={"rounds": 3}),
    Scenario(number=3, title="the database is away under load",
             play=outages.database_away, long={"rounds": 4}),
    Scenario(number=4, title="frozen past the lease",
             play=freezing.frozen_workers, long={"rounds": 3}),
    Scenario(number=5, title="longer than lease and visibility time-out",
             play=freezing.long_jobs, long={"seconds": 35.0}),
    Scenario(number=6, title="poison", play=killing.poison),
    Scenario(number=7, title="fifty identical submits at once",
             play=crowds.identical_submits, long={"rounds": 10}),
    Scenario(number=8, title="a contribution without Redis",
             play=outages.contribute_without_redis),
    Scenario(number=9, title="beat dead for an hour", play=beat.beat_after_an_hour),
    Scenario(number=10, title="a full disk", play=disk.full_disk),
    Scenario(number=11, title="a worker is stopped amid long work",
             play=stopping.stopped_worker, long={"rounds": 3}),
    Scenario(number=12, title="memory under failing jobs", play=memory.failing_jobs),
    Scenario(number=13, title="fairness beside an import", play=crowds.fairness),
)  # fmt: skip
