"""Every page under AppTest: empty, filled, and with a part of the archive away."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

import ui.session
from shared.accounts.policy import VISITOR, Actor
from shared.archive import drafts
from shared.config import ROOT, Settings
from shared.database import engine as database
from shared.database.engine import reading, writing
from shared.database.errors import DatabaseUnavailable
from shared.database.models import Job, JobState, Visibility, utc_now
from shared.jobs import ledger, view
from shared.jobs.lanes import paused_lanes
from shared.observability import workers
from tests.conftest import Archive
from tests.servers import RedisServer

PAGES = ["home", "contribute", "jobs", "item", "operations"]


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


@pytest.mark.parametrize("page", ["home", "contribute", "jobs", "operations"])
def test_every_page_opens_while_redis_is_away(
    page: str, archive: Archive, redis_server: RedisServer, open_page: Callable[..., AppTest]
) -> None:
    archive.contribute()
    redis_server.kill()

    started = time.monotonic()
    app = open_page(page, archive.admin if page == "operations" else archive.contributor)

    assert not app.exception
    assert not app.error
    assert time.monotonic() - started < 8  # seconds, on a busy machine; the time-outs are one
    if page == "jobs":
        bars = [bar.proto.text for bar in app.get("progress")]
        assert bars == ["Saved, waiting for the queue. It starts by itself."]
    if page == "operations":
        assert "Redis is away" in words(app)
        assert "1 waiting · 0 running" in words(app)


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
    assert "Reading a story" in words(open_page("jobs", archive.contributor))
    assert "Reading a story" in words(open_page("jobs", archive.admin))


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


# Jobs


def job(job_id: str) -> Job:
    with reading() as session:
        return session.get_one(Job, job_id)


def fail(job_id: str, *, sentence: str = "It broke.") -> None:
    held = ledger.claim(job_id, worker="w")
    assert held is not None
    with writing() as session:
        ledger.fail(session, held, code="broken", sentence=sentence)


def set_aside(job_id: str) -> None:
    for _ in range(3):
        assert ledger.claim(job_id, worker="w") is not None
        with writing() as session:
            ledger.lose(session, Job.id == job_id, reason="Its worker died.")


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def bars(app: AppTest) -> list[str]:
    return [bar.proto.text for bar in app.get("progress")]


def toasts(app: AppTest) -> list[str]:
    return [toast.value for toast in app.toast]


@pytest.mark.parametrize("page", ["jobs", "item"])
def test_the_owner_cancels_and_retries_on_the_page(
    page: str, archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    made = archive.contribute()
    (job_id,) = made.job_ids

    app = open_page(page, archive.contributor, id=made.item_id)
    assert bars(app) == ["Waiting for a worker · 1st in the queue"]
    app.button(f"cancel-{job_id}").click().run()

    assert not app.exception
    assert job(job_id).state is JobState.CANCELLED
    assert labels(app) == ["Retry"]
    app.button(f"retry-{job_id}").click().run()

    assert not app.exception
    assert job(job_id).state is JobState.QUEUED
    assert labels(app) == ["Cancel"]
    assert toasts(app) == ["It waits to be done again\\."]


def test_a_click_that_comes_too_late_does_no_harm_and_says_why(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    (job_id,) = archive.contribute().job_ids
    app = open_page("jobs", archive.contributor)
    held = ledger.claim(job_id, worker="w")
    assert held is not None
    with writing() as session:
        ledger.finish(session, held)

    app.button(f"cancel-{job_id}").click().run()

    assert not app.exception
    assert job(job_id).state is JobState.DONE
    assert any("done already" in toast for toast in toasts(app))


def test_a_running_job_shows_how_far_it_is_and_that_it_was_asked_to_stop(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    (job_id,) = archive.contribute().job_ids
    held = ledger.claim(job_id, worker="w")
    assert held is not None
    with writing() as session:
        ledger.hold(session, held, done=1, total=4, phase="keywords")
        session.execute(update(Job).values(claimed_at=utc_now() - timedelta(hours=2)))

    app = open_page("jobs", archive.contributor)
    assert bars(app) == ["Looking for keywords · 1 of 4 · about 6 h left"]
    app.button(f"cancel-{job_id}").click().run()

    assert job(job_id).cancel_requested
    assert bars(app) == ["Stopping after this step · 1 of 4"]
    assert labels(app) == []


def test_a_failure_says_its_sentence_as_it_is_written(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    fail(archive.contribute().job_ids[0], sentence="It <b>broke</b> on *this*.")

    (error,) = open_page("jobs", archive.contributor).error

    assert "\\<b\\>broke\\<\\/b\\> on \\*this\\*" in error.value


def test_others_see_how_far_a_public_item_is_and_no_buttons(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    made = archive.contribute()

    for actor in (VISITOR, archive.reader, archive.other):
        app = open_page("item", actor, id=made.item_id)
        assert bars(app) == ["Waiting for a worker · 1st in the queue"]
        assert labels(app) == []
    assert labels(open_page("item", archive.admin, id=made.item_id)) == ["Cancel"]


# Operations


def test_operations_is_linked_and_shown_for_admins_only(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    (job_id,) = archive.contribute().job_ids
    fail(job_id)

    for actor, words_for_them in (
        (archive.admin, "Failures of the last 24 hours"),
        (archive.contributor, "ask an admin"),
        (VISITOR, "not signed in"),
    ):
        app = open_page("operations", actor)
        headings = " ".join(heading.value for heading in app.subheader)
        assert not app.exception
        assert app.title[0].value == "Operations"
        assert words_for_them in words(app) + headings
        is_admin = actor is archive.admin
        links = [link.proto.label for link in app.get("page_link")]
        assert ("Operations" in links) is is_admin
        assert ("It broke" in words(app)) is is_admin
        assert bool(app.button) is is_admin


def test_an_admin_pauses_resumes_releases_and_retries(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    (failed,) = archive.contribute("One story.").job_ids
    (aside,) = archive.contribute("Another story.").job_ids
    fail(failed)
    set_aside(aside)
    app = open_page("operations", archive.admin)
    assert "2 items lack a result: 1 with a job that is" in words(app)

    app.button(f"release-{aside}").click().run()
    app.button(f"retry-{failed}").click().run()
    assert not app.exception
    assert {job(each).state for each in (failed, aside)} == {JobState.QUEUED}
    assert labels(app) == ["Pause all", "Pause", "Pause"]

    app.button("pause-ai").click().run()
    assert paused_lanes() == {"ai", "ai.bulk"}
    assert "**Paused** · 2 waiting" in words(app)
    assert ["Paused" in toast for toast in toasts(app)] == [True]
    app.button("resume-ai.bulk").click().run()
    assert paused_lanes() == {"ai"}
    assert labels(app) == ["Resume all", "Pause", "Pause"]
    app.button("resume-ai").click().run()
    assert paused_lanes() == set()
    assert not app.exception


def test_a_private_title_is_not_shown_to_admins(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    made = archive.contribute(title="My secret", visibility=Visibility.PRIVATE)
    fail(made.job_ids[0])

    for page in ("jobs", "operations"):
        app = open_page(page, archive.admin)
        links = [link.proto.label for link in app.get("page_link")]
        assert "secret" not in words(app) + " ".join(links)
        assert "A private item" in words(app)


def test_operations_lists_the_workers_that_gave_a_sign_of_life(
    archive: Archive, open_page: Callable[..., AppTest]
) -> None:
    assert "No worker has given a sign of life" in words(open_page("operations", archive.admin))

    workers.publish(
        "worker-ai@host", pid=1, queues=["ai", "ai.bulk"], processes=2, active=1, done=35
    )
    workers.count_restart("worker-ai@host")

    shown = words(open_page("operations", archive.admin))
    assert "worker\\-ai\\@host" in shown
    assert "1 of 2 busy" in shown
    assert "restarted 1 time within a week" in shown


def test_operations_says_plainly_that_the_database_went_away(
    archive: Archive, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(view, "overview", away)
    app = open_page("operations", archive.admin)

    assert not app.exception
    assert "The database does not answer" in words(app)


def test_a_click_counts_for_whoever_is_signed_in_when_it_comes(
    archive: Archive, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job_id,) = archive.contribute().job_ids
    jobs = open_page("jobs", archive.contributor)
    operations = open_page("operations", archive.admin)

    # Signed out meanwhile, in another tab.
    monkeypatch.setattr(ui.session, "actor_of", lambda _token: (VISITOR, False))
    jobs.button(f"cancel-{job_id}").click().run()
    operations.button("pause-ai").click().run()

    assert not jobs.exception
    assert not operations.exception
    assert job(job_id).state is JobState.QUEUED
    assert paused_lanes() == set()
