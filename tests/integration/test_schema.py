"""The schema: models, migrations and the constant that names the newest one agree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from shared.config import Settings
from shared.database import schema
from shared.database.engine import engine, reading, writing
from shared.database.errors import SchemaMissing, SchemaNewer
from shared.database.models import Base, Job
from shared.database.schema import check_schema, migrate
from shared.jobs.ledger import IS_UNRUNG


@pytest.fixture(autouse=True)
def database(configure: Callable[..., Settings], database_url: str) -> None:
    """An empty database of each kind, without any table."""
    configure(DATABASE_URL=database_url)


def tables() -> set[str]:
    return set(inspect(engine()).get_table_names())


def migrate_in_new_processes(count: int) -> list[tuple[int, str]]:
    """Exit status and stderr of so many processes that migrate this database at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "from shared.database.schema import migrate; migrate()"],
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        for _ in range(count)
    ]
    errors = [process.communicate()[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def test_head_is_the_newest_migration_and_there_is_only_one_newest() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))

    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_the_migrations_make_exactly_the_tables_of_the_models() -> None:
    migrate()

    with engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)

    assert differences == []
    assert tables() == {*Base.metadata.tables, "alembic_version"}


def test_the_unique_index_on_live_jobs_is_partial_on_every_database() -> None:
    # Autogenerate does not compare the WHERE of an index, and without it no job could run twice.
    migrate()

    (index,) = (
        index
        for index in inspect(engine()).get_indexes("jobs")
        if index["name"] == "uq_jobs_live_content_key"
    )

    dialect = engine().dialect.name
    assert index["unique"]
    assert "QUEUED" in str(index["dialect_options"][f"{dialect}_where"])


def test_migrating_again_changes_nothing() -> None:
    assert migrate() == schema.HEAD
    with writing() as session:
        session.execute(
            text("INSERT INTO analytics_events VALUES ('1', 'kept', '2026-01-01 00:00:00', '{}')")
        )

    assert migrate() == schema.HEAD

    check_schema()
    with reading() as session:
        assert session.scalar(text("SELECT kind FROM analytics_events")) == "kept"


def test_processes_that_migrate_at_once_make_one_schema() -> None:
    ended = migrate_in_new_processes(3)

    assert [status for status, _ in ended] == [0, 0, 0], ended
    check_schema()
    with reading() as session:
        versions = session.scalars(text("SELECT version_num FROM alembic_version"))
        assert versions.all() == [schema.HEAD]


def test_an_empty_database_is_told_apart_with_what_to_do() -> None:
    with pytest.raises(SchemaMissing, match="run `bharatverse migrate`"):
        check_schema()

    migrate()
    check_schema()


def test_a_missing_table_is_told_in_the_same_words_by_whatever_needs_it() -> None:
    with pytest.raises(SchemaMissing), reading() as session:
        session.execute(text("SELECT * FROM items"))


def test_a_database_of_a_newer_version_is_neither_used_nor_touched() -> None:
    migrate()
    with writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaNewer, match="update this one"):
        check_schema()
    with pytest.raises(SchemaNewer, match=r"its schema is 9999.*update this one"):
        migrate()

    with reading() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_a_migration_that_fails_leaves_nothing_half_made() -> None:
    # A table in the way of the last one of the migration.
    with writing() as session:
        session.execute(text("CREATE TABLE enrichments (id INTEGER)"))

    with pytest.raises(Exception, match="enrichments"):
        migrate()
    assert tables() == {"enrichments"}

    with writing() as session:
        session.execute(text("DROP TABLE enrichments"))
    assert migrate() == schema.HEAD
    check_schema()


def test_lanes_come_to_an_archive_of_the_first_version_and_nothing_of_it_is_lost() -> None:
    with engine().connect() as connection:
        to_revision(connection, "0001")
        connection.execute(
            text(
                "INSERT INTO users (id, name, role, must_change_password, failed_sign_ins, "
                "created_at) VALUES ('u', 'asha', 'admin', :no, 0, '2026-01-01 00:00:00')"
            ),
            {"no": False},
        )
        connection.execute(
            text(
                "INSERT INTO items (id, owner_id, submission_key, title, text, text_sha256, "
                "visibility, created_at) VALUES "
                "('i', 'u', 'k', 't', 't', 's', 'public', '2026-01-01 00:00:00')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO jobs (id, kind, queue, owner_id, item_id, content_key, state, "
                "attempt, ring_after, progress_done, progress_total, phase, created_at) VALUES "
                "('j', 'ai.enrich_text', 'ai', 'u', 'i', 'c', 'QUEUED', 0, 1.0, 0, 0, '', "
                "'2026-01-01 00:00:00')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO enrichments (id, item_id, job_id, step, status, value, provider, "
                "model, version, parameters, seconds, created_at) VALUES "
                "('e', 'i', 'j', 'language', 'draft', 'null', 'p', 'm', 'v', '{}', 1.0, "
                "'2026-01-01 00:00:00')"
            )
        )
        connection.commit()

    migrate()

    with reading() as session:
        assert session.scalar(text("SELECT id FROM enrichments")) == "e"
        job = session.get_one(Job, "j")
        assert (job.lane, job.turn, job.rung_at, job.losses) == ("ai", 0, None, 0)
        waiting = session.scalars(select(Job.id).where(IS_UNRUNG, Job.lane == "ai")).all()
    assert waiting == ["j"]


def to_revision(connection: Connection, revision: str) -> None:
    """Bring the database to an earlier version's schema."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()
