"""The database's own clock.

Leases are compared by the database, so that workers whose clocks differ agree on who holds a job.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class database_now(FunctionElement[float]):
    """Seconds since 1970 by the database's clock, with fractions."""

    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    # Julian day 2440587.5 is 1970-01-01; unixepoch('subsec') needs SQLite 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    # Not now(), which stands still at the start of the transaction.
    return "extract(epoch from clock_timestamp())::float8"
