"""When a failed job is tried again, and how long it waits."""

from __future__ import annotations

import random

from celery.exceptions import SoftTimeLimitExceeded

from shared.errors import BharatVerseError, Unavailable

#: A job that lost so many workers is set aside.
MAX_LOSSES = 3

#: Time does not mend these: what was asked for is wrong, gone, forbidden or too long (that is what
#: our own errors mean, but for `Unavailable`), or the code is wrong. Any other error, such as a
#: full memory or a broken connection, may be gone at the next try.
NEVER_RETRIED: tuple[type[BaseException], ...] = (
    BharatVerseError,
    SoftTimeLimitExceeded,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)

_FIRST_WAIT = 2.0  # seconds
_LONGEST_WAIT = 60.0  # seconds


def is_worth_retrying(error: BaseException) -> bool:
    """Whether time alone may mend it."""
    return isinstance(error, Unavailable) or not isinstance(error, NEVER_RETRIED)


def wait_before(errors: int) -> float:
    """Seconds before the next try after so many errors: doubling, with full jitter above one half.

    The jitter keeps jobs that failed together from coming back together.
    """
    ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**errors)
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
