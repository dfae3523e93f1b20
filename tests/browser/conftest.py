"""A real Chromium over the processes that `make up` starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.house import House
from tests.servers import missing

PASSWORD = "lamps on the river"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        missing("Chromium (Debian: apt install chromium)")
    # As root, as in a container, Chromium runs only without its sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, house: House) -> Iterator[BrowserContext]:
    """The first admin, who signed in with the one-time password and chose another."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    page = context.new_page()
    page.goto(f"{house.url}/sign-in")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(house.first_password())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/password")
    page.get_by_label("Current password").fill(house.first_password())
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password again").fill(PASSWORD)
    page.get_by_role("button", name="Change password").click()
    page.get_by_role("heading", name="Recently shared").wait_for()
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(signed_in: BrowserContext) -> Iterator[Page]:
    """A new tab of the signed-in admin."""
    tab = signed_in.new_page()
    yield tab
    tab.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Page]:
    """A narrow window of somebody who has not signed in."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    yield context.new_page()
    context.close()
