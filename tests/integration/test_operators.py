"""What people do to jobs and what they see of them, on both databases."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, select, update

from shared.accounts import users
from shared.accounts.policy import VISITOR, Actor, NotAllowed, SignInNeeded
from shared.database.engine import engine, reading, writing
from shared.database.models import (
    Enrichment,
    Job,
    JobAttempt,
    JobState,
    Lane,
    Visibility,
    new_id,
    utc_now,
)
from shared.enrichment.finding import Step
from shared.errors import BharatVerseError, Invalid
from shared.jobs import control, dispatch, ledger, progress, view
from shared.jobs.control import NotPossibleNow, SameWork
from shared.jobs.lanes import UnknownQueue
from shared.jobs.view import JobNotFound
from shared.redis_client import client
from tests.conftest import HINDI, Archive
from tests.servers import RedisServer


def submit(actor: Actor, key: str = "k", *, bulk: bool = False, item_id: str | None = None) -> str:
    with writing() as session:
        return ledger.submit(
            session, kind="ai.test", owner_id=actor.user_id or "", item_id=item_id, key=key,
            bulk=bulk,
        ).job_id  # fmt: skip


def job(job_id: str) -> Job:
    with reading() as session:
        return session.get_one(Job, job_id)


def attempts(job_id: str) -> list[JobAttempt]:
    with reading() as session:
        return list(
            session.scalars(
                select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.number)
            )
        )


def change(job_id: str, **values: Any) -> None:
    with writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))


def claim(job_id: str, worker: str = "w") -> ledger.Claim:
    held = ledger.claim(job_id, worker=worker)
    assert held is not None
    return held


def fail(job_id: str, *, worker: str = "w", sentence: str = "It broke.") -> None:
    held = claim(job_id, worker)
    with writing() as session:
        ledger.fail(session, held, code="broken", sentence=sentence)


def requeue(job_id: str, *, worker: str = "w") -> None:
    held = claim(job_id, worker)
    with writing() as session:
        ledger.requeue(session, held, wait=0.0, code="asleep", sentence="Later.")


def finish(job_id: str) -> None:
    held = claim(job_id)
    with writing() as session:
        ledger.finish(session, held)


def set_aside(job_id: str) -> None:
    for _ in range(3):
        claim(job_id)
        with writing() as session:
            ledger.lose(session, Job.id == job_id, reason="Its worker died.")
    assert job(job_id).state is JobState.QUARANTINED


def messages(lane: str = "ai") -> list[str]:
    """The job ids that wait in Redis, the next one first."""
    waiting: Any = client().lrange(lane, 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(waiting)]


def publish(job_id: str, done: int, total: int, phase: str = "keywords") -> None:
    """What a worker stores while it works."""
    record = {"status": progress.PROGRESS_STATE, "result": progress.meta(done, total, phase)}
    client().set(f"celery-task-meta-{job_id}", json.dumps(record))


def at_once(work: Callable[[], object], *, count: int) -> list[str]:
    """Run it in threads that begin together; the codes of the errors that ended some."""
    gate = threading.Barrier(count)
    errors: list[str] = []

    def run() -> None:
        gate.wait()
        try:
            work()
        except BharatVerseError as error:
            errors.append(error.code)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def operator() -> Actor:
    return users.operator()


# Who may


@pytest.mark.parametrize("act", [control.cancel, control.retry, control.release])
def test_a_strangers_job_is_as_unknown_as_one_that_is_not_there(
    archive: Archive, act: Callable[[Actor, str], object]
) -> None:
    job_id = submit(archive.contributor)

    for stranger in (archive.other, archive.reader, VISITOR):
        told = set()
        for wanted in (job_id, new_id(), "no id", "\0", "क"):
            with pytest.raises(JobNotFound) as refused:
                act(stranger, wanted)
            told.add(refused.value.sentence)
        assert len(told) == 1, stranger.name

    assert job(job_id).state is JobState.QUEUED
    assert not job(job_id).cancel_requested


def test_owners_admins_and_the_operator_cancel_and_retry(archive: Archive) -> None:
    for number, actor in enumerate((archive.contributor, archive.admin, operator())):
        job_id = submit(archive.contributor, key=str(number))

        assert control.cancel(actor, job_id).state is JobState.CANCELLED, actor.name
        assert control.retry(actor, job_id).state is JobState.QUEUED, actor.name


def test_only_admins_release_pause_and_look_at_everything(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    set_aside(job_id)

    with pytest.raises(NotPossibleNow, match="An admin can release it"):
        control.retry(archive.contributor, job_id)
    with pytest.raises(NotAllowed):
        control.release(archive.contributor, job_id)
    for actor, refusal in ((archive.contributor, NotAllowed), (VISITOR, SignInNeeded)):
        for ask in (
            lambda who: control.pause(who, "ai"),
            lambda who: control.resume(who, "ai"),
            control.submit_missing,
            view.missing,
            view.count_missing,
            view.overview,
        ):
            with pytest.raises(refusal):
                ask(actor)
    with reading() as session:
        assert not session.scalars(select(Lane.name).where(Lane.paused)).all()

    assert control.release(archive.admin, job_id).state is JobState.QUEUED


# Cancel


def test_a_waiting_job_is_cancelled_at_once_and_no_worker_takes_it(archive: Archive) -> None:
    job_id = submit(archive.contributor)

    done = control.cancel(archive.contributor, job_id)

    ended = job(job_id)
    assert (done.state, ended.state) == (JobState.CANCELLED, JobState.CANCELLED)
    assert (ended.error_code, ended.cancel_requested) == ("cancelled", False)
    assert ended.error_message
    assert ended.finished_at is not None
    assert ledger.claim(job_id, worker="w") is None
    assert progress.read([job_id])[job_id].state is JobState.CANCELLED


def test_a_running_job_is_asked_to_stop_and_its_worker_hears_it(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    held = claim(job_id)

    for _ in range(2):  # a double click
        done = control.cancel(archive.contributor, job_id)
        assert done.state is JobState.RUNNING
        assert "asked to stop" in done.sentence

    assert view.look([job_id])[job_id].is_stopping
    with writing() as session:
        assert ledger.hold(session, held, done=1, total=2, phase="x")
        ledger.cancelled(session, held)
    assert job(job_id).state is JobState.CANCELLED


def test_what_has_ended_is_not_cancelled_and_the_refusal_names_its_state(archive: Archive) -> None:
    done, failed, cancelled = (submit(archive.contributor, key=key) for key in "abc")
    finish(done)
    fail(failed)
    control.cancel(archive.contributor, cancelled)

    for job_id, words in ((done, "done already"), (failed, "failed"), (cancelled, "cancelled")):
        with pytest.raises(NotPossibleNow, match=words):
            control.cancel(archive.contributor, job_id)
    assert [job(each).state for each in (done, failed, cancelled)] == [
        JobState.DONE, JobState.FAILED, JobState.CANCELLED,
    ]  # fmt: skip


def test_cancel_and_claim_at_the_same_moment_leave_no_job_in_between(archive: Archive) -> None:
    for number in range(10):
        job_id = submit(archive.contributor, key=str(number))
        claims: list[ledger.Claim | None] = []
        answers: list[control.Done] = []
        turn = iter(range(4))

        def act(
            job_id: str = job_id, turn: Any = turn, claims: Any = claims, answers: Any = answers
        ) -> None:
            if next(turn) % 2:
                claims.append(ledger.claim(job_id, worker="w"))
            else:
                answers.append(control.cancel(archive.contributor, job_id))

        errors = at_once(act, count=4)

        won = any(claim is not None for claim in claims)
        now = job(job_id)
        assert now.state is (JobState.RUNNING if won else JobState.CANCELLED)
        # Whoever asked was told what became of it, and what was asked of a running job stands.
        assert now.cancel_requested is any(answer.state is JobState.RUNNING for answer in answers)
        assert len(answers) + len(errors) == 2
        assert set(errors) <= {"not_possible_now"}


# Retry and release


def test_a_retried_job_is_the_same_job_with_all_its_tries_and_its_whole_history(
    archive: Archive,
) -> None:
    job_id = submit(archive.contributor)
    requeue(job_id, worker="first")
    ended_at = utc_now()
    fail(job_id, worker="second")
    client().flushall()

    done = control.retry(archive.contributor, job_id)

    now = job(job_id)
    assert (done.job_id, now.state, now.attempt) == (job_id, JobState.QUEUED, 2)
    assert (now.errors, now.losses, now.cancel_requested) == (0, 0, False)
    assert (now.error_code, now.error_message, now.finished_at) == (None, None, None)
    assert messages() == [job_id]
    first, second = attempts(job_id)
    assert (first.number, first.worker, first.outcome) == (1, "first", "asleep")
    assert (second.number, second.worker, second.outcome) == (2, "second", "broken")
    assert second.message == "It broke."
    assert second.started_at is not None
    assert second.started_at <= second.ended_at
    assert abs(second.ended_at - ended_at) < timedelta(minutes=1)

    third = claim(job_id, "third")
    assert third.attempt == 3
    shown = view.details(archive.contributor, job_id).attempts
    assert [(each.number, each.outcome, each.worker) for each in shown] == [
        (1, "asleep", "first"), (2, "broken", "second"), (3, "running", "third"),
    ]  # fmt: skip
    assert shown[-1].ended_at is None


def test_of_many_retries_at_once_one_wins_and_the_others_are_told(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    fail(job_id)
    client().flushall()

    errors = at_once(lambda: control.retry(archive.contributor, job_id), count=6)

    assert errors == ["not_possible_now"] * 5
    assert [each.number for each in attempts(job_id)] == [1]
    # PostgreSQL skips a row that a loser still looks at; every worker dispatches once a second.
    dispatch.dispatch_all()
    assert messages() == [job_id]


def test_a_job_cancelled_while_it_waited_is_retried_and_no_attempt_is_made_up(
    archive: Archive,
) -> None:
    fresh, tried = submit(archive.contributor, key="a"), submit(archive.contributor, key="b")
    requeue(tried)

    for job_id in (fresh, tried):
        control.cancel(archive.contributor, job_id)
        control.retry(archive.contributor, job_id)

    assert attempts(fresh) == []
    assert [each.outcome for each in attempts(tried)] == ["asleep"]
    assert job(fresh).error_code is None


def test_what_waits_runs_or_is_done_is_not_retried(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    with pytest.raises(NotPossibleNow, match="waits for a worker already"):
        control.retry(archive.contributor, job_id)
    held = claim(job_id)
    with pytest.raises(NotPossibleNow, match="being worked on"):
        control.retry(archive.contributor, job_id)
    with writing() as session:
        ledger.finish(session, held)
    with pytest.raises(NotPossibleNow, match="done already"):
        control.retry(archive.contributor, job_id)
    with pytest.raises(NotPossibleNow, match="done already"):
        control.release(archive.admin, job_id)


@pytest.mark.parametrize("end", ["live", "done"])
def test_a_retry_names_the_job_that_does_the_same_work(archive: Archive, end: str) -> None:
    old = submit(archive.contributor)
    fail(old)
    new = submit(archive.contributor)
    assert new != old
    if end == "done":
        finish(new)

    with pytest.raises(SameWork, match=new):
        control.retry(archive.contributor, old)

    assert job(old).state is JobState.FAILED
    assert job(old).error_code == "broken"
    assert attempts(old) == []


def test_a_retry_and_a_submit_of_the_same_work_at_once_leave_one_live_job(
    archive: Archive,
) -> None:
    for number in range(5):
        old = submit(archive.contributor, key=str(number))
        fail(old)
        turn = iter(range(4))

        def act(old: str = old, key: str = str(number), turn: Any = turn) -> None:
            if next(turn) % 2:
                control.retry(archive.contributor, old)
            else:
                submit(archive.contributor, key=key)

        at_once(act, count=4)

        with reading() as session:
            same = session.scalars(
                select(Job.state).where(Job.content_key == str(number), ledger.IS_LIVE)
            ).all()
        assert same == [JobState.QUEUED]


def test_a_released_job_gets_three_workers_again(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    set_aside(job_id)

    control.release(archive.admin, job_id)

    assert job(job_id).losses == 0
    assert [each.number for each in attempts(job_id)] == [1, 2, 3]
    set_aside_again = claim(job_id)
    assert set_aside_again.attempt == 4
    with pytest.raises(NotPossibleNow, match="being worked on"):
        control.release(archive.admin, job_id)


def test_a_retried_job_takes_its_turn_behind_those_who_waited(archive: Archive) -> None:
    """Many that failed long ago do not overtake what others have waiting."""
    old = submit(archive.contributor, key="old", bulk=True)
    fail(old)
    with writing() as session:
        session.execute(update(Lane).values(window=0))
    others = [submit(archive.other, key=str(number), bulk=True) for number in range(3)]
    control.pause(archive.admin, "ai.bulk")
    mine = submit(archive.contributor, key="mine", bulk=True)

    control.retry(archive.contributor, old)

    places = positions([*others, mine, old])
    assert places[mine] < places[old], "behind the owner's own"
    assert places[others[0]] < places[old] < places[others[2]], "in turns with others"


# Pause and resume


def test_a_paused_queue_hands_out_nothing_and_a_resumed_one_rings_at_once(
    archive: Archive,
) -> None:
    assert control.pause(archive.admin, "ai") == ("ai", "ai.bulk")
    waiting = [submit(archive.contributor, key="a"), submit(archive.other, key="b", bulk=True)]
    dispatch.dispatch_all()
    assert (messages("ai"), messages("ai.bulk")) == ([], [])
    assert ledger.claim(waiting[0], worker="w") is None
    change(waiting[0], ring_after=1.0)  # the claim made it wait for a second
    assert all(look.is_paused for look in view.look(waiting).values())

    assert control.resume(operator(), "ai.bulk") == ("ai.bulk",)
    assert (messages("ai"), messages("ai.bulk")) == ([], waiting[1:])
    control.resume(archive.admin, "ai")
    assert messages("ai") == waiting[:1]


def test_a_queue_that_is_not_there_is_named_with_those_that_are(archive: Archive) -> None:
    for act in (control.pause, control.resume):
        with pytest.raises(UnknownQueue, match=r"no queue 'nope'.*ai, speech"):
            act(archive.admin, "nope")


# Lists


def test_the_list_is_filtered_by_state_kind_queue_owner_and_time(archive: Archive) -> None:
    mine, bulk = submit(archive.contributor, "a"), submit(archive.contributor, "b", bulk=True)
    theirs = submit(archive.other, "c")
    failed, old = submit(archive.other, "d"), submit(archive.contributor, "e")
    fail(failed)
    change(old, created_at=utc_now() - timedelta(days=2), kind="ai.other")

    def ids(actor: Actor = archive.admin, **filters: Any) -> set[str]:
        listed = view.list_jobs(actor, **filters)
        assert sum(view.count_jobs(actor, **filters).values()) == len(listed)
        return {each.id for each in listed}

    assert ids() == {mine, bulk, theirs, failed, old}
    assert ids(states=[JobState.FAILED, JobState.DONE]) == {failed}
    assert ids(kinds=["ai.other"]) == {old}
    assert ids(queue="ai") == {mine, bulk, theirs, failed, old}
    assert ids(queue="ai.bulk") == {bulk}
    assert ids(queue="speech") == set()
    assert ids(owner="ASHA") == {mine, bulk, old}
    assert ids(since=utc_now() - timedelta(days=1)) == {mine, bulk, theirs, failed}
    assert ids(owner="ravi", states=[JobState.QUEUED], queue="ai") == {theirs}
    assert [each.id for each in view.list_jobs(archive.admin, limit=1)] == [failed]
    assert ids(archive.contributor) == ids(archive.contributor, owner="asha") == {mine, bulk, old}
    assert ids(operator()) == ids()
    assert ids(VISITOR) == ids(archive.reader) == set()

    with pytest.raises(UnknownQueue):
        ids(queue="nope")
    with pytest.raises(users.UnknownUser):
        ids(owner="nobody")
    for name in ("ravi", "nobody"):  # which names exist is not told
        with pytest.raises(NotAllowed, match="its own jobs only"):
            ids(archive.contributor, owner=name)


def test_a_list_of_jobs_costs_one_query_however_long_it_is(archive: Archive) -> None:
    for number in range(30):
        submit((archive.contributor, archive.other)[number % 2], key=str(number))

    with counting() as queries:
        listed = view.list_jobs(archive.admin)
        documents = [view.as_json(each) for each in listed]

    assert len(listed) == 30
    assert {each["owner"] for each in documents} == {"asha", "ravi"}
    assert len(queries) == 1


class counting:
    """The SELECTs that are sent meanwhile."""

    def __enter__(self) -> list[str]:
        self.seen: list[str] = []
        event.listen(engine(), "before_cursor_execute", self._note)
        return self.seen

    def __exit__(self, *_error: object) -> None:
        event.remove(engine(), "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            self.seen.append(statement)


# One job


def test_an_id_is_found_by_its_beginning_when_only_one_begins_so(archive: Archive) -> None:
    first, second = "aaaaaaaa-1111-4111-8111-111111111111", "aaaaaaaa-2222-4222-8222-222222222222"
    change(submit(archive.contributor, "a"), id=first)
    change(submit(archive.other, "b"), id=second)

    assert view.find_id(archive.admin, first[:12]) == first
    assert view.find_id(archive.admin, f" {second[:10].upper()} ") == second
    assert view.find_id(archive.contributor, "aaaaaaaa") == first, "others' ids do not stand in it"
    with pytest.raises(Invalid, match=r"Several jobs begin.*1111.*2222.*more characters"):
        view.find_id(archive.admin, "aaaaaaaa")
    with pytest.raises(Invalid, match="8 characters"):
        view.find_id(archive.admin, "aaaaaaa")
    for unknown in ("bbbbbbbb", "%%%%%%%%", "________", "\udcff" * 8, "\0" * 8, first + "0"):
        with pytest.raises(JobNotFound):
            view.find_id(archive.admin, unknown)
    with pytest.raises(JobNotFound):
        view.find_id(archive.reader, first)


def test_details_are_for_the_owner_and_admins_only(archive: Archive) -> None:
    job_id = submit(archive.contributor)

    for actor in (archive.contributor, archive.admin, operator()):
        assert view.details(actor, job_id).job.id == job_id
    for stranger in (archive.other, archive.reader, VISITOR):
        for wanted in (job_id, new_id(), "\0", "क"):
            with pytest.raises(JobNotFound):
                view.details(stranger, wanted)


def test_the_history_of_a_job_that_was_set_aside_has_each_attempt_once(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    set_aside(job_id)

    shown = view.details(archive.contributor, job_id).attempts

    assert [(each.number, each.outcome) for each in shown] == [
        (number, "worker_lost") for number in (1, 2, 3)
    ]
    assert all(each.seconds is not None for each in shown)


# Positions and the time left


def positions(job_ids: Sequence[str]) -> dict[str, int]:
    seen = view.look(job_ids)
    return {job_id: job.position for job_id, job in seen.items() if job.position}


def test_readers_of_a_long_queue_share_one_look_at_its_order(archive: Archive) -> None:
    first = submit(archive.contributor, "first")
    second = submit(archive.contributor, "second")
    assert view.look([second])[second].position == 2

    control.cancel(archive.contributor, first)

    assert view.look([second], max_age=60)[second].position == 2
    third = submit(archive.contributor, "third")
    assert view.look([third], max_age=60)[third].position == 2, "it was not there before"
    assert view.look([second], max_age=60)[second].position == 1


def test_positions_are_exact_rung_first_then_turns_then_who_came_first(archive: Archive) -> None:
    now = utc_now()
    with writing() as session:
        session.execute(update(Lane).values(window=0))
    ids = {name: submit(archive.contributor, name) for name in "abcdef"}
    other_lane = submit(archive.contributor, "bulk", bulk=True)
    for name, turn, second in [("a", 5, 0), ("b", 2, 3), ("c", 2, 1), ("d", 9, 0), ("e", 1, 0)]:
        change(ids[name], turn=turn, created_at=now + timedelta(seconds=second))
    change(ids["d"], rung_at=1.0)
    change(ids["e"], ring_after=4e9)  # waits for its next try
    claim(ids["f"])

    expected = {ids["d"]: 1, ids["c"]: 2, ids["b"]: 3, ids["a"]: 4, other_lane: 1}
    assert positions([*ids.values(), other_lane, new_id()]) == expected
    assert positions([ids["a"]]) == {ids["a"]: 4}
    assert positions([ids["e"], ids["f"]]) == {}
    assert positions([]) == {}
    assert view.details(archive.contributor, ids["a"]).progress.position == 4

    control.cancel(archive.contributor, ids["c"])
    assert positions([ids["a"]]) == {ids["a"]: 3}


def test_the_time_left_of_a_running_job_follows_from_its_progress(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    claim(job_id)
    change(job_id, claimed_at=utc_now() - timedelta(seconds=1000))

    assert view.look([job_id])[job_id].seconds_left is None, "nothing is done yet"

    publish(job_id, 25, 100)
    look = view.look([job_id])[job_id]
    assert (look.done, look.total, look.phase) == (25, 100, "keywords")
    assert look.seconds_left == pytest.approx(3000, rel=0.05)

    change(job_id, attempt=2)  # went on from what was saved: the pace is not known
    assert view.look([job_id])[job_id].seconds_left is None


def test_the_time_left_of_a_waiting_job_follows_from_what_its_lane_did_lately(
    archive: Archive,
) -> None:
    with writing() as session:
        session.execute(update(Lane).values(window=0))
    first, second, third = (submit(archive.contributor, key) for key in "abc")
    assert view.look([third])[third].seconds_left is None, "no number is invented"

    def done(key: str, *, ago: float, seconds: float, bulk: bool = False) -> None:
        job_id = submit(archive.other, key, bulk=bulk)
        end = utc_now() - timedelta(seconds=ago)
        change(
            job_id,
            state=JobState.DONE,
            claimed_at=end - timedelta(seconds=seconds),
            finished_at=end,
        )

    done("elsewhere", ago=1, seconds=500, bulk=True)
    done("long ago", ago=3000, seconds=500)
    assert view.look([third])[third].seconds_left is None

    # Two workers, 20 s a job, an idle pause before: a job ends every 10 s.
    for number, ago in enumerate((300, 300, 100, 100)):
        done(str(number), ago=ago, seconds=20)

    seen = view.look([first, second, third])
    assert seen[first].seconds_left == pytest.approx(20, abs=0.5)
    assert seen[second].seconds_left == pytest.approx(30, abs=0.5)
    assert seen[third].seconds_left == pytest.approx(40, abs=0.5)
    control.pause(archive.admin, "ai")
    assert view.look([third])[third].seconds_left is None, "nobody knows when it is resumed"


def test_a_look_at_many_jobs_costs_a_few_queries_and_the_ledger_decides_the_state(
    archive: Archive,
) -> None:
    ids = [submit(archive.contributor, str(number)) for number in range(40)]
    for job_id in ids[:20]:
        claim(job_id)
        publish(job_id, 1, 2)
    fail(ids[30])
    publish(ids[30], 1, 2)

    with counting() as queries:
        seen = view.look([*ids, new_id()])

    assert len(queries) == 1 + 3  # the jobs; of the lane in which some wait, its order and pace
    assert list(seen) == ids
    assert seen[ids[30]].state is JobState.FAILED
    assert {seen[job_id].done for job_id in ids[:20]} == {1}


def test_progress_in_redis_that_is_not_ours_is_left_to_the_ledger(archive: Archive) -> None:
    job_id = submit(archive.contributor)
    key = f"celery-task-meta-{job_id}"
    old = {"status": "PROGRESS", "result": progress.meta(1, 2, "x") | {"at": 1.0}}
    for value in (
        "", "not json", "[]", "null", '{"status": "PROGRESS"}', b"\xff", json.dumps(old),
        '{"status": "PROGRESS", "result": {"at": "soon"}}', '{"status": "SUCCESS"}',
        '{"status": "PROGRESS", "result": {"at": 9e9, "done": "x", "total": 1, "phase": ""}}',
    ):  # fmt: skip
        client().set(key, value)
        assert progress.read([job_id])[job_id].state is JobState.QUEUED, value


def test_a_cancelled_job_is_not_shown_as_running_by_what_redis_still_holds(
    archive: Archive,
) -> None:
    job_id = submit(archive.contributor)
    claim(job_id)
    publish(job_id, 1, 2)
    with writing() as session:
        ledger.lose(session, Job.id == job_id, reason="Its worker died.")

    control.cancel(archive.contributor, job_id)

    assert progress.read([job_id])[job_id].state is JobState.CANCELLED


# Missing results


def enrich(item_id: str, job_id: str, steps: tuple[Step, ...]) -> None:
    with writing() as session:
        for step in steps:
            session.add(
                Enrichment(
                    item_id=item_id, job_id=job_id, step=step.value, status="draft", value="x",
                    language=None, provider="local", model="m", version="1", parameters={},
                    confidence=None, seconds=0.1,
                )
            )  # fmt: skip


def test_items_that_lack_a_result_are_found_whatever_the_queues_say(archive: Archive) -> None:
    whole, half, jobless, failed, private = (
        archive.contribute(f"{HINDI} {number}", visibility=visibility)
        for number, visibility in enumerate([Visibility.PUBLIC] * 4 + [Visibility.PRIVATE])
    )
    assert view.count_missing(archive.admin) == {JobState.QUEUED: 5}
    enrich(whole.item_id, whole.job_ids[0], tuple(Step))
    change(whole.job_ids[0], state=JobState.DONE)
    enrich(half.item_id, half.job_ids[0], tuple(Step)[:-2])
    change(half.job_ids[0], state=JobState.DONE, finished_at=utc_now(), attempt=1)
    fail(failed.job_ids[0])
    with writing() as session:
        session.execute(delete(Job).where(Job.id == jobless.job_ids[0]))

    found = {each.item_id: each for each in view.missing(archive.admin)}

    assert set(found) == {half.item_id, jobless.item_id, failed.item_id, private.item_id}
    assert found[half.item_id].steps == tuple(Step)[-2:]
    assert found[half.item_id].job_state is JobState.DONE
    assert found[jobless.item_id].job_id is None
    assert found[jobless.item_id].steps == tuple(Step)
    assert found[failed.item_id].job_state is JobState.FAILED
    assert found[failed.item_id].owner_name == "asha"
    assert len(view.missing(archive.admin, limit=1)) == 1
    assert view.count_missing(archive.admin) == {
        None: 1, JobState.DONE: 1, JobState.FAILED: 1, JobState.QUEUED: 1,
    }  # fmt: skip

    submission = control.submit_missing(archive.admin)

    assert len(submission.job_ids) == 3
    assert (submission.live, submission.quarantined) == (1, 0)
    assert view.count_missing(archive.admin) == {JobState.QUEUED: 4}
    assert half.job_ids[0] in submission.job_ids, "it goes on after its last saved result"
    assert {job(each).lane for each in submission.job_ids} == {"ai", "ai.bulk"}
    assert control.submit_missing(archive.admin).job_ids == []


def test_what_was_set_aside_is_not_submitted_anew(archive: Archive) -> None:
    made = archive.contribute()
    set_aside(made.job_ids[0])

    submission = control.submit_missing(archive.admin)

    assert (submission.job_ids, submission.quarantined) == ([], 1)
    with reading() as session:
        assert session.scalars(select(Job.id)).all() == list(made.job_ids)


def test_every_step_of_the_enrichment_is_asked_for() -> None:
    from shared.enrichment.text import STEPS

    assert set(STEPS) == set(Step)


# The overview


def test_the_overview_tells_of_lanes_failures_and_what_was_set_aside(
    archive: Archive, redis_server: RedisServer
) -> None:
    with writing() as session:
        session.execute(update(Lane).where(Lane.name == "ai.bulk").values(window=0))
    rung = submit(archive.contributor, "rung")
    dispatch.dispatch("ai")
    running = submit(archive.contributor, "running")
    claim(running)
    delayed = submit(archive.contributor, "delayed")
    change(delayed, rung_at=None, ring_after=4e9)
    waiting = submit(archive.other, "waiting", bulk=True)
    change(waiting, created_at=utc_now() - timedelta(hours=1))
    failed = [submit(archive.contributor, f"failed {number}") for number in range(3)]
    for job_id in failed:
        fail(job_id, sentence="It broke.")
    change(failed[0], finished_at=utc_now() - timedelta(hours=25))
    aside = submit(archive.other, "aside")
    set_aside(aside)
    control.pause(archive.admin, "ai.bulk")
    client().delete("ai", "ai.bulk")
    client().lpush("ai", "one message")

    seen = view.overview(archive.admin)

    ai, bulk, speech = seen.lanes
    assert [lane.name for lane in seen.lanes] == ["ai", "ai.bulk", "speech"]
    assert (ai.queue, ai.waiting, ai.rung, ai.delayed, ai.running) == ("ai", 2, 1, 1, 1)
    assert (ai.paused, ai.messages) == (False, 1)
    assert (bulk.paused, bulk.waiting, bulk.rung, bulk.window) == (True, 1, 0, 0)
    assert bulk.oldest == pytest.approx(3600, abs=60)
    assert (speech.waiting, speech.oldest, speech.messages) == (0, None, 0)
    assert [(each.code, each.count, each.sentence) for each in seen.failures] == [
        ("broken", 2, "It broke.")
    ]
    assert {each.id for each in seen.failed} == set(failed[1:])
    assert [each.id for each in seen.quarantined] == [aside]
    assert seen.counts == {
        JobState.QUEUED: 3, JobState.RUNNING: 1, JobState.FAILED: 3, JobState.QUARANTINED: 1,
    }  # fmt: skip
    assert job(rung).rung_at is not None

    redis_server.kill()
    assert {lane.messages for lane in view.overview(archive.admin).lanes} == {None}


def test_the_overview_costs_a_handful_of_queries_and_short_lists(archive: Archive) -> None:
    rows = [
        {
            "id": new_id(), "kind": "ai.test", "queue": "ai", "lane": "ai",
            "owner_id": archive.contributor.user_id, "content_key": str(number),
            "state": state, "ring_after": 0.0, "finished_at": utc_now(),
        }
        for number, state in enumerate([JobState.FAILED, JobState.QUARANTINED] * 30)
    ]  # fmt: skip
    with writing() as session:
        session.execute(insert(Job), rows)

    with counting() as queries:
        seen = view.overview(archive.admin, limit=10)

    assert len(queries) <= 5
    assert (len(seen.failed), len(seen.quarantined)) == (10, 10)
    assert seen.failures[0].count == 30
