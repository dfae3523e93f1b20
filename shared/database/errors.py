"""What a person is told when the database fails, whichever database it is."""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.config import InvalidSetting
from shared.errors import BharatVerseError, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database does not answer; nothing was changed. Try again in a moment."""

    code = "database_unavailable"


class DatabaseBusy(Unavailable):
    """The database is busy; nothing was changed. Try again in a moment."""

    code = "database_busy"


class NotADatabase(Unavailable):
    """The database's file is damaged, or no database; correct DATABASE_URL or restore a backup."""

    code = "not_a_database"


class StorageFull(Unavailable):
    """The archive's disk is full; nothing was changed. Free some space, then try again."""

    code = "storage_full"


class SchemaMissing(BharatVerseError):
    """The database has no or an older schema; run `bharatverse migrate`."""

    code = "schema_missing"


class SchemaNewer(BharatVerseError):
    """The database was written by a newer BharatVerse; update this one to open it."""

    code = "schema_newer"


def translate(error: Exception) -> BharatVerseError | None:
    """The sentence for a database error, or None when it is a fault in our own code."""
    if isinstance(error, PoolTimeout):
        return DatabaseBusy()
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StorageFull()
    if not isinstance(error, DBAPIError):
        return None
    text = str(error.orig).lower()
    if "disk is full" in text or "no space left" in text or "disk i/o error" in text:
        return StorageFull()
    if "invalid dsn" in text:
        return InvalidSetting("DATABASE_URL has an option that PostgreSQL does not know.")
    code = getattr(error.orig, "pgcode", None)
    if code == "25006":  # read-only: a standby after a failover
        return DatabaseUnavailable()
    if code == "42501":
        return InvalidSetting("The account in DATABASE_URL has no right to the archive's tables.")
    if "no such table" in text or "undefinedtable" in type(error.orig).__name__.lower():
        return SchemaMissing()
    if "locked" in text or "timeout" in text or "too many clients" in text:
        return DatabaseBusy()
    sqlite_code = getattr(error.orig, "sqlite_errorcode", None)
    if sqlite_code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return NotADatabase()
    if sqlite_code == sqlite3.SQLITE_ERROR:
        return None  # wrong SQL: SQLite calls that an operational error, too
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return DatabaseUnavailable()
    return None
