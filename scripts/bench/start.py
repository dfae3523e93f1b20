"""Area `start`: seconds from starting up.py to a ready archive."""

from __future__ import annotations

from collections.abc import Iterator

from bench.archive import Archive, Start
from bench.rows import Row, median

AIM, MUST = 8, 15  # seconds on an installed checkout


def measure(archive: Archive, *, quick: bool) -> Iterator[Row]:
    """A start with an empty home, then one with the home that it left."""
    first, second = [], []
    for _ in range(1 if quick else 3):
        archive.wipe()
        first.append(archive.start())
        archive.stop()
        second.append(archive.start())
    yield _row("start: first, empty home", first)
    yield _row("start: second, existing home", second)


def _row(name: str, starts: list[Start]) -> Row:
    early = max(start.ready - start.said_ready for start in starts)
    return Row(
        name=name,
        unit="s",
        value=median([start.ready for start in starts]),
        aim=AIM,
        must=MUST,
        note=f"/readyz said 200 {early:.1f} s too early, by an earlier run's tasks"
        if early > 1
        else "",
    )
