"""The word from a worker to the processes of its pool that it is about to stop.

A page of memory that is shared across the fork holds the moment of the request: signals would
interrupt the work anywhere, even in a commit.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Callable

#: Seconds after the request in which work may still end by itself.
SOFT_TIME = 7.0
#: Seconds after the request when work is handed back, wherever it is.
LAST_MOMENT = 10.0
#: Seconds after the request when the worker ends, whatever its processes do.
LIMIT = 12.0
#: Seconds after the request when a process of the pool ends by itself, because its worker died.
ORPHAN_LIMIT = 13.0
#: Seconds between two looks at the request.
_TICK = 0.5

_MOMENT = struct.Struct("d")
_page = mmap.mmap(-1, mmap.PAGESIZE)  # anonymous: shared with every process forked from here


def ask() -> None:
    """Ask this process and all that are, or will be, forked from it to come to an end."""
    if since() is None:
        _page[: _MOMENT.size] = _MOMENT.pack(time.time())


def since() -> float | None:
    """Seconds since it was asked for; None when it was not."""
    (moment,) = _MOMENT.unpack(_page[: _MOMENT.size])
    return max(0.0, time.time() - moment) if moment else None


def enforce(
    end: Callable[[], None], *, limit: float = LIMIT, asked: Callable[[], bool] = lambda: False
) -> None:
    """Have a thread call `end` so many seconds after the request; returns at once.

    `asked` is looked at, too: whether a stop was asked for in another way than by `ask`.
    """

    def wait() -> None:
        while (passed := since()) is None or passed < limit:
            if passed is None and asked():
                ask()
            time.sleep(_TICK)
        end()

    threading.Thread(target=wait, name="shutdown", daemon=True).start()


def forget() -> None:
    """Take the request back: for tests, which outlive what they stop."""
    _page[: _MOMENT.size] = _MOMENT.pack(0.0)
