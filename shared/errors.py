"""The root of every error that a person may read."""

from __future__ import annotations

import inspect


class BharatVerseError(Exception):
    """Something went wrong in BharatVerse.

    The docstring of a subclass is the sentence shown when none is given; `code` is its short,
    stable name in JSON, in the ledger and in the logs.
    """

    code = "error"

    def __init__(self, sentence: str | None = None) -> None:
        default = (inspect.getdoc(type(self)) or "").split("\n\n")[0].replace("\n", " ")
        super().__init__(sentence or default)

    @property
    def sentence(self) -> str:
        """What a person is told: what is wrong, and what to do about it."""
        return str(self.args[0])


class Invalid(BharatVerseError):
    """What was given is not valid; correct it and try again."""

    code = "invalid"


class NotFound(BharatVerseError):
    """There is nothing here under this address, or you may not see it."""

    code = "not_found"


class Unavailable(BharatVerseError):
    """A part of the archive does not answer just now; try again in a moment."""

    code = "unavailable"
