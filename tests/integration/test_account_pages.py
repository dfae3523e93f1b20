"""The account pages over real HTTP: what a browser gets, keeps and may be led to."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
import requests
import uvicorn
from starlette.applications import Starlette

from shared.accounts import users
from shared.accounts.policy import VISITOR
from shared.accounts.sign_in import actor_of, sign_in
from shared.config import Settings
from tests.conftest import Archive
from tests.servers import free_port, wait_until
from ui import account_pages
from ui.account_pages import SESSION_COOKIE

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

CSRF_COOKIE = "bharatverse_csrf"
NEW = "a long new password"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the pages are served; who reads them decides the archive that they belong to."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=account_pages.routes), port=port, log_level="error", lifespan="off"
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, what="uvicorn listens")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@dataclass
class Browser:
    """Keeps cookies, follows no redirect, and fills in the form it was shown."""

    address: str
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> requests.Response:
        return self._keep_cookies(
            requests.get(self.address + path, cookies=self.cookies, allow_redirects=False)
        )

    def post(self, path: str, **fields: str) -> requests.Response:
        return self._keep_cookies(
            requests.post(
                self.address + path, data=fields, cookies=self.cookies, allow_redirects=False
            )
        )

    def submit(self, path: str, **fields: str) -> requests.Response:
        """Open the page and send its form, with its hidden fields, to where it says."""
        page = self.get(path).text
        (action,) = re.findall(r'action="([^"]*)"', page)
        (csrf,) = re.findall(r'name="csrf" value="([^"]*)"', page)
        return self.post(action, csrf=csrf, **fields)

    def _keep_cookies(self, answer: requests.Response) -> requests.Response:
        self.cookies |= answer.cookies.get_dict()
        return answer


@pytest.fixture
def browser(archive: Archive, address: str) -> Browser:
    return Browser(address)


@pytest.fixture
def password(archive: Archive) -> str:
    """Asha's password, which she need not change."""
    old = users.reset_password(archive.admin, name="asha")
    users.change_password(archive.contributor.user_id or "", old=old, new="asha's own password")
    return "asha's own password"


def attributes(answer: requests.Response, cookie: str) -> set[str]:
    """The attributes with which the answer sets a cookie, in lower case."""
    (line,) = [
        line for line in answer.raw.headers.getlist("set-cookie") if line.startswith(cookie + "=")
    ]
    return {part.strip().lower() for part in line.split(";")[1:]}


def alert(answer: requests.Response) -> str:
    """The error shown above the form."""
    (words,) = re.findall(r'<p class="error" role="alert">(.*?)</p>', answer.text)
    return str(words)


# Forgery


def test_a_form_that_is_not_ours_changes_nothing(
    browser: Browser, archive: Archive, password: str, configure: Callable[..., Settings]
) -> None:
    configure(SELF_REGISTRATION="true")
    token, _, _ = sign_in(name="asha", password=password)
    fields = {"name": "asha", "password": password, "old": password, "new": NEW, "again": NEW}
    genuine = browser.get("/sign-in").cookies[CSRF_COOKIE]
    attempts: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"csrf": ""}, {CSRF_COOKIE: ""}),
        ({"csrf": genuine}, {}),
        ({}, {CSRF_COOKIE: genuine}),
        ({"csrf": "guessed"}, {CSRF_COOKIE: genuine}),
        ({"csrf": "é"}, {CSRF_COOKIE: genuine}),
    ]

    for path in ("/sign-in", "/sign-out", "/password", "/sign-up"):
        for sent, cookies in attempts:
            browser.cookies = {SESSION_COOKIE: token, **cookies}
            answer = browser.post(path, **fields, **sent)

            assert answer.status_code == 403, (path, sent, cookies)
            assert "out of date" in alert(answer)
            assert SESSION_COOKIE not in answer.cookies

    assert actor_of(token)[0] == archive.contributor
    assert sign_in(name="asha", password=password)[1] == archive.contributor


def test_opening_the_page_for_signing_out_signs_nobody_out(
    browser: Browser, archive: Archive, password: str
) -> None:
    browser.submit("/sign-in", name="asha", password=password)

    assert browser.get("/sign-out").status_code == 200

    assert actor_of(browser.cookies[SESSION_COOKIE])[0] == archive.contributor


# Cookies and headers


def test_the_cookies_are_out_of_reach_for_scripts_and_other_sites(
    browser: Browser, archive: Archive, password: str
) -> None:
    shown = browser.get("/sign-in")
    answer = browser.submit("/sign-in", name="asha", password=password)

    assert {"httponly", "samesite=strict"} <= attributes(shown, CSRF_COOKIE)
    given = attributes(answer, SESSION_COOKIE)
    assert {"httponly", "samesite=lax", "path=/"} <= given
    assert f"max-age={archive.settings.session_hours * 3600}" in given
    assert "secure" not in given | attributes(shown, CSRF_COOKIE), "plain http could not send it"


def test_behind_https_the_cookies_are_secure(
    browser: Browser, password: str, configure: Callable[..., Settings]
) -> None:
    configure(PUBLIC_URL="https://archive.example.org")

    shown = browser.get("/sign-in")
    answer = browser.submit("/sign-in", name="asha", password=password)

    assert "secure" in attributes(shown, CSRF_COOKIE)
    assert "secure" in attributes(answer, SESSION_COOKIE)


def test_no_page_is_stored_framed_or_may_run_scripts(browser: Browser) -> None:
    for path in ("/sign-in", "/sign-out", "/sign-up", "/password"):
        headers = browser.get(path).headers

        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "script-src" not in headers["Content-Security-Policy"]


# Signing in and out


def test_signing_in_leads_on_and_signing_out_ends_it(
    browser: Browser, archive: Archive, password: str
) -> None:
    answer = browser.submit("/sign-in", name="Asha", password=password)
    token = browser.cookies[SESSION_COOKIE]
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert actor_of(token) == (archive.contributor, False)

    answer = browser.submit("/sign-out")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "max-age=0" in attributes(answer, SESSION_COOKIE)
    assert actor_of(token) == (VISITOR, False)


def test_a_wrong_password_is_told_above_the_form_and_sets_no_cookie(browser: Browser) -> None:
    answer = browser.submit("/sign-in", name="<b>asha</b>", password="wrong")

    assert answer.status_code == 400
    assert alert(answer) == "The name or the password is not right."
    assert "<b>asha" not in answer.text
    assert SESSION_COOKIE not in browser.cookies


def test_a_one_time_password_leads_to_a_new_one_whatever_the_address_asked_for(
    browser: Browser, archive: Archive
) -> None:
    one_time = users.reset_password(archive.admin, name="asha")
    answer = browser.submit("/sign-in?next=/contribute", name="asha", password=one_time)
    assert answer.headers["Location"] == "/password"
    first = browser.cookies[SESSION_COOKIE]

    answer = browser.submit("/password", old=one_time, new=NEW, again=NEW)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert actor_of(first) == (VISITOR, False)
    assert actor_of(browser.cookies[SESSION_COOKIE]) == (archive.contributor, False)


def test_a_password_that_will_not_do_is_explained_and_changes_nothing(
    browser: Browser, archive: Archive, password: str
) -> None:
    browser.submit("/sign-in", name="asha", password=password)

    refusals = [
        alert(browser.submit("/password", old=password, new=NEW, again=NEW + "!")),
        alert(browser.submit("/password", old="wrong", new=NEW, again=NEW)),
        alert(browser.submit("/password", old=password, new="short", again="short")),
    ]

    assert "differ" in refusals[0]
    assert "old password is not right" in refusals[1]
    assert "10 to 200 characters" in refusals[2]
    assert actor_of(browser.cookies[SESSION_COOKIE])[0] == archive.contributor


def test_a_visitor_who_wants_to_change_a_password_signs_in_first(browser: Browser) -> None:
    shown = browser.get("/password")
    browser.get("/sign-in")
    sent = browser.post("/password", csrf=browser.cookies[CSRF_COOKIE], old="x", new=NEW, again=NEW)

    for answer in (shown, sent):
        assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=/password")


def test_a_visitor_makes_an_account_only_where_the_settings_allow_it(
    browser: Browser, configure: Callable[..., Settings]
) -> None:
    refused = browser.submit("/sign-up", name="leela", password=NEW)
    assert refused.status_code == 400
    assert "made by its admins" in alert(refused)
    assert "sign-up" not in browser.get("/sign-in").text

    configure(SELF_REGISTRATION="true")
    assert "sign-up" in browser.get("/sign-in").text
    taken = browser.submit("/sign-up", name="ASHA", password=NEW)
    made = browser.submit("/sign-up?next=/contribute", name="Leela", password=NEW)

    assert alert(taken) == "There is an account named &#39;asha&#39; already."
    assert (made.status_code, made.headers["Location"]) == (303, "/contribute")
    assert actor_of(browser.cookies[SESSION_COOKIE])[0].name == "leela"


# Where one is led to, and what is shown


def test_nobody_is_led_to_another_site(browser: Browser, password: str) -> None:
    addresses = [
        "//evil.example", "///evil.example", "https://evil.example", "https:evil.example",
        "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "\t//evil.example",
        "/\n/evil.example", "/x\r\nSet-Cookie: a=b", "javascript:alert(1)", "evil.example",
        "@evil.example", "//[", "http://[", "//evil.example:port/", "", " //evil.example",
    ]  # fmt: skip

    for wanted in addresses:
        path = "/sign-in?" + urlencode({"next": wanted})
        page = browser.get(path)
        answer = browser.post(
            path, csrf=browser.cookies[CSRF_COOKIE], name="asha", password=password
        )

        assert page.status_code == 200, wanted
        assert "evil" not in page.text, wanted
        assert (answer.status_code, answer.headers["Location"]) == (303, "/"), wanted
        assert "a" not in answer.cookies


def test_a_page_of_this_site_is_led_back_to(browser: Browser, password: str) -> None:
    for wanted, location in [
        ("/item?id=1f&b=c", "/item?id=1f&b=c"),
        ("/item?id=कथा", "/item?id=%E0%A4%95%E0%A4%A5%E0%A4%BE"),
        ("/a\x00b<script>", "/a%00b%3Cscript%3E"),
    ]:
        path = "/sign-in?" + urlencode({"next": wanted})

        answer = browser.submit(path, name="asha", password=password)

        assert answer.headers["Location"] == location


def test_whatever_a_request_holds_is_shown_as_text(browser: Browser) -> None:
    browser.cookies = {CSRF_COOKIE: "'><script>alert(1)</script>"}

    answers = [
        browser.get('/sign-in?next=/"><script>alert(1)</script>'),
        browser.post('/sign-in?next=/"><script>alert(1)</script>', name="<script>", password="x"),
    ]

    for answer in answers:
        assert "<script" not in answer.text
        assert "onerror" not in answer.text


# When something is away


def test_without_the_database_every_page_says_so_in_a_sentence(
    browser: Browser, configure: Callable[..., Settings]
) -> None:
    browser.get("/sign-in")
    browser.cookies[SESSION_COOKIE] = "somebody's"
    configure(DATABASE_URL="postgresql://u:open-sesame@127.0.0.1:9/none")

    answers = [
        browser.submit("/sign-in", name="asha", password="x"),
        browser.submit("/sign-out"),
        browser.get("/password"),
        browser.post("/password", csrf=browser.cookies[CSRF_COOKIE]),
    ]

    for answer in answers:
        assert answer.status_code == 503, answer.url
        assert "database does not answer" in alert(answer)
        assert "sesame" not in answer.text
