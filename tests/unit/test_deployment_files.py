"""The files that describe a deployment agree with each other and with the settings."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.up import STOP_SECONDS, read_procfile
from scripts.write_examples import examples
from shared.config import ROOT
from shared.jobs import shutdown
from shared.queue import QUEUES

WORKERS = {"worker-ai", "worker-speech", "worker-ops"}
SERVICES = {"redis", "postgres", "ui", *WORKERS, "beat", "flower"}
PINS = ("requirements.txt", "requirements-ai.txt", "requirements-dev.txt")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dockerfile() -> list[str]:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()


def stages(dockerfile: list[str]) -> dict[str, list[str]]:
    """Each stage's instructions, preceded by those of the stages it is built from."""
    found: dict[str, list[str]] = {}
    for line in dockerfile:
        if line.startswith("FROM "):
            _, base, _, name = line.split()
            found[name] = [f"FROM {base}", *found.get(base, [])]
        elif found and line and not line.startswith("#"):
            found[name].append(line)
    return found


# docker-compose.yml


def test_compose_has_exactly_the_promised_services(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == SERVICES


def test_compose_publishes_only_the_ui_and_flower(compose: dict[str, Any]) -> None:
    published = {name for name, service in compose["services"].items() if "ports" in service}

    assert published == {"ui", "flower"}
    assert all(service.get("network_mode") != "host" for service in compose["services"].values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_watched_bounded_and_restarted(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]

    assert service["healthcheck"]["test"]
    assert set(service["deploy"]["resources"]["limits"]) == {"memory", "cpus"}
    assert service["restart"] == "unless-stopped"


def test_compose_starts_what_the_procfile_lists(compose: dict[str, Any]) -> None:
    commands = {entry.name: entry.command for entry in read_procfile(ROOT / "Procfile")}
    release = shlex.join(commands.pop("release"))
    server = shlex.join(commands.pop("ui"))

    for name, command in commands.items():
        assert tuple(shlex.split(compose["services"][name]["command"])) == command
    shell = shlex.split(compose["services"]["ui"]["command"])
    assert shell == ["sh", "-c", f"{release} && exec {server}"]


def test_the_workers_listen_to_every_queue_and_each_queue_has_one_kind_of_worker() -> None:
    commands = {entry.name: entry.command for entry in read_procfile(ROOT / "Procfile")}

    listened = [
        queue
        for name in sorted(WORKERS)
        for queue in commands[name][commands[name].index("-Q") + 1].split(",")
    ]

    assert sorted(listened) == sorted(QUEUES)


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_compose_gives_a_worker_the_time_that_it_takes_to_end(
    compose: dict[str, Any], name: str
) -> None:
    grace = int(compose["services"][name]["stop_grace_period"].removesuffix("s"))

    assert grace > STOP_SECONDS > shutdown.LIMIT > shutdown.LAST_MOMENT > shutdown.SOFT_TIME


def test_every_command_in_the_documents_that_starts_an_ai_worker_names_both_lanes() -> None:
    for path in (ROOT / "docs" / "deploy.md", ROOT / "docker-compose.yml", ROOT / "Procfile"):
        text = path.read_text(encoding="utf-8")

        assert re.findall(r"-Q ai\b(?!,ai\.bulk)", text) == [], path.name


def test_compose_holds_no_secret_and_has_no_default_for_one() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    for secret in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"):
        uses = re.findall(r"\$\{" + secret + r"([^}]*)\}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses)


def test_compose_images_have_exact_tags(compose: dict[str, Any]) -> None:
    images = [compose["services"][name]["image"] for name in ("redis", "postgres")]

    assert all(re.search(r":\d+\.\d+-", image) for image in images)


# Dockerfile


@pytest.mark.parametrize("target", ["light", "ai"])
def test_the_images_do_not_run_as_root(dockerfile: list[str], target: str) -> None:
    users = [line for line in stages(dockerfile)[target] if line.startswith("USER ")]

    assert users
    assert users[-1].split()[1] not in {"0", "root"}


def test_the_light_image_has_no_models(dockerfile: list[str]) -> None:
    built = stages(dockerfile)

    assert "COPY --from=packages-light /opt/venv /opt/venv" in built["light"]
    assert "requirements-ai.txt" not in "\n".join(built["packages-light"])
    assert "COPY --from=packages-ai /opt/venv /opt/venv" in built["ai"]


def test_no_data_and_no_secrets_get_into_an_image() -> None:
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert "*" in kept
    assert not {"!.env", "!var", "!.streamlit", "!.streamlit/secrets.toml", "!.git"} & set(kept)


def test_the_workflow_that_publishes_images_pins_its_actions() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["publish"]["steps"]

    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps)
    # YAML 1.1 reads the key `on` as the boolean.
    assert workflow[True] == {"push": {"tags": ["v*"]}}


# Pins and examples


@pytest.mark.parametrize("name", PINS)
def test_every_requirement_is_pinned_exactly(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()

    pins = [line for line in lines if line.strip() and not line.startswith("#")]

    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", pin)] == []


@pytest.mark.parametrize(
    "name", [*PINS, *(f"requirements/{part}.in" for part in ["base", "ai", "dev"])]
)
def test_no_requirements_file_names_a_package_index(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")

    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links", text)


def test_the_sets_agree_on_every_version() -> None:
    versions: dict[tuple[str, str], set[str]] = {}
    for name in PINS:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            pin, _, marker = line.partition(" ; ")
            package, _, version = pin.partition("==")
            versions.setdefault((package, marker), set()).add(version)

    assert {key: found for key, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", examples(), ids=lambda path: path.name)
def test_the_example_files_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == examples()[path], (
        "run: python scripts/write_examples.py"
    )


# Flower


def test_flower_asks_for_a_password_and_keeps_a_bounded_history(tmp_path: Path) -> None:
    # In a process of its own, because Flower's options are global.
    script = (
        "from flower.options import options; "
        "options.parse_config_file('workers/flowerconfig.py'); "
        "print(options.address, options.port, options.basic_auth, options.persistent, "
        "options.max_tasks <= 5000, options.max_workers <= 100)"
    )
    environ = os.environ | {
        "BHARATVERSE_HOME": str(tmp_path),
        "FLOWER_HOST": "127.0.0.1",
        "FLOWER_PORT": "5999",
        "FLOWER_USER": "operator",
        "FLOWER_PASSWORD": "a,b:c",
    }

    output = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert output == "127.0.0.1 5999 ['operator:a,b:c'] False True True\n"


def test_flower_s_password_is_on_no_command_line() -> None:
    for entry in read_procfile(ROOT / "Procfile"):
        assert not any("auth" in word or "password" in word for word in entry.command)
