"""Numbers as people say them."""

from __future__ import annotations

#: Seconds of each unit, the largest first.
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """About how long: "40 s", "3 min", "2 h", "5 d"; "1 s" for less."""
    for size, unit in _UNITS:
        # A unit is used from one and a half of it on: "80 s" tells more than "1 min".
        if seconds >= size * (1.5 if size > 1 else 0):
            return f"{max(1, round(seconds / size))} {unit}"
    return "1 s"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    is_teen = number % 100 in (11, 12, 13)
    return f"{number:,}{'th' if is_teen else endings.get(number % 10, 'th')}"


def counted(number: int, one: str, many: str) -> str:
    """1 item, 2 items."""
    return f"{number:,} {one if number == 1 else many}"
