"""Contributing, reading back, drafts, the numbers with their cache, and the clean-up."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
import redis
from sqlalchemy import func, select, text, update

from shared import cache, redis_client
from shared.accounts.policy import VISITOR, Actor, NotAllowed
from shared.accounts.users import operator
from shared.archive import items
from shared.archive.checks import InvalidContribution
from shared.archive.cleanup import Cleaned, clean_up, temporary_folder
from shared.archive.drafts import DraftTooLarge, load_draft, save_draft
from shared.archive.items import AlreadyContributed, ItemNotFound, get_item, recent_items, titles
from shared.archive.numbers import Numbers, archive_numbers
from shared.config import Settings
from shared.database.engine import reading, writing
from shared.database.errors import SchemaMissing
from shared.database.models import (
    Draft,
    Enrichment,
    Item,
    Job,
    JobState,
    SignIn,
    Visibility,
    new_id,
    utc_now,
)
from shared.enrichment.languages import UnknownLanguage
from shared.jobs import recovery
from tests.conftest import HINDI, TAMIL, Archive
from tests.servers import RedisServer

#: For what does not depend on the kind of database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


def count(table: type[Item] | type[Job] | type[Draft]) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def messages(redis_server: RedisServer) -> list[str]:
    """The ids of the jobs that workers were told about, oldest first."""
    waiting = redis.Redis(port=redis_server.port).lrange("ai", 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(waiting)]


def at_once(number: int, call: Callable[[], object]) -> list[object]:
    """What so many threads got that called at the same moment; an error is its own result."""
    outcomes: list[object] = []
    gate = threading.Barrier(number)

    def run() -> None:
        gate.wait()
        try:
            outcomes.append(call())
        except Exception as error:  # noqa: BLE001 - handed to the test
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def draft(actor: Actor, key: str = "key", **changes: object) -> None:
    arguments = {"title": "t", "text": HINDI, "language": "hi", "visibility": Visibility.MEMBERS}
    save_draft(actor, submission_key=key, **(arguments | changes))  # type: ignore[arg-type]


# Contributing


def test_a_contribution_is_a_row_and_a_job_and_a_message(
    archive: Archive, redis_server: RedisServer
) -> None:
    made = archive.contribute(HINDI, language="hi", visibility=Visibility.MEMBERS)

    assert made.is_new
    assert made.rung
    with reading() as session:
        item = session.scalars(select(Item)).one()
        job = session.scalars(select(Job)).one()
    assert (item.id, item.owner_id) == (made.item_id, archive.contributor.user_id)
    assert (item.text, item.title) == (HINDI, "दीपावली")
    assert (item.language, item.detected_language) == ("hi", None)
    assert item.visibility is Visibility.MEMBERS
    assert (job.id, job.item_id) == (*made.job_ids, made.item_id)
    assert (job.kind, job.queue, job.state) == ("ai.enrich_text", "ai", JobState.QUEUED)
    assert job.owner_id == archive.contributor.user_id
    assert messages(redis_server) == [job.id]


def test_every_text_that_is_accepted_comes_back_sign_for_sign(archive: Archive) -> None:
    texts = [
        TAMIL,
        "<script>alert('x')</script> & \"quotes\" \\ %s :name {}",
        "क्‍ष اُردُو زَبَانِ \u2067پھر\u2069 👩‍🌾 cafe\u0301 \ue000 \ufffe\uffff \U0010ffff",
        "a\tb\n\n\u2028c",
        "अ" * 300_000,
    ]

    kept = [get_item(VISITOR, archive.contribute(text).item_id).item.text for text in texts]

    assert kept == texts


def test_the_draft_that_became_the_contribution_is_gone_and_no_other(archive: Archive) -> None:
    draft(archive.contributor, "this")
    draft(archive.other, "this")

    archive.contribute(submission_key="another")
    assert load_draft(archive.contributor) is not None
    archive.contribute(submission_key="this")

    assert load_draft(archive.contributor) is None
    assert load_draft(archive.other) is not None


@on_sqlite
def test_a_refused_contribution_saves_nothing_and_keeps_the_draft(
    archive: Archive, redis_server: RedisServer
) -> None:
    draft(archive.contributor)

    for changes in ({"text": " "}, {"text": "a\0"}, {"title": ""}, {"language": "xx"}):
        with pytest.raises((InvalidContribution, UnknownLanguage)):
            archive.contribute(**{"submission_key": "key", **changes})

    assert count(Item) == count(Job) == 0
    assert load_draft(archive.contributor) is not None
    assert messages(redis_server) == []


@on_sqlite
def test_an_unknown_language_lists_what_is_allowed(archive: Archive) -> None:
    with pytest.raises(UnknownLanguage, match=r"'xx'.*hi \(Hindi\).*en \(English\)"):
        archive.contribute(language="xx")


@on_sqlite
def test_readers_and_visitors_may_not_contribute(archive: Archive) -> None:
    for actor in (archive.reader, VISITOR):
        with pytest.raises(NotAllowed):
            items.contribute(
                actor, title="t", text=HINDI, language=None, visibility=Visibility.PUBLIC
            )

    assert count(Item) == 0


def test_without_redis_it_is_saved_at_once_and_rung_when_redis_returns(
    archive: Archive, redis_server: RedisServer
) -> None:
    archive.contribute("warm", title="the producer has its connections")
    redis_server.kill()

    started = time.monotonic()
    made = archive.contribute()
    took = time.monotonic() - started

    assert not made.rung
    assert took < 2
    with reading() as session:
        assert session.get_one(Job, made.job_ids[0]).state is JobState.QUEUED

    redis_server.start()
    redis_client.breaker.succeeded()  # it would close by itself within seconds
    recovery.recover()
    assert messages(redis_server)[-1:] == list(made.job_ids)


@on_sqlite
def test_a_redis_that_hangs_holds_a_contribution_up_for_its_timeouts_only(
    archive: Archive, redis_server: RedisServer, configure: Callable[..., Settings]
) -> None:
    configure(REDIS_TIMEOUT_SECONDS="0.2")
    archive.contribute("warm", title="the producer has its connections")
    assert redis_server._process is not None
    redis_server._process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        made = archive.contribute()
        took = time.monotonic() - started
    finally:
        redis_server._process.send_signal(signal.SIGCONT)

    assert not made.rung
    assert took < 2
    assert get_item(VISITOR, made.item_id).item.text == HINDI


def test_the_same_submission_again_finds_what_it_made(
    archive: Archive, redis_server: RedisServer
) -> None:
    first = archive.contribute(submission_key="once")
    again = archive.contribute(submission_key="once")

    assert (again.item_id, again.job_ids, again.is_new) == (first.item_id, first.job_ids, False)
    assert count(Item) == count(Job) == 1
    assert messages(redis_server) == list(first.job_ids)


def test_another_story_under_the_same_key_is_kept_as_another_item(archive: Archive) -> None:
    first = archive.contribute(submission_key="one draft")

    second = archive.contribute("from another tab", submission_key="one draft")
    its_double_click = archive.contribute("from another tab", submission_key="one draft")

    assert second.is_new
    assert second.item_id != first.item_id
    assert (its_double_click.item_id, its_double_click.is_new) == (second.item_id, False)
    assert count(Item) == count(Job) == 2


def test_the_same_submission_with_another_visibility_is_refused_in_words(archive: Archive) -> None:
    first = archive.contribute(submission_key="once")

    with pytest.raises(AlreadyContributed, match="visible to 'public'"):
        archive.contribute(submission_key="once", visibility=Visibility.PRIVATE)

    with reading() as session:
        assert session.get_one(Item, first.item_id).visibility is Visibility.PUBLIC


def test_the_same_submission_again_does_a_failed_job_anew(
    archive: Archive, redis_server: RedisServer
) -> None:
    first = archive.contribute(submission_key="once")
    with writing() as session:
        session.execute(update(Job).values(state=JobState.FAILED))

    again = archive.contribute(submission_key="once")

    assert again.item_id == first.item_id
    assert again.job_ids[:1] == first.job_ids
    assert len(again.job_ids) == count(Job) == 2
    assert sorted(messages(redis_server)) == sorted(again.job_ids)


def test_the_same_submission_again_does_not_get_round_a_quarantine(archive: Archive) -> None:
    first = archive.contribute(submission_key="once")
    with writing() as session:
        session.execute(update(Job).values(state=JobState.QUARANTINED))

    again = archive.contribute(submission_key="once")

    assert again.job_ids == first.job_ids
    assert count(Job) == 1


def test_the_same_submission_at_the_same_time_makes_one_item(archive: Archive) -> None:
    made = at_once(6, lambda: archive.contribute(submission_key="double click"))

    assert all(isinstance(one, items.Contributed) for one in made), made
    assert len({one.item_id for one in made}) == 1  # type: ignore[attr-defined]
    assert sorted(one.is_new for one in made) == [False] * 5 + [True]  # type: ignore[attr-defined]
    assert count(Item) == count(Job) == 1


@on_sqlite
def test_a_submission_key_is_each_person_s_own(archive: Archive) -> None:
    made = [
        items.contribute(
            actor,
            title="t",
            text=HINDI,
            language=None,
            visibility=Visibility.PRIVATE,
            submission_key="same",
        )
        for actor in (archive.contributor, archive.other)
    ]

    assert [one.is_new for one in made] == [True, True]
    assert made[0].item_id != made[1].item_id


def test_when_the_database_fails_half_way_nothing_is_saved_and_nobody_is_rung(
    archive: Archive, redis_server: RedisServer
) -> None:
    # The draft is discarded last, so this fails after item and job were written.
    with writing() as session:
        session.execute(text("DROP TABLE drafts"))

    with pytest.raises(SchemaMissing):
        archive.contribute()

    assert count(Item) == count(Job) == 0
    assert messages(redis_server) == []


# Reading back


def test_lists_titles_and_pages_show_each_person_what_the_policy_lets_them_read(
    archive: Archive,
) -> None:
    ids = {
        kind: archive.contribute(visibility=kind, title=kind.value).item_id for kind in Visibility
    }
    public, members, private = Visibility
    expected: list[tuple[Actor, set[Visibility]]] = [
        (archive.contributor, {public, members, private}),
        (operator(), {public, members, private}),
        (archive.other, {public, members}),
        (archive.admin, {public, members}),
        (archive.reader, {public, members}),
        (VISITOR, {public}),
    ]

    for actor, readable in expected:
        wanted = {kind.value for kind in readable}
        assert {item.title for item in recent_items(actor, limit=10)} == wanted, actor.name
        assert set(titles(actor, list(ids.values())).values()) == wanted, actor.name
        for kind, item_id in ids.items():
            if kind in readable:
                assert get_item(actor, item_id).item.title == kind.value
            else:
                with pytest.raises(ItemNotFound):
                    get_item(actor, item_id)


@on_sqlite
def test_a_hidden_item_and_one_that_never_was_give_the_same_words(archive: Archive) -> None:
    hidden = archive.contribute(visibility=Visibility.PRIVATE).item_id

    refusals = []
    for item_id in (hidden, new_id()):
        with pytest.raises(ItemNotFound) as refused:
            get_item(VISITOR, item_id)
        refusals.append(refused.value.sentence)

    assert refusals[0] == refusals[1]


def test_whatever_stands_in_the_address_is_an_item_or_not_found(archive: Archive) -> None:
    addresses = ["", "x", "a\0b", "\udcff", "\ud800", "' OR 1=1 --", "अ", "a" * 100_000]

    for address in addresses:
        with pytest.raises(ItemNotFound):
            get_item(VISITOR, address)


@on_sqlite
def test_the_newest_items_come_first(archive: Archive) -> None:
    made = [archive.contribute(f"text {number}").item_id for number in range(4)]

    listed = recent_items(VISITOR, limit=3)

    assert [item.id for item in listed] == made[:0:-1]
    assert all(newer.created_at >= older.created_at for newer, older in pairwise(listed))
    assert listed[0].owner.name == "asha"  # usable after the session


@on_sqlite
def test_of_each_step_the_newest_finding_is_shown(archive: Archive) -> None:
    made = archive.contribute()
    now = utc_now()
    with writing() as session:
        first = session.get_one(Job, made.job_ids[0])
        first.state = JobState.FAILED
        session.flush()
        item = session.get_one(Item, made.item_id)
        second = items.submit_enrichment(session, item, bulk=False).job_id
        for job_id, step, value, age in [
            (second, "summary", "new", 0),
            (first.id, "summary", "old", 60),
            (first.id, "keywords", "only", 60),
        ]:
            session.add(
                Enrichment(
                    item_id=made.item_id, job_id=job_id, step=step, status="draft", value=value,
                    provider="p", model="m", version="v", parameters={}, seconds=0.1,
                    created_at=now - timedelta(seconds=age),
                )
            )  # fmt: skip

    view = get_item(VISITOR, made.item_id)

    assert {found.step: found.value for found in view.enrichments} == {
        "summary": "new",
        "keywords": "only",
    }
    assert [job.id for job in view.jobs] == [first.id, second]


# Drafts


def test_a_draft_is_kept_as_it_stands_and_the_newest_wins(archive: Archive) -> None:
    assert load_draft(archive.contributor) is None

    draft(archive.contributor, "one", title="", text=" \x07 unfinished \u202e")
    draft(archive.contributor, "two", title="राजा", text="<b>", language=None)

    kept = load_draft(archive.contributor)
    assert kept is not None
    assert (kept.submission_key, kept.title, kept.text) == ("two", "राजा", "<b>")
    assert (kept.language, kept.visibility) == (None, Visibility.MEMBERS)
    assert load_draft(archive.other) is None


def test_drafts_of_two_tabs_do_not_overwrite_each_other(archive: Archive) -> None:
    draft(archive.contributor, "laptop", text="five thousand words")
    draft(archive.contributor, "phone", title="n", text="")
    made = archive.contribute("n", title="n", submission_key="phone")

    assert made.is_new
    kept = load_draft(archive.contributor)
    assert kept is not None
    assert kept.submission_key in {"laptop", "phone"}
    assert count(Draft) == 2


def test_a_draft_that_could_not_be_contributed_is_kept_without_what_no_database_holds(
    archive: Archive, configure: Callable[..., Settings]
) -> None:
    configure(MAX_TEXT_BYTES="1000")

    draft(archive.contributor, text="a\0b\ud800c")
    with pytest.raises(DraftTooLarge):
        draft(archive.contributor, text="é" * 5000)

    kept = load_draft(archive.contributor)
    assert kept is not None
    assert kept.text == "abc"


def test_two_tabs_that_keep_their_first_draft_at_once_do_not_fail(archive: Archive) -> None:
    outcomes = at_once(6, lambda: draft(archive.contributor))

    assert outcomes == [None] * 6
    assert count(Draft) == 1


@on_sqlite
def test_visitors_and_readers_have_no_draft(archive: Archive) -> None:
    assert load_draft(VISITOR) is None
    for actor in (VISITOR, archive.reader):
        with pytest.raises(NotAllowed):
            draft(actor)


# The numbers and their cache


def hide_everything() -> None:
    """A change behind the cache's back."""
    with writing() as session:
        session.execute(update(Item).values(visibility=Visibility.PRIVATE))


def cached(redis_server: RedisServer) -> list[bytes]:
    return redis.Redis(port=redis_server.port).keys("bharatverse:*")


def test_the_numbers_count_what_everyone_may_see(archive: Archive) -> None:
    archive.contribute(language="hi")
    archive.contribute(TAMIL, language="ta")
    archive.contribute(visibility=Visibility.PRIVATE, language="bn")
    items.contribute(
        archive.other, title="t", text=TAMIL, language="ta", visibility=Visibility.PUBLIC
    )

    assert archive_numbers() == Numbers(items=3, languages=2, contributors=2)


@on_sqlite
def test_the_numbers_are_kept_and_a_contribution_refreshes_them_at_once(archive: Archive) -> None:
    assert archive_numbers().items == 0
    archive.contribute()
    assert archive_numbers().items == 1

    hide_everything()

    assert archive_numbers().items == 1, "they were not kept"


@on_sqlite
def test_without_caching_they_are_counted_each_time_and_redis_holds_nothing(
    archive: Archive, redis_server: RedisServer, configure: Callable[..., Settings]
) -> None:
    configure(ENABLE_CACHING="false")
    archive.contribute()
    assert archive_numbers().items == 1

    hide_everything()

    assert archive_numbers().items == 0
    assert cached(redis_server) == []


@on_sqlite
def test_a_damaged_cached_value_is_computed_anew_and_replaced(
    archive: Archive, redis_server: RedisServer
) -> None:
    archive_numbers()
    (key,) = cached(redis_server)
    probe = redis.Redis(port=redis_server.port)

    for damaged in (b"{", b"\xff\x00", b""):
        probe.set(key, damaged)

        assert archive_numbers() == Numbers(items=0, languages=0, contributors=0)
        assert json.loads(probe.get(key) or b"") == {"items": 0, "languages": 0, "contributors": 0}


@on_sqlite
def test_without_redis_the_numbers_are_counted_without_waiting(
    archive: Archive, redis_server: RedisServer
) -> None:
    archive.contribute()
    redis_server.kill()

    started = time.monotonic()
    seen = [archive_numbers().items for _ in range(20)]

    assert seen == [1] * 20
    assert time.monotonic() - started < 2


@on_sqlite
def test_redis_ttl_hours_bounds_how_long_a_value_is_kept(
    archive: Archive, redis_server: RedisServer, configure: Callable[..., Settings]
) -> None:
    configure(REDIS_TTL_HOURS="0.001")  # 3.6 seconds

    cache.get_or_compute("long", 1000, lambda: 1)
    cache.get_or_compute("short", 1, lambda: 1)

    probe = redis.Redis(port=redis_server.port)
    assert 2000 < probe.pttl("bharatverse:1:long") <= 3600
    assert 0 < probe.pttl("bharatverse:1:short") <= 1000


@on_sqlite
def test_an_error_of_the_computation_is_the_caller_s_and_nothing_is_kept(
    archive: Archive, redis_server: RedisServer
) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.get_or_compute("key", 60, lambda: 1 // 0)

    assert cached(redis_server) == []
    assert cache.get_or_compute("key", 60, lambda: 2) == 2


@on_sqlite
def test_a_value_of_none_is_kept_like_any_other(archive: Archive) -> None:
    computed: list[int] = []

    for _ in range(3):
        assert cache.get_or_compute("none", 60, lambda: computed.append(1)) is None

    assert computed == [1]


# Clean-up


@on_sqlite
def test_the_clean_up_removes_ended_sessions_and_old_temporary_files_only(
    archive: Archive,
) -> None:
    assert clean_up() == Cleaned(sign_ins=0, files=0), "there is not even a folder yet"
    long_ago = time.time() - 25 * 3600
    folder = temporary_folder() / "deep"
    folder.mkdir(parents=True)
    outside = archive.settings.bharatverse_home / "outside.txt"
    for path in (folder / "old", folder / "new", outside):
        path.write_text("x")
    (folder / "link").symlink_to(outside)
    for path in (folder / "old", outside):
        os.utime(path, (long_ago, long_ago))
    with writing() as session:
        for name, ends in [("ended", -1), ("going on", +60)]:
            session.add(
                SignIn(
                    token_hash=name,
                    user_id=archive.reader.user_id or "",
                    expires_at=utc_now() + timedelta(seconds=ends),
                )
            )

    assert clean_up() == Cleaned(sign_ins=1, files=1)

    assert sorted(path.name for path in folder.iterdir()) == ["link", "new"]
    assert outside.exists()
    with reading() as session:
        assert session.scalars(select(SignIn.token_hash)).all() == ["going on"]
    assert clean_up() == Cleaned(sign_ins=0, files=0)


@on_sqlite
def test_redis_is_only_the_bell(archive: Archive, redis_server: RedisServer) -> None:
    made = archive.contribute()
    redis_client.client().flushall()

    view = get_item(VISITOR, made.item_id)

    assert view.item.text == HINDI
    assert [job.state for job in view.jobs] == [JobState.QUEUED]
    assert recent_items(VISITOR, limit=1)[0].id == made.item_id
