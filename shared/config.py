"""Every setting of BharatVerse, with its reason.

Order of precedence: the environment (and a `.env` file, which the environment overrides), then
Streamlit's `secrets.toml`, then the default. An invalid value stops the start with a sentence
that names the setting, the value and what is allowed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from shared.errors import BharatVerseError

ROOT = Path(__file__).resolve().parent.parent  # the checkout: where the Procfile lies


class InvalidSetting(BharatVerseError):
    """A setting has a value that is not allowed."""

    code = "invalid_setting"


@dataclass(frozen=True, slots=True)
class Kind:
    """How the text of a setting becomes a value, and the words for what is allowed."""

    parse: Callable[[str], Any]
    allowed: str


def _integer(low: int, high: int) -> Kind:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a whole number from {low} to {high}")


def _number(low: float, high: float) -> Kind:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a number from {low:g} to {high:g}")


def _parse_switch(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "0": False, "no": False, "off": False}
    try:
        return words[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


def _one_of(*words: str) -> Kind:
    def parse(text: str) -> str:
        if text.strip().upper() not in words:
            raise ValueError(text)
        return text.strip().upper()

    return Kind(parse, "one of " + ", ".join(words))


def _url(*schemes: str, example: str, empty: str) -> Kind:
    def parse(text: str) -> str:
        text = text.strip()
        if text:
            parts = urlsplit(text)
            parts.port  # noqa: B018 - raises ValueError when the port is not a number
            if parts.scheme.split("+")[0] not in schemes:
                raise ValueError(text)
            if not (parts.netloc or parts.path.strip("/")):
                raise ValueError(text)
        return text

    return Kind(parse, f"a URL such as {example}, or nothing ({empty})")


def _redis_url(*, example: str, empty: str) -> Kind:
    url = _url("redis", "rediss", example=example, empty=empty)

    def parse(text: str) -> str:
        text = url.parse(text)
        if text:
            import redis  # only where it is needed: this module is the first that all import

            int(urlsplit(text).path.strip("/") or 0)  # Celery takes numbers only
            try:
                redis.ConnectionPool.from_url(text).make_connection()  # looks at the options only
            except redis.RedisError as error:
                raise ValueError(text) from error
        return text

    return Kind(parse, url.allowed)


def _parse_urls(text: str) -> tuple[str, ...]:
    urls = tuple(word for word in text.replace(",", " ").split() if word)
    for url in urls:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ValueError(text)
    return urls


def _parse_folder(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError(text)
    return Path(text)


def _parse_login(text: str) -> str:
    # Flower compares in constant time, which Python does for ASCII only.
    if not (text.isascii() and text.isprintable()):
        raise ValueError(text)
    return text


def _parse_login_name(text: str) -> str:
    if ":" in text:  # HTTP's basic authentication ends the name there
        raise ValueError(text)
    return _parse_login(text)


_SWITCH = Kind(_parse_switch, "true or false")
_TEXT = Kind(str, "any text")
_URLS = Kind(_parse_urls, "http or https URLs separated by commas, or nothing")
_FOLDER = Kind(_parse_folder, "the path of a folder")
_LOGIN_NAME = Kind(_parse_login_name, "printable ASCII without a colon")
_LOGIN_PASSWORD = Kind(_parse_login, "printable ASCII")
_PORT = _integer(1, 65535)


def setting(default: str, kind: Kind, reason: str, *, toml: str, secret: bool = False) -> Any:
    """A field of `Settings`: its default as text, its kind, why it is there, its secrets path."""
    return field(
        metadata={
            "default": default,
            "kind": kind,
            "reason": reason,
            "toml": toml,
            "secret": secret,
        }
    )


def cores_granted() -> int:
    """Cores this process may use: its CPU affinity, not the host's count."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Settings:
    """One value for every setting; the environment variable is the field's name in capitals."""

    bharatverse_home: Path = setting(
        "./var", _FOLDER, "where the archive's data lies", toml="app.home"
    )
    database_url: str = setting(
        "",
        _url(
            "sqlite", "postgresql", "postgres",
            example="postgresql://user:password@host/name", empty="SQLite in BHARATVERSE_HOME",
        ),
        "the database; empty means SQLite in BHARATVERSE_HOME",
        toml="database.url", secret=True,
    )  # fmt: skip
    redis_url: str = setting(
        "",
        _redis_url(
            example="redis://host:6379/0",
            empty="`make up` starts an embedded server on REDIS_PORT",
        ),
        "broker, results and cache; empty means the embedded server on REDIS_PORT",
        toml="redis.url", secret=True,
    )  # fmt: skip
    redis_port: int = setting(
        "6389", _PORT, "port of the embedded server on 127.0.0.1 (not Redis's own 6379, so that "
        "both can run)", toml="redis.port",
    )  # fmt: skip
    ui_host: str = setting(
        "127.0.0.1", _TEXT, "address the UI listens on; 0.0.0.0 lets others in", toml="app.ui_host"
    )
    ui_port: int = setting("8501", _PORT, "port of the UI", toml="app.ui_port")
    public_url: str = setting(
        "",
        _url("http", "https", example="https://archive.example.org", empty="http, this machine"),
        "how readers reach the UI; https makes the sign-in cookie Secure", toml="app.public_url",
    )  # fmt: skip
    flower_host: str = setting("127.0.0.1", _TEXT, "address Flower listens on", toml="flower.host")
    flower_port: int = setting("5555", _PORT, "port of Flower", toml="flower.port")
    flower_user: str = setting("admin", _LOGIN_NAME, "Flower's sign-in name", toml="flower.user")
    flower_password: str = setting(
        "", _LOGIN_PASSWORD, "Flower's password; empty means one is made and kept in "
        "BHARATVERSE_HOME", toml="flower.password", secret=True,
    )  # fmt: skip
    worker_concurrency: int = setting(
        "0", _integer(0, 256), "processes of the AI worker; 0 means one a core, at most 4, because "
        "each holds its own model", toml="workers.concurrency",
    )  # fmt: skip
    memory_threshold_mb: int = setting(
        "500", _integer(200, 1_000_000), "a worker process above this is replaced after its task; "
        "well above the 250 MB that the local models take", toml="app.memory_threshold_mb",
    )  # fmt: skip
    cleanup_interval_seconds: int = setting(
        "300", _integer(1, 86_400), "how often expired sessions and temporary files are cleaned up",
        toml="app.cleanup_interval_seconds",
    )  # fmt: skip
    enable_caching: bool = setting(
        "true", _SWITCH, "false turns every cache off, to see whether one is to blame",
        toml="app.enable_caching",
    )  # fmt: skip
    redis_ttl_hours: float = setting(
        "24",
        _number(0.001, 8760),
        "no cache entry lives longer than this",
        toml="app.cache_ttl_hours",
    )
    batch_size: int = setting(
        "10", _integer(1, 10_000), "rows of one analytics write, passages of one embedding call",
        toml="app.batch_size",
    )  # fmt: skip
    api_calls_per_minute: int = setting(
        "60", _integer(1, 100_000), "calls to outside services, over all workers together",
        toml="rate_limits.api_calls_per_minute",
    )  # fmt: skip
    max_concurrent_requests: int = setting(
        "5", _integer(1, 1000), "outside calls at the same time in one process",
        toml="rate_limits.max_concurrent_requests",
    )  # fmt: skip
    warmup_urls: tuple[str, ...] = setting(
        "", _URLS, "services to ping so that they stay warm", toml="app.warmup_urls"
    )
    warmup_interval_seconds: int = setting(
        "60",
        _integer(5, 86_400),
        "how often services are pinged",
        toml="app.warmup_interval_seconds",
    )
    analytics_flush_seconds: int = setting(
        "10", _integer(1, 3600), "how often analytics events move from Redis to the database",
        toml="app.analytics_flush_seconds",
    )  # fmt: skip
    max_text_bytes: int = setting(
        "1048576", _integer(1000, 50_000_000), "largest text in UTF-8 bytes: a long book chapter",
        toml="app.max_text_bytes",
    )  # fmt: skip
    self_registration: bool = setting(
        "false", _SWITCH, "true lets visitors make their own contributor account",
        toml="app.self_registration",
    )  # fmt: skip
    session_hours: int = setting(
        "336", _integer(1, 8760), "a sign-in ends after so many hours", toml="app.session_hours"
    )
    database_pool_size: int = setting(
        "5",
        _integer(1, 200),
        "PostgreSQL connections each process keeps",
        toml="database.pool_size",
    )
    database_max_overflow: int = setting(
        "5", _integer(0, 200), "connections a process may open above the pool when busy",
        toml="database.max_overflow",
    )  # fmt: skip
    database_timeout_seconds: float = setting(
        "10", _number(0.1, 600), "longest wait for a connection, a lock or one statement",
        toml="database.timeout_seconds",
    )  # fmt: skip
    redis_timeout_seconds: float = setting(
        "1", _number(0.05, 60), "longest wait for Redis in a page run; a saved job is rung later",
        toml="redis.timeout_seconds",
    )  # fmt: skip
    ping_timeout_seconds: float = setting(
        "5", _number(0.1, 60), "longest wait for a pinged service", toml="app.ping_timeout_seconds"
    )
    task_timeout_seconds: int = setting(
        "900", _integer(10, 86_400), "a job is stopped after this; a text takes seconds",
        toml="workers.task_timeout_seconds",
    )  # fmt: skip
    speech_timeout_seconds: int = setting(
        "14400", _integer(10, 604_800), "a job of the queue speech is stopped after this; a "
        "recording of three hours takes half of that", toml="workers.speech_timeout_seconds",
    )  # fmt: skip
    visibility_timeout_seconds: int = setting(
        "21600", _integer(1, 604_800), "Redis hands a message out again when it is not done after "
        "this; far above the longest job, because the lease requeues the jobs of dead workers "
        "much sooner", toml="redis.visibility_timeout_seconds",
    )  # fmt: skip
    lease_seconds: float = setting(
        "10", _number(1, 3600), "a worker that is silent for so long has lost its job",
        toml="workers.lease_seconds",
    )  # fmt: skip
    result_ttl_seconds: int = setting(
        "3600", _integer(60, 604_800), "how long Redis keeps progress; the ledger is the truth",
        toml="redis.result_ttl_seconds",
    )  # fmt: skip
    min_free_disk_mb: int = setting(
        "200", _integer(1, 10_000_000), "below this the archive calls itself not ready",
        toml="app.min_free_disk_mb",
    )  # fmt: skip
    log_level: str = setting(
        "INFO",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "how much is logged",
        toml="app.log_level",
    )

    @property
    def embedded_redis(self) -> bool:
        """Whether `make up` starts the Redis-compatible server itself."""
        return not self.redis_url

    @property
    def broker_url(self) -> str:
        """Where Redis is: REDIS_URL, or the embedded server."""
        if self.embedded_redis:
            return f"redis://127.0.0.1:{self.redis_port}/0"
        return self.redis_url

    @property
    def sqlalchemy_url(self) -> str:
        """DATABASE_URL with an explicit driver.

        SQLAlchemy 2.1 would otherwise pick another PostgreSQL driver than the pinned one, and it
        does not know the `postgres://` that hosting services hand out.
        """
        if not self.database_url:
            return f"sqlite:///{self.bharatverse_home / 'bharatverse.sqlite3'}"
        scheme, rest = self.database_url.split(":", 1)
        if scheme in {"postgres", "postgresql"}:
            scheme = "postgresql+psycopg2"
        return f"{scheme}:{rest}"

    @property
    def ui_url(self) -> str:
        """Where a person on this machine, or a reader, finds the UI."""
        host = "127.0.0.1" if self.ui_host in {"0.0.0.0", "::", ""} else self.ui_host
        return self.public_url.rstrip("/") or f"http://{host}:{self.ui_port}"

    @property
    def flower_url(self) -> str:
        """Where Flower is on this machine."""
        host = "127.0.0.1" if self.flower_host in {"0.0.0.0", "::", ""} else self.flower_host
        return f"http://{host}:{self.flower_port}"

    @property
    def ai_processes(self) -> int:
        """Processes of the AI worker."""
        return self.worker_concurrency or min(cores_granted(), 4)


def without_password(url: str) -> str:
    """The URL as it may be shown: `redis://user:***@host`.

    It looks at the text only, because what cannot be parsed as a URL may hold a password, too.
    """
    url = re.sub(r"(?i)([?&]\w*password=)[^&]*", r"\1***", url)
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        scheme, rest = "", url
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}{slashes}{user}:***@{host}" if at and colon else url


def load_settings(environ: Mapping[str, str], *, root: Path = ROOT) -> Settings:
    """Read the settings, or raise `InvalidSetting` naming every value that is not allowed."""
    secrets, secrets_file = _read_secrets(root)
    dotenv = {
        key: value for key, value in dotenv_values(root / ".env").items() if value is not None
    }
    values: dict[str, Any] = {}
    complaints = []
    for item in fields(Settings):
        name, kind = item.name.upper(), item.metadata["kind"]
        found = [
            (environ.get(name), "the environment"),
            (dotenv.get(name), ".env"),
            (_look_up(secrets, item.metadata["toml"]), str(secrets_file)),
            (_look_up(secrets, name), str(secrets_file)),
            (item.metadata["default"], "the defaults"),
        ]
        text, source = next((text, source) for text, source in found if text is not None)
        try:
            values[item.name] = kind.parse(text)
        except (ValueError, TypeError):
            complaints.append(
                f"{name} is '{_shown(item, text)}' (from {source}), but it must be {kind.allowed}."
            )
    if complaints:
        raise InvalidSetting(" ".join(complaints))
    home = values["bharatverse_home"].expanduser()
    # A path in a file follows the checkout, so that `bharatverse` finds the same archive from
    # anywhere; one in the environment follows the folder where somebody wrote it.
    base = Path.cwd() if "BHARATVERSE_HOME" in environ else root
    values["bharatverse_home"] = (base / home).resolve()
    return Settings(**values)


def _shown(item: Field[Any], text: str) -> str:
    if not item.metadata["secret"]:
        return text
    return without_password(text) if "url" in item.name else "***"


def _read_secrets(root: Path) -> tuple[dict[str, Any], Path | None]:
    """The first secrets.toml among the places where Streamlit looks, too."""
    for folder in (root, Path.cwd(), Path.home()):
        path = folder / ".streamlit" / "secrets.toml"
        if path.is_file():
            try:
                return tomllib.loads(path.read_text(encoding="utf-8")), path
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise InvalidSetting(f"{path} is not valid TOML: {error}.") from error
    return {}, None


def _look_up(secrets: Mapping[str, Any], path: str) -> str | None:
    """The value under a dotted path as the text that the environment would hold, or None."""
    node: Any = secrets
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    if isinstance(node, list):
        return ",".join(str(part) for part in node)
    return str(node)


@cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings(os.environ)
