"""Every page under AppTest: empty, filled, and with a part of the archive away."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import ui.session
from shared.accounts.policy import VISITOR, Actor
from shared.archive import drafts
from shared.config import ROOT, Settings
from shared.database import engine as database
from shared.database.errors import DatabaseUnavailable
from shared.database.models import Visibility
from tests.conftest import Archive
from tests.servers import RedisServer

PAGES = ["home", "contribute", "jobs", "item"]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    def run(page: str, actor: Actor = VISITOR, **query: str) -> AppTest:
        # AppTest sends no cookies; who looks is all that the cookie decides.
        monkeypatch.setattr(ui.session, "actor_of", lambda _token: (actor, False))
        app = AppTest.from_file(str(ROOT / "ui" / "app.py"), default_timeout=30)
        app.query_params.update(query)
        app.run()
        if page != "home":
            app.switch_page(f"views/{page}.py").run()
        return app

    return run


def words(app: AppTest) -> str:
    kinds = (app.title, app.markdown, app.info, app.warning, app.error, app.caption)
    return " ".join(str(element.value) for kind in kinds for element in kind)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_in_an_empty_archive(
    page: str, archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    for actor in (VISITOR, archive.contributor, archive.admin):
        app = open_page(page, actor)

        assert not app.exception
        assert not app.error
        assert len(app.title) == 1


@pytest.mark.parametrize("page", ["home", "contribute", "jobs"])
def test_every_page_opens_while_redis_is_away(
    page: str, archive: Archive, redis_server: RedisServer, open_page: Callable[..., AppTest]
) -> None:
    archive.contribute()
    redis_server.kill()

    started = time.monotonic()
    app = open_page(page, archive.contributor)

    assert not app.exception
    assert not app.error
    assert time.monotonic() - started < 8  # seconds, on a busy machine; the time-outs are one
    if page == "jobs":
        bars = [bar.proto.text for bar in app.get("progress")]
        assert bars == ["Saved, waiting for the queue. It starts by itself."]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_plainly_that_the_database_is_away(
    page: str,
    configure: Callable[..., Settings],
    tmp_path: Path,
    open_page: Callable[..., AppTest],
    redis_server: RedisServer,
) -> None:
    configure(
        DATABASE_URL=f"sqlite:///{tmp_path}/no/such/folder/x.sqlite3", REDIS_URL=redis_server.url
    )
    database.dispose()

    app = open_page(page)

    assert not app.exception
    if page in ("home", "item"):
        assert "The database does not answer" in words(app)
        assert [button.label for button in app.button] == ["Try again"]


def test_a_hidden_item_and_an_unknown_one_look_the_same(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    private = archive.contribute(visibility=Visibility.PRIVATE).item_id

    assert words(open_page("item", archive.other, id=private)) == words(
        open_page("item", archive.other, id="unknown")
    )


def test_others_jobs_are_not_shown(archive: Archive, open_page: Callable[..., AppTest]) -> None:
    archive.contribute()

    assert "No jobs yet" in words(open_page("jobs", archive.other))
    assert "attempt" in words(open_page("jobs", archive.contributor))
    assert "attempt" in words(open_page("jobs", archive.admin))


def test_contribute_opens_again_after_the_database_was_away(
    archive: Archive, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_actor: Actor) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(drafts, "load_draft", away)
        app = open_page("contribute", archive.contributor)
        assert "The database does not answer" in words(app)

    app.button[0].click().run()
    app.text_input[0].set_value("A title").run()

    assert not app.exception
    assert not app.error
    assert "Draft kept" in words(app)
