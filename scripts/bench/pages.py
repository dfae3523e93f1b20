"""Area `pages`: Home ready in a warm Chromium, beside a bare page of the same Streamlit."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.archive import Archive, free_ports, server
from bench.contributions import fill
from bench.rows import NotMeasured, Row, median
from shared.config import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Playwright

AIM, MUST = 1.15, 1.5  # times the bare page
ITEMS = 200
_LONGEST_LOAD = 30.0  # seconds

_BARE_APP = 'import streamlit as st\n\nst.write("Ready.")\n'
_HOME_MARK = "h1"
_BARE_MARK = "[data-testid=stMarkdownContainer] p"

#: The milliseconds since the navigation began, once the mark is seen and the script has ended.
_READY = """mark => {
  const app = document.querySelector("[data-testid=stApp]");
  const ready = app?.dataset.testScriptState === "notRunning"
    && document.querySelector(mark)?.checkVisibility();
  return ready ? performance.now() : null;
}"""

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def measure(archive: Archive, *, quick: bool) -> Iterator[Row]:
    """Home with an empty archive and with 200 items, interleaved with the bare page."""
    samples = 3 if quick else 9
    with browsing() as browser:
        archive.fresh()
        with _bare_server() as bare:
            yield _home_row("empty archive", browser, archive.url, bare, samples)
            fill(ITEMS)
            yield _home_row(f"{ITEMS} items", browser, archive.url, bare, samples)


def _home_row(state: str, browser: BrowserContext, home: str, bare: str, samples: int) -> Row:
    visits = [(bare, _BARE_MARK), (home, _HOME_MARK)]
    for address, mark in visits:
        _visit(browser, address, mark)  # warms the browser's and the server's caches
    times: dict[str, list[float]] = {bare: [], home: []}
    for _ in range(samples):
        for address, mark in visits:
            times[address].append(_visit(browser, address, mark))
    return Row(
        name=f"pages: Home, {state}; beside a bare page",
        unit="ms",
        value=median(times[home]),
        reference=median(times[bare]),
        aim=AIM,
        must=MUST,
    )


def _visit(browser: BrowserContext, address: str, mark: str) -> float:
    """Milliseconds until the page is ready, by the browser's own clock, in a new tab."""
    from playwright.sync_api import Error

    page = browser.new_page()
    try:
        page.goto(address, wait_until="commit")
        ready = page.wait_for_function(_READY, arg=mark, timeout=_LONGEST_LOAD * 1000)
        return float(ready.json_value())
    except Error as error:
        raise NotMeasured(f"{address} was not ready in the browser: {error.message}") from error
    finally:
        page.close()


@contextmanager
def _bare_server() -> Iterator[str]:
    """The smallest Streamlit app under `streamlit run` with the archive's config; its address."""
    with TemporaryDirectory(prefix="bharatverse-bare-") as name:
        folder = Path(name)
        (folder / "bare.py").write_text(_BARE_APP, encoding="utf-8")
        shutil.copytree(
            ROOT / ".streamlit", folder / ".streamlit", ignore=lambda *_: ["secrets.toml"]
        )
        (port,) = free_ports(1)
        address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "streamlit", "run", "bare.py"]
        command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
        with server(command, folder=folder, ready=f"{address}/_stcore/health"):
            yield address


@contextmanager
def browsing() -> Iterator[BrowserContext]:
    """A Chromium that keeps what it loaded and reaches this machine only."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise NotMeasured("playwright is not installed; run `make setup`.") from None
    with sync_playwright() as playwright:
        try:
            # Not by playwright's routes, which turn the browser's cache off.
            rules = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
            browser = playwright.chromium.launch(
                executable_path=_chromium(playwright), args=[rules], chromium_sandbox=False
            )
        except Error as error:
            raise NotMeasured(f"Chromium does not start: {error.message}") from error
        with browser, browser.new_context() as context:
            yield context


def _chromium(playwright: Playwright) -> str:
    for program in (*_PROGRAMS, playwright.chromium.executable_path):
        if found := shutil.which(program):
            return found
    raise NotMeasured(
        "there is no Chromium here; install it (Debian: apt install chromium; elsewhere: "
        ".venv/bin/playwright install chromium)."
    )
