"""What was measured, what was measured beside it, and the verdict on both."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


class NotMeasured(Exception):
    """Something cannot be measured here; the argument is the sentence that says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with the smallest and the largest sample behind it."""

    value: float
    low: float
    high: float


def median(samples: Sequence[float]) -> Figure:
    """The middle of the samples."""
    return Figure(statistics.median(samples), min(samples), max(samples))


def p95(samples: Sequence[float]) -> Figure:
    """Of the samples, 95 in 100 are not above this; at least two are needed."""
    # "inclusive" never invents a value above the largest sample.
    value = statistics.quantiles(samples, n=20, method="inclusive")[-1]
    return Figure(value, min(samples), max(samples))


def single(value: float) -> Figure:
    """A number that was read once."""
    return Figure(value, value, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    `aim` and `must` are bounds of the ratio to the reference where there is one, else of the
    value: upper bounds, or lower ones where more is better.
    """

    name: str
    unit: str = ""
    value: Figure | None = None  # None: not measured, and `note` says why
    reference: Figure | None = None  # measured beside it in the same run
    aim: float | None = None  # what is hoped for
    must: float | None = None  # beyond this the suite fails
    more_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times the reference the value is."""
        if self.value is None or self.reference is None:
            return None
        return self.value.value / self.reference.value

    @property
    def ok(self) -> bool | None:
        """Whether `must` is kept; None when nothing was measured."""
        if self.value is None:
            return None
        return not self._misses(self.must)

    @property
    def verdict(self) -> str:
        """The row's last cell."""
        if self.value is None:
            return f"not measured: {self.note}"
        if self._misses(self.must):
            word = "MISSED"
        elif self._misses(self.aim):
            word = "aim missed"
        else:
            word = "ok" if (self.aim, self.must) != (None, None) else ""
        return "; ".join(part for part in (word, self.note) if part)

    def as_json(self) -> dict[str, Any]:
        """The row in the stable form of `--json`."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "reference": _rounded(self.reference),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "aim": self.aim,
            "must": self.must,
            "ok": self.ok,
        }

    def _misses(self, bound: float | None) -> bool:
        if bound is None or self.value is None:
            return False
        judged = self.value.value if self.ratio is None else self.ratio
        return judged < bound if self.more_is_better else judged > bound


_HEADINGS = ("measured", "value", "min..max", "reference", "min..max", "ratio", "aim", "must", "")


def table(rows: Iterable[Row]) -> str:
    """The rows as text: names and verdicts to the left, numbers to the right."""
    lines = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = {0, len(_HEADINGS) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    least = ">= " if row.more_is_better else ""
    times = " x" if row.reference is not None else ""
    return (
        row.name,
        "-" if row.value is None else f"{_short(row.value.value)} {row.unit}",
        _spread(row.value),
        "" if row.reference is None else _short(row.reference.value),
        _spread(row.reference),
        "" if row.ratio is None else f"{row.ratio:.2f} x",
        "" if row.aim is None else f"{least}{row.aim:g}{times}",
        "" if row.must is None else f"{least}{row.must:g}{times}",
        row.verdict,
    )


def _spread(figure: Figure | None) -> str:
    if figure is None or figure.low == figure.high:
        return ""
    return f"{_short(figure.low)}..{_short(figure.high)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rounded(figure: Figure | None) -> float | None:
    return None if figure is None else round(figure.value, 3)
