"""When a failed job is tried again, and how long it waits."""

from __future__ import annotations

import random

from shared.errors import Unavailable

#: Tries in all, the first one included; also how often a job may lose its worker.
MAX_ATTEMPTS = 3

_FIRST_WAIT = 2.0  # seconds
_LONGEST_WAIT = 60.0  # seconds


def is_worth_retrying(error: BaseException) -> bool:
    """Whether time alone may mend it: something was unavailable, not wrong."""
    return isinstance(error, Unavailable)


def wait_before(attempt: int) -> float:
    """Seconds before the try after `attempt`: doubling, with full jitter above one half.

    The jitter keeps jobs that failed together from coming back together.
    """
    ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**attempt)
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
