"""How long this process waits for its database: in statements, and in fetching their rows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from sqlalchemy import event

from shared.database import engine as database

_CALLS = ("execute", "executemany", "fetchone", "fetchmany", "fetchall")


class Statements:
    """The time since it was made or last forgot; commits are not in it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.count = 0

    def forget(self) -> None:
        """Begin anew."""
        self.seconds, self.count = 0.0, 0

    def _listen(self, _dialect: Any, _record: Any, _arguments: Any, parameters: Any) -> None:
        # The drivers' own cursors are watched: SQLite finds its rows only while they are fetched,
        # after SQLAlchemy's events.
        if database.engine().dialect.name == "sqlite":
            watched = self._watching(sqlite3.Cursor)

            class Connection(sqlite3.Connection):
                def cursor(self, factory: Any = watched) -> Any:
                    return super().cursor(factory)

            parameters["factory"] = Connection
        else:
            from psycopg2.extensions import cursor

            parameters["cursor_factory"] = self._watching(cursor)

    def _watching(self, base: type) -> type:
        calls = {name: self._clocked(getattr(base, name)) for name in _CALLS}
        return type("WatchedCursor", (base,), calls)

    def _clocked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        counts = call.__name__.startswith("execute")

        @wraps(call)
        def clocked(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - began
                self.count += counts

        return clocked


@contextmanager
def watched() -> Iterator[Statements]:
    """Watch this process's database until the end of the `with`."""
    seen = Statements()
    database.dispose()
    event.listen(database.engine(), "do_connect", seen._listen)
    try:
        yield seen
    finally:
        database.dispose()
