"""One contribution, from the hand to the page, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import HINDI, TAMIL
from tests.house import House

pytestmark = pytest.mark.browser

#: Milliseconds: the models load at their first use, on a machine that other tests keep busy.
PATIENCE = 60_000


def contribute(page: Page, house: House, *, title: str, text: str, who: str = "Everyone") -> None:
    page.goto(f"{house.url}/contribute")
    page.get_by_role("textbox", name="Title").fill(title)
    page.get_by_role("textbox", name="Story").fill(text)
    page.get_by_text(who, exact=True).click()
    page.get_by_role("button", name="Contribute").click()
    page.wait_for_url("**/item?id=*")


@pytest.mark.parametrize(
    ("title", "text", "language"),
    [("गंगा के किनारे दीपावली", HINDI, "हिन्दी · Hindi"), ("பொங்கல் திருநாள்", TAMIL, "தமிழ் · Tamil")],
)
def test_a_story_shows_its_progress_and_then_its_result(
    page: Page, house: House, title: str, text: str, language: str
) -> None:
    contribute(page, house, title=title, text=f"{text}\n" * 8)

    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_text(re.compile(r"\d+ of \d+"))).to_be_visible(timeout=PATIENCE)

    expect(page.get_by_text("What the machine found")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("progressbar")).to_have_count(0)
    expect(page.get_by_text(language).first).to_be_visible()
    expect(page.get_by_text("Keywords", exact=True)).to_be_visible()
    expect(page.get_by_text("There is no model for the sentiment of")).to_be_visible()


def test_a_closed_tab_loses_nothing(page: Page, house: House, browser: Browser) -> None:
    contribute(page, house, title="A long story", text=f"{HINDI}\n" * 60)
    expect(page.get_by_text(re.compile(r"\d+ of \d+"))).to_be_visible(timeout=PATIENCE)
    address = page.url
    page.close()

    context = browser.new_context()
    again = context.new_page()
    again.goto(address)

    expect(again.get_by_text(re.compile(r"\d+ of \d+"))).to_be_visible(timeout=PATIENCE)
    expect(again.get_by_text("What the machine found")).to_be_visible(timeout=PATIENCE)
    context.close()


def test_contributed_text_is_never_rendered_as_html_or_markdown(page: Page, house: House) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\"> **not bold** [a](javascript:alert(1))"
    contribute(page, house, title=f"T {hostile}", text=f"S {hostile}")

    expect(page.get_by_role("heading", level=1)).to_have_text(f"T {hostile}")
    expect(page.get_by_text(f"S {hostile}").first).to_be_visible()
    for address in (page.url, house.url, f"{house.url}/jobs"):
        page.goto(address)
        expect(page.get_by_text("not bold").first).to_be_visible()
        assert (
            page.locator("img[src=x], a[href^=javascript], strong:text-is('not bold')").count() == 0
        )
        assert page.title() != "owned"


def test_what_is_wrong_is_said_as_one_types_and_the_draft_stays(page: Page, house: House) -> None:
    page.goto(f"{house.url}/contribute")
    page.get_by_role("textbox", name="Title").fill("A title")
    page.get_by_role("textbox", name="Story").fill("marks: a" + "\u0301" * 100)
    page.keyboard.press("Tab")
    expect(page.get_by_text("stacks more than 20 marks")).to_be_visible()

    page.get_by_role("button", name="Contribute").click()
    expect(page.get_by_text("Not saved: The text stacks")).to_be_visible()

    page.reload()
    expect(page.get_by_role("textbox", name="Title")).to_have_value("A title")
    expect(page.get_by_role("textbox", name="Story")).to_have_value(re.compile("^marks: a"))
    page.get_by_role("textbox", name="Story").fill("All is well now.")
    page.get_by_role("button", name="Contribute").click()
    page.wait_for_url("**/item?id=*")
    page.goto(f"{house.url}/contribute")
    expect(page.get_by_role("textbox", name="Title")).to_have_value("")


def test_an_empty_form_is_refused_with_a_sentence(page: Page, house: House) -> None:
    page.goto(f"{house.url}/contribute")

    page.get_by_role("button", name="Contribute").click()

    expect(page.get_by_text("The title is empty")).to_be_visible()


def test_a_visitor_reads_public_items_and_no_others(
    page: Page, visitor: Page, house: House
) -> None:
    contribute(page, house, title="For everyone", text=HINDI)
    public = page.url
    contribute(page, house, title="For me alone", text=TAMIL, who="Only me")
    private = page.url

    visitor.goto(public)
    expect(visitor.get_by_role("heading", level=1)).to_have_text("For everyone")
    visitor.goto(private)
    expect(visitor.get_by_role("heading", level=1)).to_have_text("Not found")
    visitor.goto(house.url)
    expect(visitor.get_by_text("For everyone").first).to_be_visible()
    expect(visitor.get_by_text("For me alone")).to_have_count(0)


def test_a_visitor_who_wants_to_contribute_is_led_to_sign_in_and_back(
    visitor: Page, page: Page, house: House
) -> None:
    visitor.goto(f"{house.url}/contribute")
    visitor.get_by_text("to go on").get_by_role("link", name="Sign in").click()

    visitor.get_by_label("Name").fill("admin")
    visitor.get_by_label("Password").fill("lamps on the river")
    visitor.get_by_role("button", name="Sign in").click()

    visitor.wait_for_url("**/contribute")
    expect(visitor.get_by_role("textbox", name="Story")).to_be_visible()


def test_signing_out_elsewhere_ends_this_tab_too(
    browser: Browser, page: Page, house: House
) -> None:
    context = browser.new_context()
    tab, other = context.new_page(), context.new_page()
    tab.goto(f"{house.url}/sign-in?next=/contribute")
    tab.get_by_label("Name").fill("admin")
    tab.get_by_label("Password").fill("lamps on the river")
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_role("textbox", name="Title").fill("Too late")
    tab.get_by_role("textbox", name="Story").fill(HINDI)
    tab.keyboard.press("Tab")
    other.goto(f"{house.url}/sign-out")
    other.get_by_role("button", name="Sign out").click()
    other.get_by_role("link", name="Sign in").wait_for()

    tab.get_by_role("button", name="Contribute").click()

    expect(tab.get_by_text("Not saved")).to_be_visible()
    expect(tab.get_by_role("textbox", name="Title")).to_have_value("Too late")
    context.close()


@pytest.mark.parametrize("path", ["/", "/contribute", "/jobs", "/item?id=unknown"])
@pytest.mark.parametrize("width", [1366, 390])
def test_every_page_has_one_h1_fits_its_window_and_asks_no_other_server(
    page: Page, house: House, path: str, width: int
) -> None:
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url))
    page.set_viewport_size({"width": width, "height": 800})

    page.goto(house.url + path)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    page.wait_for_load_state("networkidle")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in foreign if not url.startswith((house.url, "data:", "blob:"))] == []


def test_a_pause_in_writing_keeps_the_draft_without_leaving_the_field(
    page: Page, house: House
) -> None:
    page.goto(f"{house.url}/contribute")
    story = page.get_by_role("textbox", name="Story")
    story.fill("")  # an earlier test may have left a draft
    page.keyboard.type("Long ago in a village")
    expect(page.get_by_text("Draft kept")).to_be_visible()
    page.keyboard.type(" by the river")
    page.wait_for_timeout(3500)  # the pause itself, and a run of the form

    page.reload()

    expect(story).to_have_value("Long ago in a village by the river")
    story.fill("")
    page.keyboard.press("Tab")


def test_two_tabs_with_different_stories_make_two_items(page: Page, house: House) -> None:
    page.goto(f"{house.url}/contribute")
    page.get_by_role("textbox", name="Title").fill("The lamp")
    page.get_by_role("textbox", name="Story").fill("A story about a lamp.")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Draft kept")).to_be_visible()
    other = page.context.new_page()
    other.goto(f"{house.url}/contribute")
    expect(other.get_by_role("textbox", name="Title")).to_have_value("The lamp")
    other.get_by_role("textbox", name="Title").fill("The boat")
    other.get_by_role("textbox", name="Story").fill("A story about a boat.")
    other.keyboard.press("Tab")
    expect(other.get_by_text("Draft kept")).to_be_visible()

    for tab, title in ((page, "The lamp"), (other, "The boat")):
        tab.get_by_role("button", name="Contribute").click()
        tab.wait_for_url("**/item?id=*")
        expect(tab.get_by_role("heading", level=1)).to_have_text(title)

    assert page.url != other.url
    other.close()


def test_a_double_click_makes_one_item_and_ends_on_its_page(page: Page, house: House) -> None:
    page.goto(f"{house.url}/contribute")
    page.get_by_role("textbox", name="Title").fill("Clicked twice")
    page.get_by_role("textbox", name="Story").fill("A story about a nervous finger.")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Draft kept")).to_be_visible()

    page.get_by_role("button", name="Contribute").dblclick()

    page.wait_for_url("**/item?id=*")
    expect(page.get_by_role("heading", level=1)).to_have_text("Clicked twice")
    page.goto(house.url)
    expect(page.get_by_role("link", name="Clicked twice")).to_have_count(1)


def test_a_draft_never_goes_to_another_account(house: House, browser: Browser) -> None:
    """Another account signs in in the same browser, where a draft of the first one is open."""
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{house.url}/sign-in?next=/contribute")
    tab.get_by_label("Name").fill("admin")
    tab.get_by_label("Password").fill("lamps on the river")
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_role("textbox", name="Title").fill("Mine alone")
    tab.keyboard.press("Tab")
    expect(tab.get_by_text("Draft kept")).to_be_visible()
    added = house.bharatverse("users", "add", "ravi", "--role", "contributor").stdout
    one_time = added.split("'")[-2]

    other = context.new_page()
    other.goto(f"{house.url}/sign-out")
    other.get_by_role("button", name="Sign out").click()
    other.goto(f"{house.url}/sign-in")
    other.get_by_label("Name").fill("ravi")
    other.get_by_label("Password").fill(one_time)
    other.get_by_role("button", name="Sign in").click()
    other.get_by_label("Current password").fill(one_time)
    other.get_by_label("New password", exact=True).fill("lamps on the other river")
    other.get_by_label("New password again").fill("lamps on the other river")
    other.get_by_role("button", name="Change password").click()
    other.get_by_role("heading", name="Recently shared").wait_for()
    other.goto(f"{house.url}/contribute")

    expect(other.get_by_role("textbox", name="Title")).to_have_value("")
    context.close()
