"""Take the pictures of the README: `python scripts/screenshots.py` writes docs/screenshots/*.png.

It starts an archive of its own, imports `examples/`, and opens the pages in Chromium.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.archive import Archive, own_settings
from bench.pages import browsing
from bench.rows import NotMeasured
from shared.accounts import users
from shared.archive import items
from shared.config import ROOT

TARGET = ROOT / "docs" / "screenshots"
WINDOWS = {"wide": (1200, 860), "narrow": (390, 780)}


def main() -> int:
    """Take them all; returns the exit status."""
    with TemporaryDirectory(prefix="bharatverse-screenshots-") as folder:
        os.environ.update(own_settings(Path(folder) / "home"))
        with Archive() as archive:
            archive.running()
            examples = [sys.executable, "-m", "ui.cli", "import", "examples", "--wait"]
            subprocess.run(examples, cwd=ROOT, check=True)
            shown = next(
                item for item in items.recent_items(users.operator(), limit=10)
                if item.detected_language == "hi"
            )  # fmt: skip
            take({"home": "/", "item": f"/item?id={shown.id}"}, archive.url)
    return 0


def take(pages: dict[str, str], url: str) -> None:
    """Each page in each window, once it stands."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with browsing() as browser:
        for window, (width, height) in WINDOWS.items():
            page = browser.new_page()
            page.set_viewport_size({"width": width, "height": height})
            for name, path in pages.items():
                page.goto(url + path, wait_until="networkidle")
                page.wait_for_selector("h1")
                page.wait_for_timeout(1000)  # until the scripts' fallback fonts are drawn, too
                page.screenshot(path=TARGET / f"{name}-{window}.png")
            page.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NotMeasured as why:
        sys.exit(str(why))
