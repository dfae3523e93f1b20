"""Where a setting's value comes from, and what is said about one that is not allowed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from shared.config import InvalidSetting, Settings, load_settings, without_password


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, whose secrets and .env no other one can disturb."""
    root, home, elsewhere = tmp_path / "checkout", tmp_path / "home", tmp_path / "elsewhere"
    for folder in (root / ".streamlit", home, elsewhere):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    return root


def write_secrets(root: Path, text: str) -> None:
    (root / ".streamlit" / "secrets.toml").write_text(text, encoding="utf-8")


# Precedence


def test_without_anything_the_defaults_hold(root: Path) -> None:
    settings = load_settings({}, root=root)

    assert settings.batch_size == 10
    assert settings.enable_caching is True
    assert settings.warmup_urls == ()
    assert settings.bharatverse_home == root / "var"


def test_the_environment_goes_before_dotenv_before_secrets_before_the_default(root: Path) -> None:
    write_secrets(root, "[app]\nbatch_size = 20\nmemory_threshold_mb = 600\nsession_hours = 1\n")
    (root / ".env").write_text("BATCH_SIZE=30\nMEMORY_THRESHOLD_MB=700\n")

    settings = load_settings({"BATCH_SIZE": "40"}, root=root)

    assert settings.batch_size == 40
    assert settings.memory_threshold_mb == 700
    assert settings.session_hours == 1
    assert settings.session_hours != load_settings({}, root=root / "nowhere").session_hours


def test_the_guide_s_sections_of_secrets_toml_are_read(root: Path) -> None:
    write_secrets(
        root,
        """
        [redis]
        url = "redis://your-redis-instance"

        [app]
        enable_caching = false
        cache_ttl_hours = 12
        memory_threshold_mb = 512

        [rate_limits]
        api_calls_per_minute = 61
        max_concurrent_requests = 6
        """,
    )

    settings = load_settings({}, root=root)

    assert settings.redis_url == "redis://your-redis-instance"
    assert settings.enable_caching is False
    assert settings.redis_ttl_hours == 12
    assert settings.memory_threshold_mb == 512
    assert settings.api_calls_per_minute == 61
    assert settings.max_concurrent_requests == 6


def test_a_setting_s_own_name_and_a_list_work_in_secrets_toml_too(root: Path) -> None:
    write_secrets(
        root,
        'BATCH_SIZE = 7\n[app]\nwarmup_urls = ["https://a.example/", "https://b.example/"]\n',
    )

    settings = load_settings({}, root=root)

    assert settings.batch_size == 7
    assert settings.warmup_urls == ("https://a.example/", "https://b.example/")


def test_every_setting_says_why_it_is_there() -> None:
    for item in fields(Settings):
        assert len(item.metadata["reason"]) > 8
        assert item.metadata["kind"].allowed
        assert item.metadata["toml"].count(".") == 1


def test_no_two_settings_share_a_place_in_secrets_toml() -> None:
    places = [item.metadata["toml"] for item in fields(Settings)]

    assert len(places) == len(set(places))


# BHARATVERSE_HOME


def test_a_home_written_in_dotenv_is_the_same_from_every_folder(root: Path) -> None:
    (root / ".env").write_text("BHARATVERSE_HOME=data\n")

    assert load_settings({}, root=root).bharatverse_home == root / "data"


def test_a_home_in_the_environment_follows_the_folder_it_was_written_in(root: Path) -> None:
    settings = load_settings({"BHARATVERSE_HOME": "data"}, root=root)

    assert settings.bharatverse_home == Path.cwd() / "data"
    assert Path.cwd() != root


# Values that are not allowed


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("BHARATVERSE_HOME", "", "the path of a folder"),
        ("DATABASE_URL", "mysql://host/name", "postgresql://user:password@host/name"),
        ("DATABASE_URL", "postgresql:", "postgresql://user:password@host/name"),
        ("REDIS_URL", "localhost:6379", "redis://host:6379/0"),
        ("REDIS_URL", "redis://host:port/0", "redis://host:6379/0"),
        ("REDIS_URL", "redis://[broken", "redis://host:6379/0"),
        ("PUBLIC_URL", "archive.example.org", "https://archive.example.org"),
        ("UI_PORT", "0", "a whole number from 1 to 65535"),
        ("UI_PORT", "65536", "a whole number from 1 to 65535"),
        ("FLOWER_PORT", "", "a whole number from 1 to 65535"),
        ("FLOWER_USER", "a:b", "printable ASCII without a colon"),
        ("MEMORY_THRESHOLD_MB", "500MB", "a whole number from 200 to 1000000"),
        ("BATCH_SIZE", "ten", "a whole number from 1 to 10000"),
        ("BATCH_SIZE", "2.5", "a whole number from 1 to 10000"),
        ("REDIS_TTL_HOURS", "0", "a number from 0.001 to 8760"),
        ("REDIS_TTL_HOURS", "nan", "a number from 0.001 to 8760"),
        ("ENABLE_CACHING", "maybe", "true or false"),
        ("WARMUP_URLS", "https://a.example, ftp://b.example", "http or https URLs"),
        ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_an_invalid_value_is_named_with_its_setting_and_what_is_allowed(
    root: Path, name: str, value: str, allowed: str
) -> None:
    with pytest.raises(InvalidSetting) as invalid:
        load_settings({name: value}, root=root)

    assert invalid.value.sentence.startswith(f"{name} is '{value}' (from the environment)")
    assert allowed in invalid.value.sentence


@pytest.mark.parametrize("item", fields(Settings), ids=lambda item: item.name)
def test_every_setting_that_can_be_wrong_names_itself(root: Path, item: object) -> None:
    name, kind = item.name.upper(), item.metadata["kind"]  # type: ignore[attr-defined]
    wrong = "\0 no such: välue ://"
    try:
        kind.parse(wrong)
    except ValueError:
        with pytest.raises(InvalidSetting, match=f"^{name} is '.*must be {kind.allowed[:8]}"):
            load_settings({name: wrong}, root=root)
    else:
        assert kind.allowed == "any text"


def test_all_invalid_values_are_named_at_once(root: Path) -> None:
    (root / ".env").write_text("UI_PORT=x\n")
    write_secrets(root, "[app]\nbatch_size = 0\n")

    with pytest.raises(InvalidSetting) as invalid:
        load_settings({"LOG_LEVEL": "y"}, root=root)

    assert "UI_PORT is 'x' (from .env)" in invalid.value.sentence
    assert "BATCH_SIZE is '0' (from " in invalid.value.sentence
    assert "secrets.toml)" in invalid.value.sentence
    assert "LOG_LEVEL is 'y' (from the environment)" in invalid.value.sentence


def test_broken_toml_names_the_file(root: Path) -> None:
    write_secrets(root, "[app\n")

    with pytest.raises(InvalidSetting, match=r"secrets\.toml is not valid TOML"):
        load_settings({}, root=root)


# Derived values


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@h/n", "postgresql+psycopg2://u:p@h/n"),
        ("postgresql://u:p@h/n?sslmode=require", "postgresql+psycopg2://u:p@h/n?sslmode=require"),
        ("postgresql+psycopg2://u:p@h/n", "postgresql+psycopg2://u:p@h/n"),
        ("sqlite:////data/a.sqlite3", "sqlite:////data/a.sqlite3"),
    ],
)
def test_the_database_url_always_names_the_pinned_driver(
    root: Path, url: str, expected: str
) -> None:
    assert load_settings({"DATABASE_URL": url}, root=root).sqlalchemy_url == expected


def test_without_database_url_sqlite_lies_in_the_home(root: Path) -> None:
    settings = load_settings({"BHARATVERSE_HOME": "/data"}, root=root)

    assert settings.sqlalchemy_url == "sqlite:////data/bharatverse.sqlite3"


def test_without_redis_url_the_embedded_server_is_used(root: Path) -> None:
    embedded = load_settings({"REDIS_PORT": "7000"}, root=root)
    own = load_settings({"REDIS_URL": "rediss://:p@host/1"}, root=root)

    assert (embedded.embedded_redis, embedded.broker_url) == (True, "redis://127.0.0.1:7000/0")
    assert (own.embedded_redis, own.broker_url) == (False, "rediss://:p@host/1")


# Passwords


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("rediss://user:secret@host:6380/0", "rediss://user:***@host:6380/0"),
        ("postgresql://u:se@cret@h/n", "postgresql://u:***@h/n"),
        ("postgresql://u:se/cret#@h/n", "postgresql://u:***@h/n"),
        ("user:secret@host", "user:***@host"),
        ("postgresql://h/n?user=u&password=secret&a=b", "postgresql://h/n?user=u&password=***&a=b"),
        ("redis://:secret@[broken", "redis://:***@[broken"),
        ("sqlite:////home/me@work/a.sqlite3", "sqlite:////home/me@work/a.sqlite3"),
    ],
)
def test_a_password_in_a_url_is_hidden(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://:open-sesame@host:port/0"),
        ("REDIS_URL", "redis://:open-sesame@[broken"),
        ("REDIS_URL", "redis://:open-sesame/x@host/0"),
        ("DATABASE_URL", "mysql://u:open-sesame@h/n"),
        ("DATABASE_URL", "u:open-sesame@h/n"),
        ("FLOWER_PASSWORD", "open-sesamé"),
    ],
)
def test_a_complaint_never_shows_a_password(root: Path, name: str, value: str) -> None:
    with pytest.raises(InvalidSetting) as invalid:
        load_settings({name: value}, root=root)

    assert name in invalid.value.sentence
    assert "sesam" not in invalid.value.sentence
