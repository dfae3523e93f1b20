"""The real command `bharatverse`, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from shared.accounts import users
from shared.accounts.sign_in import sign_in
from shared.archive import files
from shared.config import ROOT, Settings
from shared.database.engine import dispose, reading, writing
from shared.database.models import (
    Enrichment,
    Item,
    Job,
    JobState,
    Role,
    User,
    Visibility,
    new_id,
    utc_now,
)
from shared.database.schema import HEAD, migrate
from shared.jobs import ledger
from shared.observability import canary
from shared.queue import QUEUES
from tests.conftest import HINDI, TAMIL, Archive
from tests.servers import RedisServer, free_port

#: For what does not depend on the kind of database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

SECRET = "open-sesame"  # stands in URLs as a password, and must never be shown


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that is all of stdout."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        return self.out + self.err


class Command:
    """A command that runs; two at the same time use two cores."""

    def __init__(self, *arguments: str | Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ui.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def end(self) -> Ended:
        try:
            out, err = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        ended = Ended(self._process.returncode, out, err)
        assert "Traceback" not in ended.all, ended.all
        assert SECRET not in ended.all
        return ended


def run(*arguments: str | Path, **environment: str) -> Ended:
    return Command(*arguments, **environment).end()


def run_all(*commands: Sequence[str | Path], **environment: str) -> list[Ended]:
    """All of these at the same time."""
    return [command.end() for command in [Command(*each, **environment) for each in commands]]


def count(table: type[Item] | type[Job]) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def write(path: Path, content: str | bytes = HINDI) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# import


def test_a_batch_goes_on_after_each_bad_file_and_tells_of_every_file_in_order(
    archive: Archive, tmp_path: Path
) -> None:
    folder = tmp_path / "stories"
    bad = {
        "b-latin.txt": b"caf\xe9",
        "c-empty.txt": b" \n",
        "d-large.txt": b"a" * 10_000_000,
        "e-nul.txt": b"a\0b",
        "f-override.txt": "abc\u202edef".encode(),
        "g-marks.txt": ("a" + "\u0301" * 10_000).encode(),
    }
    good = {
        "a-hindi.txt": HINDI.encode(),
        "h-html.md": b"# <b>Title</b>\n<script>alert(1)</script>",
        "i-windows.txt": b"\xef\xbb\xbf" + TAMIL.encode(),
        "sub/j-last.txt": b"English",
    }
    for name, content in (bad | good).items():
        write(folder / name, content)
    (folder / "k-loop.txt").symlink_to(folder / "k-loop.txt")
    os.mkfifo(folder / "l-pipe.txt")
    order = files.find([folder])

    first = run("import", folder, "--json")
    again = run("import", folder, tmp_path / "gone.txt", "--json")

    assert (first.status, first.err) == (1, "")
    entries = first.document["items"]
    assert list(first.document) == ["items"]
    assert [set(entry) for entry in entries] == [{"id", "title", "language", "jobs", "error"}] * 12
    named = {path.name: entry for path, entry in zip(order, entries, strict=True)}
    for name in (*bad, "k-loop.txt", "l-pipe.txt"):
        assert (named[name]["id"], named[name]["jobs"]) == (None, []), name
        assert len(named[name]["error"]) > 20, name
    for name in good:
        entry = named[Path(name).name]
        assert (entry["error"], len(entry["jobs"])) == (None, 1), name
        with reading() as session:
            assert session.get_one(Job, entry["jobs"][0]).item_id == entry["id"]
    assert named["h-html.md"]["title"] == "<b>Title</b>"
    assert count(Item) == count(Job) == len(good)

    assert again.status == 1
    assert again.document["items"][:-1] == entries, "nothing is made twice"
    assert "gone.txt cannot be read" in again.document["items"][-1]["error"]
    assert count(Item) == len(good)


@on_sqlite
def test_an_import_for_people_shows_progress_on_stderr_and_what_became_of_each(
    archive: Archive, tmp_path: Path
) -> None:
    good, wrong = write(tmp_path / "राजा.txt"), write(tmp_path / "wrong.txt", b"\xff")

    ended, clean = run_all(
        ["import", good, wrong, "--language", "hi", "--visibility", "members"],
        ["import", write(tmp_path / "clean.txt", TAMIL)],
    )

    assert ended.status == 1
    assert "Importing" in ended.err
    assert f"{wrong}: The file is not UTF-8 text (byte 1" in ended.err
    assert "1 saved, 0 already here, 1 not taken." in ended.out
    assert "hi  राजा" in ended.out
    with reading() as session:
        item = session.scalars(select(Item).where(Item.title == "राजा")).one()
        assert session.get_one(User, item.owner_id).name == "operator"
    assert (item.visibility, item.declared_language) == (Visibility.MEMBERS, "hi")
    assert clean.status == 0
    assert "bharatverse jobs" in clean.out


@on_sqlite
def test_what_cannot_be_done_is_said_on_stderr_and_changes_nothing(
    archive: Archive, tmp_path: Path
) -> None:
    story = write(tmp_path / "story.txt")
    empty = tmp_path / "empty"
    empty.mkdir()

    nothing, language, unknown, reader, item, odd_item, odd_file = run_all(
        ["import", empty, "--json"],
        ["import", story, "--language", "xx", "--json"],
        ["--as", "nobody", "import", story],
        ["--as", "mira", "import", story, "--json"],
        ["item", new_id(), "--json"],
        ["item", "\udcff", "--json"],
        ["import", tmp_path / "caf\udce9.txt", "--json"],
    )

    for ended in (nothing, language, unknown, item, odd_item):
        assert ended.status == 1
        assert ended.out == ""
        assert ended.err.startswith("Error: ")
    assert f".txt or .md file in {empty}" in nothing.err
    assert "'xx'" in language.err
    for code in ("hi (Hindi)", "ta (Tamil)", "sa (Sanskrit)", "en (English)"):
        assert code in language.err
    assert "no account named 'nobody'" in unknown.err
    assert "no such item, or you may not see it" in item.err
    assert odd_item.err == item.err
    assert reader.status == 1
    assert "ask an admin" in reader.document["items"][0]["error"]
    assert odd_file.status == 1
    assert "caf?.txt cannot be read" in odd_file.document["items"][0]["error"]
    assert count(Item) == 0


# item and jobs


def test_item_and_jobs_have_exactly_the_fields_that_programs_rely_on(archive: Archive) -> None:
    made = archive.contribute(title="दीपावली <b>", language=None)
    now = utc_now()
    with writing() as session:
        job = session.get_one(Job, made.job_ids[0])
        job.state, job.attempt, job.started_at = JobState.FAILED, 3, now
        job.finished_at = now + timedelta(seconds=1)
        job.error_code, job.error_message = "timeout", "It took too long."
        job.progress_done, job.progress_total, job.phase = 2, 7, "keywords"
        waiting = ledger.submit(
            session,
            kind="ai.enrich_text",
            owner_id=job.owner_id,
            item_id=made.item_id,
            key="another",
        )
        session.get_one(Item, made.item_id).detected_language = "hi"
        session.add(
            Enrichment(
                item_id=made.item_id, job_id=job.id, step="language", status="draft", value="hi",
                language="hi", provider="local", model="cld2", version="1", parameters={"k": 1},
                confidence=0.9, seconds=0.25,
            )
        )  # fmt: skip

    item, jobs = run_all(["item", made.item_id, "--json"], ["jobs", "--json"])

    assert {(ended.status, ended.err) for ended in (item, jobs)} == {(0, "")}
    newest, oldest = jobs.document["jobs"]
    assert list(jobs.document) == ["jobs"]
    assert oldest == {
        "id": made.job_ids[0],
        "item_id": made.item_id,
        "kind": "ai.enrich_text",
        "queue": "ai",
        "state": "FAILED",
        "owner": "asha",
        "attempt": 3,
        "progress": {"done": 2, "total": 7, "phase": "keywords"},
        "error": {"code": "timeout", "message": "It took too long."},
        "created_at": oldest["created_at"],
        "started_at": now.isoformat(timespec="milliseconds"),
        "finished_at": (now + timedelta(seconds=1)).isoformat(timespec="milliseconds"),
    }
    assert abs(datetime.fromisoformat(oldest["created_at"]) - now) < timedelta(minutes=1)
    assert newest == {
        **newest,
        "id": waiting.job_id,
        "state": "QUEUED",
        "attempt": 0,
        "progress": {"done": 0, "total": 0, "phase": ""},
        "error": None,
        "started_at": None,
        "finished_at": None,
    }
    assert set(newest) == set(oldest)
    assert item.document == {
        "id": made.item_id,
        "title": "दीपावली <b>",
        "text": HINDI,
        "language": "hi",
        "visibility": "public",
        "enrichments": [
            {
                "step": "language",
                "value": "hi",
                "language": "hi",
                "provider": "local",
                "model": "cld2",
                "version": "1",
                "parameters": {"k": 1},
                "seconds": 0.25,
                "confidence": 0.9,
                "status": "draft",
                "note": None,
            }
        ],
        "jobs": [oldest, newest],
    }
    assert "दीपावली" in item.out, "JSON for people, too: no escapes"


@on_sqlite
def test_people_read_an_item_and_the_newest_jobs_and_programs_get_all_jobs(
    archive: Archive,
) -> None:
    made = archive.contribute()
    with writing() as session:
        for number in range(60):
            ledger.submit(
                session,
                kind="ai.enrich_text",
                owner_id=archive.contributor.user_id or "",
                item_id=None,
                key=str(number),
            )

    document, words, item = run_all(["jobs", "--json"], ["jobs"], ["item", made.item_id])

    assert len(document.document["jobs"]) == 61
    assert len(words.out.splitlines()) == 50
    assert "QUEUED" in words.out.splitlines()[0]
    assert "11 older ones are not shown" in words.err
    assert item.out.startswith(f"दीपावली\nlanguage not known yet, public\n\n{HINDI}\n")
    assert made.job_ids[0] in item.out


@on_sqlite
def test_a_private_item_and_its_jobs_are_hidden_from_others(archive: Archive) -> None:
    made = archive.contribute(visibility=Visibility.PRIVATE)

    other, other_jobs, owner, owner_jobs = run_all(
        ["--as", "ravi", "item", made.item_id, "--json"],
        ["--as", "ravi", "jobs", "--json"],
        ["--as", "asha", "item", made.item_id, "--json"],
        ["--as", "ASHA", "jobs", "--json"],
    )

    assert (other.status, other.out) == (1, "")
    assert "no such item, or you may not see it" in other.err
    assert other_jobs.document == {"jobs": []}
    assert owner.document["visibility"] == "private"
    assert owner_jobs.document["jobs"] == owner.document["jobs"]


# jobs: filters and acts


def submit(archive: Archive, key: str, *, bulk: bool = False) -> str:
    with writing() as session:
        return ledger.submit(
            session,
            kind="ai.enrich_text",
            owner_id=archive.contributor.user_id or "",
            item_id=None,
            key=key,
            bulk=bulk,
        ).job_id


def end(job_id: str, state: JobState) -> None:
    held = ledger.claim(job_id, worker="worker-ai@host:1")
    assert held is not None
    with writing() as session:
        ledger.fail(session, held, code="broken", sentence="It broke.")
        session.execute(update(Job).where(Job.id == job_id).values(state=state))


@on_sqlite
def test_jobs_are_filtered_in_the_terminal(archive: Archive) -> None:
    waiting, bulk, failed = (
        submit(archive, "a"),
        submit(archive, "b", bulk=True),
        submit(archive, "c"),
    )
    end(failed, JobState.FAILED)

    def listed(ended: Ended) -> set[str]:
        assert ended.status == 0, ended.all
        return {job["id"] for job in ended.document["jobs"]}

    by_state, by_queue, by_owner, both, recent, later, nobody = run_all(
        ["jobs", "--state", "failed", "--state", "DONE", "--json"],
        ["jobs", "--queue", "ai.bulk", "--json"],
        ["jobs", "--owner", "ASHA", "--kind", "ai.enrich_text", "--since", "2h", "--json"],
        ["jobs", "--state", "queued", "--queue", "ai", "--json"],
        ["jobs", "--since", "2020-01-31", "--json"],
        ["jobs", "--since", "2999-01-31T10:00+05:30", "--json"],
        ["jobs", "--owner", "ravi"],
    )

    assert listed(by_state) == {failed}
    assert listed(by_queue) == {bulk}
    assert listed(by_owner) == listed(recent) == {waiting, bulk, failed}
    assert listed(both) == {waiting, bulk}
    assert listed(later) == set()
    assert nobody.out == "There are no such jobs.\n"


@on_sqlite
def test_wrong_input_about_jobs_is_told_with_what_would_be_right(archive: Archive) -> None:
    usage = [
        (["jobs", "--state", "lost"], "'queued'"),
        (["jobs", "--since", "yesterday"], "30m, 2h or 1d"),
        (["jobs", "--since", "9" * 6 + "d"], "30m, 2h or 1d"),
        (["jobs", "--json", "show", "x"], "cannot stand before 'show'"),
        (["jobs", "release"], "--all"),
        (["jobs", "release", "--all", "x"], "--all"),
        (["jobs", "cancel"], "ID..."),
        (["jobs", "frob"], "frob"),
    ]
    wrong = [
        (["jobs", "--queue", "nope"], "the queues are ai, speech"),
        (["jobs", "--kind", "nope.x"], "the queues are ai, speech"),
        (["jobs", "--owner", "nobody"], "no account named 'nobody'"),
        (["--as", "asha", "jobs", "--owner", "ravi"], "its own jobs only"),
        (["jobs", "show", "abc"], "8 characters"),
        (["jobs", "show", "\udcff" * 9], "no such job"),
        (["jobs", "pause", "nope"], "their lanes are ai, ai.bulk, speech"),
        (["--as", "asha", "jobs", "pause", "ai"], "ask an admin"),
        (["--as", "asha", "jobs", "missing"], "ask an admin"),
        (["--as", "asha", "jobs", "release", "--all"], "ask an admin"),
    ]

    ended = run_all(*(arguments for arguments, _ in usage + wrong))

    for place, ((arguments, words), each) in enumerate(zip(usage + wrong, ended, strict=True)):
        assert each.out == "", arguments
        assert words in each.err, arguments
        assert each.status == (2 if place < len(usage) else 1), arguments


@on_sqlite
def test_jobs_are_cancelled_and_retried_by_the_beginnings_of_their_ids(archive: Archive) -> None:
    waiting, failed, aside = (submit(archive, key) for key in "abc")
    end(failed, JobState.FAILED)
    end(aside, JobState.QUARANTINED)

    stranger = run("--as", "ravi", "jobs", "cancel", waiting)
    cancelled = run("--as", "asha", "jobs", "cancel", waiting[:8], "12345678", failed[:12])
    retried = run("jobs", "retry", waiting[:8], failed, aside)
    released = run("jobs", "release", "--all")
    again = run("jobs", "release", "--all")

    assert (stranger.status, stranger.out) == (1, "")
    assert "no such job, or you may not see it" in stranger.err
    assert cancelled.status == 1
    assert cancelled.out == f"{waiting}  Cancelled.\n"
    assert "12345678: There is no such job" in cancelled.err
    assert f"{failed[:12]}: This job has failed already." in cancelled.err
    assert retried.status == 1
    assert retried.out.split()[0] == waiting
    assert failed in retried.out
    assert f"bharatverse jobs release {aside[:8]}" in retried.err
    assert (released.status, released.err) == (0, "")
    assert aside in released.out
    assert again.out == "No job is set aside.\n"
    with reading() as session:
        states = set(session.scalars(select(Job.state)))
    assert states == {JobState.QUEUED}


@on_sqlite
def test_a_job_is_shown_with_its_whole_history(archive: Archive) -> None:
    first, job_id = submit(archive, "a"), submit(archive, "b")
    end(job_id, JobState.FAILED)
    retried = run("jobs", "retry", job_id)
    assert retried.status == 0

    words, document, other, before = run_all(
        ["jobs", "show", job_id[:8]],
        ["--as", "asha", "jobs", "show", job_id, "--json"],
        ["--as", "ravi", "jobs", "show", job_id],
        ["jobs", "show", first],
    )

    assert words.status == 0
    assert words.out.startswith(f"{job_id}  QUEUED")
    assert "2nd in the queue" in words.out
    assert "worker-ai@host:1" in words.out
    assert "It broke." in words.out
    assert "No worker has taken it yet." in before.out
    assert (other.status, other.out) == (1, "")
    shown = document.document
    assert (shown["id"], shown["state"], shown["lane"]) == (job_id, "QUEUED", "ai")
    assert (shown["position"], shown["seconds_left"]) == (2, None)
    (attempt,) = shown["attempts"]
    assert set(attempt) == {
        "number", "worker", "outcome", "message", "started_at", "ended_at",
    }  # fmt: skip
    assert (attempt["number"], attempt["outcome"]) == (1, "broken")
    assert attempt["started_at"] <= attempt["ended_at"]


@on_sqlite
def test_queues_are_paused_and_resumed_in_the_terminal(archive: Archive) -> None:
    paused = run("jobs", "pause", "ai")
    assert (paused.status, paused.err) == (0, "")
    assert "Paused: ai, ai.bulk." in paused.out
    job_id = submit(archive, "a")
    assert ledger.claim(job_id, worker="w") is None
    assert "its queue is paused" in run("jobs", "show", job_id).out

    resumed = run("jobs", "resume", "ai")

    assert resumed.out == "Resumed: ai, ai.bulk.\n"
    assert ledger.claim(job_id, worker="w") is not None


@on_sqlite
def test_items_without_their_results_are_listed_and_submitted(archive: Archive) -> None:
    made = archive.contribute()
    end(made.job_ids[0], JobState.FAILED)

    words, document = run_all(["jobs", "missing"], ["jobs", "missing", "--json"])
    submitted = run("jobs", "missing", "--submit")
    again = run("jobs", "missing", "--submit", "--json")

    assert made.item_id in words.out
    assert "1 item lacks a result." in words.out
    (item,) = document.document["items"]
    assert (item["id"], item["owner"]) == (made.item_id, "asha")
    assert item["job"] == {"id": made.job_ids[0], "state": "FAILED"}
    assert "language" in item["missing"]
    assert "1 job submitted" in submitted.out
    assert again.document["submitted"] == []
    assert again.document["items"][0]["job"]["state"] == "QUEUED"


# migrate and users


def test_migrate_makes_schema_and_accounts_once_and_shows_no_password(
    configure: Callable[..., Settings],
) -> None:
    configure()

    first, again = run("migrate"), run("migrate")

    password = users.first_admin_file().read_text().strip()
    assert (first.status, first.err) == (again.status, again.err) == (0, "")
    assert f"The database has schema {HEAD}." in first.out
    assert str(users.first_admin_file()) in first.out
    assert password not in first.out + again.out
    assert "First admin" not in again.out
    assert sign_in(name="admin", password=password)[1].role is Role.ADMIN


@on_sqlite
def test_accounts_are_made_reset_and_listed_by_the_operator_only(archive: Archive) -> None:
    made, refused, reset, listed = [
        run("users", "add", "Leela", "--role", "reviewer"),
        *run_all(
            ["--as", "asha", "users", "add", "another", "--role", "admin"],
            ["users", "reset-password", "ASHA"],
            ["users", "list"],
        ),
    ]

    for ended, name in [(made, "leela"), (reset, "asha")]:
        one_time = ended.out.split("'")[-2]
        assert sign_in(name=name, password=one_time)[2], "it has to be changed"
    assert (refused.status, refused.out) == (1, "")
    assert "ask an admin" in refused.err
    names = [line.split()[0] for line in listed.out.splitlines()]
    assert names == ["admin", "asha", "leela", "mira", "operator", "ravi"]


# status and doctor


@on_sqlite
def test_status_and_doctor_say_when_all_is_well(archive: Archive) -> None:
    archive.contribute()
    for queue in QUEUES:
        canary.note_task_passed(queue)

    status, doctor, words = run_all(["status", "--json"], ["doctor", "--json"], ["status"])

    assert (status.status, status.err) == (0, "")
    assert status.document["ready"] is True
    assert status.document["jobs"] == {"QUEUED": 1}
    assert list(status.document) == ["ready", "ui", "flower", "home", "jobs", "checks"]
    assert list(doctor.document) == ["ok", "configured", "checks"]
    seen = {check["name"]: check["ok"] for check in doctor.document["checks"]}
    assert seen.pop("local models") is doctor.document["ok"] is (doctor.status == 0)
    assert set(seen.values()) == {True}
    assert doctor.document["configured"]["redis"] == archive.settings.redis_url
    assert "1 queued" in words.out
    assert "NO" not in words.out


@on_sqlite
def test_without_redis_the_terminal_says_so_and_still_takes_contributions(
    archive: Archive, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.kill()

    status, doctor, made = run_all(
        ["status", "--json"], ["doctor"], ["import", write(tmp_path / "a.txt")]
    )

    assert status.status == doctor.status == 1
    assert status.document["ready"] is False
    assert "Redis does not answer" in doctor.out
    assert "correct REDIS_URL" in doctor.out
    assert f" {redis_server.url}\n" in doctor.out
    assert made.status == 0
    assert "1 saved" in made.out
    assert count(Item) == 1


@on_sqlite
def test_a_wrong_redis_url_costs_seconds_and_no_contribution(
    archive: Archive, tmp_path: Path
) -> None:
    started = time.monotonic()
    doctor, made = run_all(
        ["doctor"],
        ["import", write(tmp_path / "a.txt"), "--json"],
        REDIS_URL=f"redis://:{SECRET}@no.such.host.invalid:6379/0",
    )

    assert time.monotonic() - started < 20
    assert "correct REDIS_URL" in doctor.out
    assert "redis://:***@no.such.host.invalid:6379/0" in doctor.out
    assert (made.status, doctor.status) == (0, 1)
    assert made.document["items"][0]["error"] is None
    assert count(Item) == 1


@on_sqlite
def test_a_wrong_database_url_is_told_by_every_command(archive: Archive, tmp_path: Path) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/none"

    status, doctor, made, migration = run_all(
        ["status", "--json"],
        ["doctor"],
        ["import", write(tmp_path / "a.txt"), "--json"],
        ["migrate"],
        DATABASE_URL=url,
    )

    assert {ended.status for ended in (status, doctor, made, migration)} == {1}
    database = next(check for check in status.document["checks"] if check["name"] == "database")
    assert "database does not answer" in database["detail"]
    assert "correct DATABASE_URL" in database["remedy"]
    assert "postgresql+psycopg2://me:***@127.0.0.1" in doctor.out
    for ended in (made, migration):
        assert ended.out == ""
        assert ended.err.startswith("Error: The database does not answer")


@on_sqlite
def test_invalid_settings_stop_every_command_with_their_names(archive: Archive) -> None:
    several, home, url = [
        command.end()
        for command in (
            Command("status", "--json", BATCH_SIZE="ten", UI_PORT="0"),
            Command("jobs", BHARATVERSE_HOME="/dev/null/home"),
            Command("doctor", "--json", DATABASE_URL=f"mysql://me:{SECRET}@h/n"),
        )
    ]

    for ended in (several, home, url):
        assert (ended.status, ended.out) == (1, "")
        assert ended.err.startswith("Error: ")
    assert "BATCH_SIZE is 'ten' (from the environment), but it must be" in several.err
    assert "UI_PORT is '0'" in several.err
    assert "BHARATVERSE_HOME is '/dev/null/home'" in home.err
    assert "DATABASE_URL is 'mysql://me:***@h/n'" in url.err


@on_sqlite
def test_a_database_without_schema_or_of_a_newer_one_is_told_with_what_to_do(
    archive: Archive, tmp_path: Path
) -> None:
    with writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    migration, doctor = run_all(["migrate"], ["doctor"])
    made = run(
        "import", write(tmp_path / "a.txt"), "--json", BHARATVERSE_HOME=str(tmp_path / "new")
    )

    assert (migration.status, migration.out) == (1, "")
    assert f"its schema is 9999, this version knows up to {HEAD}" in migration.err
    assert doctor.status == 1
    assert "written by a newer BharatVerse" in doctor.out
    assert "bharatverse migrate" not in doctor.out
    assert (made.status, made.out) == (1, "")
    assert "run `bharatverse migrate`" in made.err


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes; skips, with the reason, where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a full disk cannot be made here: there is no `mount`")
    if mounted.returncode:
        pytest.skip(f"a full disk cannot be made here: {mounted.stderr.strip()}")
    yield disk
    dispose()
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def test_a_full_disk_is_told_saves_no_half_and_works_again_with_room(
    configure: Callable[..., Settings],
    redis_server: RedisServer,
    small_disk: Path,
    tmp_path: Path,
) -> None:
    configure(BHARATVERSE_HOME=str(small_disk / "home"), REDIS_URL=redis_server.url)
    migrate()
    users.create_first_accounts()
    dispose()
    stories = [write(tmp_path / f"{number}.txt", HINDI * 500) for number in range(2)]
    ballast = fill(small_disk)

    full, doctor = run_all(["import", *stories, "--json"], ["doctor"])

    assert full.status == 1
    assert doctor.status == 1
    assert "0 MB free" in doctor.out
    if full.out:  # it could still read who the operator is
        assert {entry["id"] for entry in full.document["items"]} == {None}
        told = [entry["error"] for entry in full.document["items"]]
    else:
        told = [full.err]
    for sentence in told:
        assert "The archive's disk is full; nothing was changed. Free some space" in sentence

    ballast.unlink()
    assert count(Item) == count(Job) == 0
    again = run("import", *stories, "--json")
    assert again.status == 0, again.all
    assert count(Item) == count(Job) == 2


def test_a_disk_that_fills_up_during_an_import_keeps_whole_items_only(
    configure: Callable[..., Settings],
    redis_server: RedisServer,
    small_disk: Path,
    tmp_path: Path,
) -> None:
    configure(BHARATVERSE_HOME=str(small_disk / "home"), REDIS_URL=redis_server.url)
    migrate()
    users.create_first_accounts()
    stories = [write(tmp_path / f"{number:02}.txt", "अ" * 160_000) for number in range(20)]

    ended = run("import", *stories, "--json")

    entries = ended.document["items"]
    saved = [entry for entry in entries if entry["id"]]
    assert ended.status == 1
    assert 0 < len(saved) < len(entries)
    assert {entry["error"] for entry in entries if not entry["id"]} == {
        "The archive's disk is full; nothing was changed. Free some space, then try again."
    }
    with reading() as session:
        assert set(session.scalars(select(Item.id))) == {entry["id"] for entry in saved}
        assert set(session.scalars(select(Job.item_id))) == {entry["id"] for entry in saved}
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
