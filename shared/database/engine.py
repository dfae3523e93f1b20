"""One pooled engine a process, and the two ways to use it: `reading()` and `writing()`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from shared.config import InvalidSetting, Settings, get_settings, without_password
from shared.database.errors import translate

_WRITING = "bharatverse_writing"

_lock = threading.Lock()
_engine: Engine | None = None
_engine_pid = 0


def engine() -> Engine:
    """This process's engine; made anew after a fork, whose child must not share sockets."""
    global _engine, _engine_pid
    if _engine is None or _engine_pid != os.getpid():
        with _lock:
            if _engine is not None and _engine_pid != os.getpid():
                _engine.dispose(close=False)  # the parent still uses these sockets
                _engine = None
            if _engine is None:
                _engine = make_engine(get_settings())
                _engine_pid = os.getpid()
    return _engine


def dispose() -> None:
    """Close this process's connections; the next use opens new ones."""
    global _engine
    with _lock:
        if _engine is not None:
            _engine.dispose()
        _engine = None


def make_engine(settings: Settings) -> Engine:
    """An engine for these settings; raises `InvalidSetting` when the URL can't be understood."""
    url = settings.sqlalchemy_url
    timeout = settings.database_timeout_seconds
    if url.startswith("sqlite"):
        _make_home(settings)
        options: dict[str, Any] = {
            # check_same_thread: the pool hands a connection to one thread at a time anyway.
            "connect_args": {"timeout": timeout, "check_same_thread": False}
        }
    else:
        milliseconds = int(timeout * 1000)
        options = {
            "pool_pre_ping": True,  # a restarted server costs one ping, not one error page
            "pool_recycle": 1800,  # seconds; below the idle limits of common proxies
            "connect_args": {
                "connect_timeout": max(1, int(timeout)),
                "application_name": "bharatverse",
                # A machine that vanishes, or a process that is frozen, in the middle of a
                # transaction keeps its locks no longer than this.
                "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} "
                f"-c idle_in_transaction_session_timeout={max(10_000, milliseconds)}",
                # A server that vanished is noticed, too.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        }
    try:
        made = create_engine(
            url,
            pool_size=settings.database_pool_size,
            max_overflow=settings.database_max_overflow,
            pool_timeout=timeout,
            hide_parameters=True,  # they are contributed text, and errors end in logs and Flower
            **options,
        )
    except (ArgumentError, ValueError, ImportError) as error:
        raise InvalidSetting(
            f"DATABASE_URL is '{without_password(url)}', but it must be a URL such as "
            "postgresql://user:password@host/name, or nothing (SQLite in BHARATVERSE_HOME)."
        ) from error
    if made.dialect.name == "sqlite":
        event.listen(made, "connect", _on_sqlite_connect)
        event.listen(made, "begin", _on_sqlite_begin)
    return made


def _make_home(settings: Settings) -> None:
    try:
        settings.bharatverse_home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise translate(error) or InvalidSetting(
            f"BHARATVERSE_HOME is '{settings.bharatverse_home}', but this folder cannot be made: "
            f"{error.strerror}."
        ) from error


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours: see _on_sqlite_begin
    milliseconds = int(get_settings().database_timeout_seconds * 1000)
    for pragma in (
        f"busy_timeout={milliseconds}",
        "journal_mode=WAL",  # readers and the one writer do not wait for each other
        "synchronous=FULL",  # what was called saved survives a power cut
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _on_sqlite_begin(connection: Connection) -> None:
    # A writer takes its lock at once: upgrading a read transaction later fails without waiting.
    writing = connection.get_execution_options().get(_WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def reading() -> Iterator[Session]:
    """A session for reads; PostgreSQL refuses writes in it. Objects stay usable afterwards."""
    with _session(postgresql_readonly=True) as session:
        yield session


@contextmanager
def writing() -> Iterator[Session]:
    """A session in ONE transaction: committed at the end, rolled back on any exception."""
    with _session(**{_WRITING: True}) as session:
        yield session
        session.commit()


@contextmanager
def _session(**execution_options: Any) -> Iterator[Session]:
    try:
        with Session(engine(), expire_on_commit=False) as session:
            session.connection(execution_options=execution_options)
            yield session
    except Exception as error:
        known = translate(error)
        if known is None:
            raise
        raise known from error
