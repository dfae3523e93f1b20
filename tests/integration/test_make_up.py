"""`make up` in a fresh checkout: what it prints, starts, survives, and finds again."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest
import requests

from shared.queue import QUEUES
from tests.conftest import HINDI, TAMIL
from tests.house import House, copy_checkout
from tests.servers import free_port, wait_until

NAMES = {"redis", "ui", "worker-ai", "worker-speech", "worker-ops", "beat", "flower"}


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    folder = tmp_path / "stories"
    (folder / "deeper").mkdir(parents=True)
    (folder / "diwali.txt").write_text(HINDI, encoding="utf-8")
    (folder / "deeper" / "pongal.md").write_text(f"# பொங்கல்\n\n{TAMIL}", encoding="utf-8")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    return folder


def test_it_says_where_to_look(house: House) -> None:
    assert house.url in house.output
    assert house.flower_url in house.output
    assert str(house.home) in house.output
    assert len(house.first_password()) >= 15


def test_all_processes_run_and_the_archive_is_ready(house: House) -> None:
    assert set(house.processes()) == NAMES

    assert requests.get(f"{house.url}/healthz", timeout=10).status_code == 200
    answer = requests.get(f"{house.url}/readyz", timeout=10)
    assert answer.status_code == 200
    assert {check["name"] for check in answer.json()["checks"]} == {
        "database", "redis", *(f"queue {queue}" for queue in QUEUES), "disk"
    }  # fmt: skip


def test_flower_asks_for_its_password(house: House) -> None:
    password = (house.home / "flower-password").read_text().strip()

    def workers(auth: tuple[str, str] | None) -> requests.Response:
        return requests.get(f"{house.flower_url}/api/workers", auth=auth, timeout=10)

    assert workers(None).status_code == 401
    assert workers(("admin", "wrong")).status_code == 401
    assert workers(("admin", password)).status_code == 200


def test_a_folder_is_imported_and_enriched(house: House, stories: Path) -> None:
    entries = house.json("import", str(stories), "--wait")["items"]

    assert [(entry["title"], entry["language"]) for entry in entries] == [
        ("diwali", "hi"),
        ("பொங்கல்", "ta"),
    ]
    assert all(entry["error"] is None and len(entry["jobs"]) == 1 for entry in entries)
    hindi = house.json("item", entries[0]["id"])
    found = {enrichment["step"]: enrichment for enrichment in hindi["enrichments"]}
    assert set(found) == {
        "language", "script", "keywords", "summary", "themes", "embedding", "sentiment"
    }  # fmt: skip
    assert found["language"]["value"] == "hi"
    assert found["script"]["value"]["script"] == "Deva"
    assert found["summary"]["value"] in HINDI
    assert all(word in HINDI for word in found["keywords"]["value"])
    assert found["sentiment"]["status"] == "unavailable"
    assert all(
        enrichment["provider"] == "local" and enrichment["model"] and enrichment["version"]
        for enrichment in hindi["enrichments"]
    )
    assert [job["state"] for job in hindi["jobs"]] == ["DONE"]
    assert hindi["text"] == HINDI


def test_importing_again_makes_nothing_twice(house: House, stories: Path) -> None:
    first = house.json("import", str(stories))["items"]

    again = house.json("import", str(stories))["items"]

    assert [entry["id"] for entry in again] == [entry["id"] for entry in first]


def test_make_up_while_it_runs_says_so_and_does_no_harm(house: House) -> None:
    before = {name: process.pid for name, process in house.processes().items()}

    again = subprocess.run(
        ["make", "up"],
        cwd=house.folder,
        env=house.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert again.returncode == 0
    assert "already" in again.stdout
    assert house.url in again.stdout
    assert {name: process.pid for name, process in house.processes().items()} == before


def test_what_dies_is_started_again_and_its_job_is_done(house: House, tmp_path: Path) -> None:
    long_story = tmp_path / "long.txt"
    long_story.write_text(f"{HINDI}\n" * 120, encoding="utf-8")
    entry = house.json("import", str(long_story))["items"][0]
    worker = house.processes()["worker-ai"]
    wait_until(lambda: state(house, entry) == "RUNNING", what="the job runs")

    worker.kill()

    wait_until(
        lambda: house.processes().get("worker-ai", worker).pid != worker.pid,
        seconds=30,
        what="the worker is started again",
    )
    wait_until(lambda: state(house, entry) == "DONE", seconds=90, what="the job is done")
    steps = [found["step"] for found in house.json("item", entry["id"])["enrichments"]]
    assert len(steps) == len(set(steps)) == 7


def state(house: House, entry: dict[str, object]) -> str:
    jobs = house.json("jobs")["jobs"]
    return next(job["state"] for job in jobs if job["id"] == entry["jobs"][0])  # type: ignore[index]


def test_ctrl_c_stops_all_and_the_next_start_finds_everything(
    house: House, tmp_path: Path, stories: Path
) -> None:
    """A second house, with the first one's virtualenv, because this test stops it."""
    folder = tmp_path / "bharatverse"
    copy_checkout(folder)
    (folder / ".venv").symlink_to(house.folder / ".venv")
    second = House(folder)
    # The shared virtualenv names the first house's code; both hold the same.
    second.environ["PYTHONPATH"] = str(folder)
    second.environ["BHARATVERSE_HOME"] = str(second.home)
    second.up(seconds=90)
    entry = second.json("import", str(stories / "diwali.txt"), "--wait")["items"][0]
    family = [
        member
        for process in second.processes().values()
        for member in (process, *process.children(recursive=True))
    ]

    second.ctrl_c()

    assert "Stopped." in second.output
    assert "Traceback" not in second.output
    assert not [process for process in family if process.is_running()]

    seconds = second.up(seconds=60)
    try:
        assert second.json("item", entry["id"])["title"] == "diwali"
        assert second.first_password() in second.output
        print(f"second start: {seconds:.1f} s")
    finally:
        second.ctrl_c()


def test_a_port_in_use_is_named_with_its_setting(house: House, tmp_path: Path) -> None:
    environ = house.environ | {
        "BHARATVERSE_HOME": str(tmp_path / "home"),
        "REDIS_PORT": str(free_port()),
        "FLOWER_PORT": str(free_port()),
    }
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environ["UI_PORT"] = str(taken.getsockname()[1])
        answer = subprocess.run(
            ["make", "up"],
            cwd=house.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert answer.returncode != 0
    assert "UI_PORT" in answer.stderr
    assert environ["UI_PORT"] in answer.stderr
    assert "Traceback" not in answer.stderr


def test_doctor_finds_nothing_wrong(house: House) -> None:
    document = json.loads(house.bharatverse("doctor", "--json").stdout)

    assert document["ok"], document
