"""The UI on its own, as Streamlit Community Cloud runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from shared.config import Settings
from tests.conftest import Archive
from tests.house import copy_checkout
from tests.servers import free_port, stop_tree, wait_until


@pytest.fixture(scope="module")
def light_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtualenv with nothing but requirements.txt; not even the project itself."""
    folder = tmp_path_factory.mktemp("light") / "venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    install = [*uv, "pip", "install", "--quiet", "--python", python, "-r", "requirements.txt"]
    subprocess.run(install, check=True)
    return python


@pytest.fixture
def ui(light_python: Path, enriching_archive: Archive, tmp_path: Path) -> Iterator[str]:
    """`streamlit run ui/server.py` in a fresh checkout; broker and database come by secrets."""
    settings = enriching_archive.settings
    checkout = tmp_path / "checkout"
    copy_checkout(checkout)
    (checkout / ".streamlit" / "secrets.toml").write_text(
        f"[redis]\nurl = {json.dumps(settings.broker_url)}\n"
        f"[database]\nurl = {json.dumps(settings.sqlalchemy_url)}\n",
        encoding="utf-8",
    )
    ours = {name.upper() for name in Settings.__dataclass_fields__} | {"PYTHONPATH"}
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    port = free_port()
    command = [str(light_python), "-m", "streamlit", "run", "ui/server.py"]
    process = subprocess.Popen(
        [*command, "--server.port", str(port), "--server.address", "127.0.0.1"],
        cwd=checkout,
        env=environ,
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None
        try:
            return requests.get(f"{url}/healthz", timeout=1).ok
        except requests.RequestException:
            return False

    try:
        wait_until(answers, seconds=60, what="the UI answers")
        yield url
    finally:
        stop_tree(process.pid)


def test_the_ui_alone_is_ready_with_workers_elsewhere(ui: str) -> None:
    report = requests.get(f"{ui}/readyz", timeout=10).json()

    checks = {check["name"]: check["ok"] for check in report["checks"]}
    # The test's worker serves two of the queues.
    assert checks == {
        "database": True, "redis": True, "disk": True, "queue ai": True, "queue cleanup": True,
        "queue ai.bulk": False, "queue speech": False, "queue analytics": False,
        "queue warmup": False,
    }  # fmt: skip
    assert requests.get(f"{ui}/sign-in", timeout=10).ok
    assert "BharatVerse" in requests.get(f"{ui}/sign-in", timeout=10).text
    assert requests.get(ui, timeout=10).ok
