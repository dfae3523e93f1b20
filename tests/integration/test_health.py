"""What the archive says of its own parts, and of the services that it keeps warm."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from shared.config import InvalidSetting, Settings
from shared.database.engine import writing
from shared.database.errors import SchemaNewer
from shared.database.schema import migrate
from shared.observability import canary, health, workers
from shared.observability.health import Report, report
from shared.observability.logging import configure_logging
from shared.observability.pings import last_pings, ping_services
from shared.queue import QUEUES
from shared.redis_client import REDIS_ERRORS
from tests.conftest import Archive
from tests.servers import RedisServer, free_port

#: For what does not depend on the kind of database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

Configure = Callable[..., Settings]


def let_a_task_pass_everywhere() -> None:
    for queue in QUEUES:
        canary.note_task_passed(queue)


def wrong(seen: Report) -> dict[str, health.Check]:
    """The checks that are not ok, by name."""
    return {check.name: check for check in seen.checks if not check.ok}


# Readiness


def test_with_everything_there_the_archive_is_ready(archive: Archive) -> None:
    let_a_task_pass_everywhere()

    seen = report()

    assert wrong(seen) == {}
    assert seen.ready
    names = [check["name"] for check in seen.as_json()["checks"]]
    assert names == ["database", "redis", *(f"queue {queue}" for queue in QUEUES), "disk"]
    assert {key for check in seen.as_json()["checks"] for key in check} == {
        "name", "ok", "detail", "remedy"
    }  # fmt: skip


@on_sqlite
def test_a_queue_without_a_recent_task_names_its_worker(archive: Archive) -> None:
    let_a_task_pass_everywhere()
    probe = redis.Redis.from_url(archive.settings.redis_url)
    probe.delete("health:queue:ai")
    probe.set("health:queue:cleanup", time.time() - canary.MAX_AGE - 5)

    seen = wrong(report())

    assert list(seen) == ["queue ai", "queue cleanup"]
    assert seen["queue ai"].detail == "no task has passed"
    assert "worker-ai" in seen["queue ai"].remedy
    assert seen["queue cleanup"].detail.startswith("no task has passed for 6")
    assert "worker-ops" in seen["queue cleanup"].remedy


@on_sqlite
@pytest.mark.parametrize(
    ("queue", "name"),
    [
        ("ai", "worker-ai"),
        ("ai.bulk", "worker-ai"),
        ("speech", "worker-speech"),
        ("analytics", "worker-ops"),
        ("warmup", "worker-ops"),
        ("cleanup", "worker-ops"),
    ],
)
def test_every_queue_needs_evidence_and_names_its_worker(
    archive: Archive, queue: str, name: str
) -> None:
    let_a_task_pass_everywhere()
    redis.Redis.from_url(archive.settings.redis_url).delete(f"health:queue:{queue}")

    seen = wrong(report())

    assert list(seen) == [f"queue {queue}"]
    assert seen[f"queue {queue}"].remedy == f"Start {name}; see its log."


@on_sqlite
def test_a_worker_whose_processes_all_work_for_hours_is_evidence_enough(archive: Archive) -> None:
    let_a_task_pass_everywhere()
    probe = redis.Redis.from_url(archive.settings.redis_url)
    probe.delete("health:queue:speech")

    def says(active: int) -> None:
        workers.publish(
            "worker-speech@a", pid=1, queues=["speech"], processes=1, active=active, done=9
        )

    says(active=1)
    assert report().ready
    probe.pexpire("workers:entry:worker-speech@a", round((workers.EXPIRES - 20) * 1000))
    assert list(wrong(report())) == ["queue speech"], "it fell silent"
    says(active=0)
    assert list(wrong(report())) == ["queue speech"], "it could take the canary, and did not"


@on_sqlite
def test_without_redis_the_report_comes_soon_and_says_what_to_do(
    archive: Archive, redis_server: RedisServer
) -> None:
    redis_server.kill()

    started = time.monotonic()
    seen = wrong(report())

    assert list(seen) == ["redis", *(f"queue {queue}" for queue in QUEUES)]
    assert "REDIS_URL" in seen["redis"].remedy
    assert time.monotonic() - started < 3


def test_what_is_no_redis_is_told_without_its_password(configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_nonsense, args=(listener,), daemon=True).start()
        where = f"127.0.0.1:{listener.getsockname()[1]}/0"
        configure(REDIS_URL=f"redis://:open-sesame@{where}")

        check = health.check_redis()

    assert not check.ok
    assert "REDIS_URL" in check.remedy
    assert where not in check.remedy, "/readyz shows it to everybody"
    assert "sesame" not in str(check)


@pytest.mark.parametrize(
    "rest", ["0?socket_timeout=soon", "0?nonsense=1", "name"], ids=["value", "option", "database"]
)
def test_a_redis_url_that_no_client_understands_stops_the_start(
    configure: Configure, rest: str
) -> None:
    with pytest.raises(InvalidSetting) as invalid:
        configure(REDIS_URL=f"redis://:open-sesame@127.0.0.1/{rest}")

    assert f"REDIS_URL is 'redis://:***@127.0.0.1/{rest}'" in invalid.value.sentence
    assert "must be a URL such as redis://host:6379/0" in invalid.value.sentence


def _answer_nonsense(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_an_embedded_server_that_is_away_names_make_up(configure: Configure) -> None:
    configure(REDIS_PORT=str(free_port()))

    check = health.check_redis()

    assert not check.ok
    assert "`make up` starts the embedded server" in check.remedy


def test_a_database_without_tables_or_from_the_future_says_what_to_do(
    configure: Configure, database_url: str
) -> None:
    configure(DATABASE_URL=database_url)
    missing = health.check_database()
    migrate()
    assert health.check_database().ok
    with writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer = health.check_database()

    assert (missing.ok, newer.ok) == (False, False)
    assert "bharatverse migrate" in missing.remedy
    assert "newer BharatVerse" in newer.detail
    assert "migrate" not in newer.remedy, "that would not help"
    assert "Update" in newer.remedy
    with pytest.raises(SchemaNewer, match="9999"):
        migrate()


def test_a_wrong_database_url_is_told_without_its_password_and_soon(
    configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "notes").write_text("these are notes, and no database\n" * 100)
    for url in [
        "postgresql://me:open-sesame@127.0.0.1:9/name",
        "postgresql://me:open-sesame@no.such.host.invalid/name",
        f"sqlite:///{tmp_path}/no/such/folder/a.sqlite3",
        f"sqlite:///{tmp_path}",
        f"sqlite:///{tmp_path}/notes",
        "postgresql+nodriver://me:open-sesame@h/n",
        "postgresql://me:open-sesame@127.0.0.1:9/name?nonsense=1",
    ]:
        configure(DATABASE_URL=url)

        started = time.monotonic()
        check = health.check_database()

        assert not check.ok, url
        assert "DATABASE_URL" in check.remedy + check.detail, url
        assert "sesame" not in str(check), url
        assert time.monotonic() - started < 5, url


def test_a_home_that_cannot_be_made_is_told(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    configure(BHARATVERSE_HOME=str(tmp_path / "file" / "home"))

    seen = wrong(report())

    assert "BHARATVERSE_HOME" in seen["database"].detail
    assert str(tmp_path / "file" / "home") in seen["database"].detail
    assert "BHARATVERSE_HOME" in seen["disk"].remedy


@on_sqlite
def test_too_little_disk_is_told_with_how_much_is_needed(
    archive: Archive, configure: Configure
) -> None:
    assert health.check_disk().ok
    configure(MIN_FREE_DISK_MB="10000000")

    check = health.check_disk()

    assert not check.ok
    assert f"MB free in {archive.settings.bharatverse_home}" in check.detail
    assert "10000000 MB are needed" in check.remedy


# Pings


class Service(BaseHTTPRequestHandler):
    """Answers with the status that the path names; `/hang` answers when the test is over."""

    over = threading.Event()
    seen: list[str] = []  # noqa: RUF012 - the paths that were asked for, by all its instances

    def do_GET(self) -> None:
        self.seen.append(self.path)
        wanted = self.path.split("?")[0].strip("/")
        if wanted == "hang":
            self.over.wait(30)
            return
        self.send_response(int(wanted))
        self.send_header("Location", "/500")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test looks at our own log."""


@pytest.fixture
def service() -> Iterator[str]:
    """The address of a real HTTP server."""
    Service.over.clear()
    Service.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Service.over.set()
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def ping(configure: Configure, redis_server: RedisServer) -> Configure:
    """Configure the pings; the time-out is short."""

    def set_up(*urls: str, **settings: str) -> Settings:
        return configure(
            REDIS_URL=redis_server.url,
            WARMUP_URLS=" ".join(urls),
            PING_TIMEOUT_SECONDS="0.5",
            **settings,
        )

    return set_up


def test_each_service_answers_for_itself_and_one_that_hangs_holds_up_no_other(
    ping: Configure, service: str
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    ping(f"{service}/200", f"{service}/404", f"{service}/302", f"{service}/500",
         *[f"{service}/hang"] * 4, away)  # fmt: skip

    started = time.monotonic()
    seen = ping_services()
    took = time.monotonic() - started

    assert [(one.ok, one.detail) for one in seen] == [
        (True, "200"), (True, "404"), (True, "302"), (False, "500"),
        *[(False, "ReadTimeout")] * 4, (False, "ConnectionError"),
    ]  # fmt: skip
    assert took < 1.9, "those that hang were waited for one after the other"
    assert seen[-1].service == away
    assert last_pings() == seen
    assert Service.seen.count("/500") == 1, "the redirect was not followed"


def test_no_more_than_max_concurrent_requests_are_on_their_way(
    ping: Configure, service: str
) -> None:
    ping(*[f"{service}/hang"] * 4, MAX_CONCURRENT_REQUESTS="2")

    started = time.monotonic()
    ping_services()

    assert 1.0 <= time.monotonic() - started < 1.9


def test_the_rate_limit_holds_over_all_rounds_of_a_minute(ping: Configure, service: str) -> None:
    ping(f"{service}/200", f"{service}/204", API_CALLS_PER_MINUTE="3")
    if (left := 60 - time.time() % 60) < 3:
        time.sleep(left)  # all three rounds belong into one minute

    rounds = [len(ping_services()) for _ in range(3)]

    assert rounds == [2, 1, 0]
    assert len(Service.seen) == 3
    assert len(last_pings()) == 1, "a round without room changes nothing"


def test_nothing_of_an_address_but_its_host_is_stored_or_logged(
    ping: Configure,
    service: str,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    host = service.removeprefix("http://")
    secret = "open-sesame"
    configure_logging("DEBUG")
    caplog.handler.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(caplog.handler)
    ping(*(f"http://user:{secret}@{host}/{path}?key={secret}" for path in ("200", "500", "hang")))
    try:
        seen = ping_services()
    finally:
        logging.getLogger().removeHandler(caplog.handler)
        configure_logging("WARNING")

    assert {one.service for one in seen} == {service}
    assert any(secret in path for path in Service.seen), "the services themselves are told"
    probe = redis.Redis(port=redis_server.port)
    stored = b"".join(probe.get(key) or b"" for key in probe.keys("health:*"))
    assert service.encode() in stored
    assert secret.encode() not in stored
    logged = caplog.text + "".join(capfd.readouterr())
    assert "ping.failed" in logged
    assert secret not in logged


def test_without_services_nothing_is_asked_and_without_redis_it_is_said(
    ping: Configure, redis_server: RedisServer, service: str
) -> None:
    ping()
    assert ping_services() == []
    assert last_pings() == []

    redis_server.kill()
    ping(f"{service}/200")
    with pytest.raises(REDIS_ERRORS):
        ping_services()
    assert Service.seen == [], "without its count no service may be asked"
