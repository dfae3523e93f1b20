"""Bring the database's schema up to date, and tell whether it is."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from shared.database.engine import _WRITING, dispose, engine, reading
from shared.database.errors import SchemaMissing, SchemaNewer, translate
from shared.errors import Unavailable
from shared.observability.logging import get_logger

log = get_logger(__name__)

#: The newest migration; a test holds it against the files, so that checking needs no Alembic.
HEAD = "0002"

_TELL_EVERY = 10.0  # seconds
_ADVISORY_LOCK = 0x62686172  # any constant: one migration at a time on PostgreSQL


def migrate() -> str:
    """Run the missing migrations in one transaction; returns the revision.

    Raises `SchemaNewer` when the database knows a migration that this version does not. Safe when
    several processes do it at once: the others wait, then find nothing to do.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    try:
        with engine().connect().execution_options(**{_WRITING: True}) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}
                )
            current = _version(connection)
            if current is not None and current not in known:
                raise SchemaNewer(
                    f"The database was written by a newer BharatVerse (its schema is {current}, "
                    f"this version knows up to {HEAD}); update this one to open it."
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except Exception as error:
        if (sentence := translate(error)) is not None:
            raise sentence from error
        raise
    return HEAD


def check_schema() -> None:
    """Raise `SchemaMissing` or `SchemaNewer` unless the database has exactly this schema."""
    with reading() as session:
        current = _version(session.connection())
    if current is None or current < HEAD:
        raise SchemaMissing()
    if current > HEAD:
        raise SchemaNewer()


def wait_for_schema() -> None:
    """Return when the schema is this version's; meanwhile say every 10 s what is missing.

    Leaves no connection behind, so that a worker may fork afterwards.
    """
    told = -_TELL_EVERY
    while True:
        try:
            check_schema()
            return
        except (SchemaMissing, SchemaNewer, Unavailable) as error:
            if time.monotonic() - told > _TELL_EVERY:
                log.warning("Waiting for the database", action="schema.wait", why=error.sentence)
                told = time.monotonic()
            time.sleep(0.2)
        finally:
            dispose()


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])
