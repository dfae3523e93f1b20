"""Jobs as people and programs read them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session, aliased, joinedload

from shared import queue as bell
from shared.accounts.policy import Action, Actor, NotAllowed, controllable_by, may, require
from shared.accounts.users import UnknownUser, normalise_name
from shared.database.clock import database_now
from shared.database.engine import reading
from shared.database.models import (
    Enrichment,
    Item,
    Job,
    JobAttempt,
    JobState,
    Lane,
    User,
    utc_now,
)
from shared.enrichment.finding import Step
from shared.errors import Invalid, NotFound
from shared.jobs import progress
from shared.jobs.lanes import LANES, LANES_OF, lanes_named
from shared.jobs.ledger import IS_LIVE, IS_QUEUED, IS_RUNG, IS_RUNNING, IS_UNRUNG
from shared.jobs.progress import Progress
from shared.redis_client import REDIS_ERRORS, breaker

#: Characters of an id that are enough to name its job: as many as logs show.
SHORTEST_ID = 8
#: What is said about the pace of a lane is learnt from jobs that were done so lately.
RECENTLY = timedelta(minutes=10)
#: The newest of them are enough.
_SAMPLE = 200
#: Two jobs with a shorter pause between them were done without a pause: a message takes its time.
_PAUSE = timedelta(seconds=2)
#: The share of a job that has to be done before its pace says anything about the rest: the first
#: units are quick ones, and then comes a model to be loaded.
_TELLING = 0.15
#: What is said about failures goes back so far.
LATELY = timedelta(hours=24)


class JobNotFound(NotFound):
    """There is no such job, or you may not see it; signing in may help."""

    code = "job_not_found"


class JobLine(NamedTuple):
    """A job as lists show it."""

    id: str
    item_id: str | None
    kind: str
    queue: str
    lane: str
    state: JobState
    owner_id: str
    owner_name: str
    attempt: int
    cancel_requested: bool
    progress_done: int
    progress_total: int
    phase: str
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    claimed_at: datetime | None
    finished_at: datetime | None


def list_jobs(
    actor: Actor,
    *,
    states: Sequence[JobState] = (),
    kinds: Sequence[str] = (),
    queue: str | None = None,
    owner: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> Sequence[JobLine]:
    """The jobs that this person may see, newest first; a filter left out lets all pass.

    `queue` is a queue or a lane, `owner` an account's name, `since` when they were submitted;
    `limit` None means all. Raises `UnknownQueue`, `UnknownUser`, or `NotAllowed` for the jobs of
    somebody else.
    """
    with reading() as session:
        chosen = _chosen(session, actor, states, kinds, queue, owner, since)
        return _lines(session, *chosen, order=(Job.created_at.desc(), Job.id.desc()), limit=limit)


def count_jobs(
    actor: Actor,
    *,
    states: Sequence[JobState] = (),
    kinds: Sequence[str] = (),
    queue: str | None = None,
    owner: str | None = None,
    since: datetime | None = None,
) -> dict[JobState, int]:
    """How many jobs `list_jobs` would list, by state; states without jobs are left out."""
    with reading() as session:
        chosen = _chosen(session, actor, states, kinds, queue, owner, since)
        rows = session.execute(
            select(Job.state, func.count().label("jobs")).where(*chosen).group_by(Job.state)
        ).all()
    found = {row.state: int(row.jobs) for row in rows}
    return {state: found[state] for state in JobState if state in found}


def _chosen(
    session: Session,
    actor: Actor,
    states: Sequence[JobState],
    kinds: Sequence[str],
    queue: str | None,
    owner: str | None,
    since: datetime | None,
) -> list[ColumnElement[bool]]:
    chosen = [controllable_by(actor)]
    if states:
        chosen.append(Job.state.in_(states))
    if kinds:
        chosen.append(Job.kind.in_(kinds))
    if queue is not None:
        chosen.append(Job.lane.in_(lanes_named(queue)))
    if owner is not None:
        chosen.append(Job.owner_id == _owner_id(session, actor, owner))
    if since is not None:
        chosen.append(Job.created_at >= since)
    return chosen


def _owner_id(session: Session, actor: Actor, name: str) -> str:
    normal = normalise_name(name)
    if normal != actor.name and not may(actor, Action.SEE_ALL_JOBS):
        raise NotAllowed("Your account sees its own jobs only; an admin sees everybody's.")
    found = session.scalar(select(User.id).where(User.name == normal))
    if found is None:
        raise UnknownUser(f"There is no account named '{name}'.")
    return found


def _lines(
    session: Session,
    *chosen: ColumnElement[bool],
    order: Sequence[ColumnElement[Any]],
    limit: int | None,
) -> list[JobLine]:
    # Columns, not objects: of ten thousand jobs those take a second to make.
    columns = [
        User.name if field == "owner_name" else getattr(Job, field) for field in JobLine._fields
    ]
    rows = session.execute(
        select(*columns).join(User, User.id == Job.owner_id).where(*chosen)
        .order_by(*order).limit(limit)
    )  # fmt: skip
    return [JobLine._make(row) for row in rows]


def as_json(job: Job | JobLine) -> dict[str, Any]:
    """The job in the stable form that `bharatverse jobs --json` prints."""
    return {
        "id": job.id,
        "item_id": job.item_id,
        "kind": job.kind,
        "queue": job.queue,
        "state": job.state.value,
        "owner": job.owner.name if isinstance(job, Job) else job.owner_name,
        "attempt": job.attempt,
        "progress": {
            "done": job.progress_done,
            "total": job.progress_total,
            "phase": job.phase,
        },
        "error": (
            {"code": job.error_code, "message": job.error_message} if job.error_code else None
        ),
        "created_at": _iso(job.created_at),
        "started_at": _iso(job.started_at),
        "finished_at": _iso(job.finished_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


# One job


def find_id(actor: Actor, beginning: str) -> str:
    """The id of the one job that this person may see and whose id begins so.

    Raises `Invalid` when it is too short or several begin so, and `JobNotFound`.
    """
    wanted = beginning.strip().lower()
    if not set(wanted) <= set("0123456789abcdef-"):
        raise JobNotFound()  # no id: a database would refuse to look for some of these
    if len(wanted) < SHORTEST_ID:
        raise Invalid(
            f"'{wanted}' is too short for a job's id; give {SHORTEST_ID} characters or more."
        )
    with reading() as session:
        found = session.scalars(
            select(Job.id).where(Job.id.startswith(wanted), controllable_by(actor)).limit(4)
        ).all()
    if not found:
        raise JobNotFound()
    if len(found) > 1:
        raise Invalid(
            f"Several jobs begin with '{wanted}': {', '.join(sorted(found)[:3])}"
            f"{', ...' if len(found) > 3 else ''}. Give more characters."
        )
    return found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job."""

    number: int  # from 1
    worker: str | None
    outcome: str  # "running", "done", "cancelled", "handed_back", or an error's code
    message: str | None
    started_at: datetime | None
    ended_at: datetime | None  # None: it still runs

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails:
    """All that is known about one job."""

    job: Job
    progress: Progress  # with its position and the time left
    attempts: Sequence[Attempt]  # in their order, the present or last one included


def details(actor: Actor, job_id: str) -> JobDetails:
    """The job with its whole history; raises `JobNotFound`, the same for a stranger's job."""
    if not job_id.isascii() or "\0" in job_id:
        raise JobNotFound()  # no id: a database would refuse to look for it
    with reading() as session:
        job = session.scalars(
            select(Job)
            .where(Job.id == job_id, controllable_by(actor))
            .options(joinedload(Job.owner))
        ).one_or_none()
        if job is None:
            raise JobNotFound()
        ended = session.scalars(
            select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.number)
        ).all()
    return JobDetails(
        job=job,
        progress=look([job_id]).get(job_id) or progress.of(job),
        attempts=_history(job, ended),
    )


def _history(job: Job, ended: Sequence[JobAttempt]) -> list[Attempt]:
    history = [
        Attempt(
            number=each.number,
            worker=each.worker,
            outcome=each.outcome,
            message=each.message,
            started_at=each.started_at,
            ended_at=each.ended_at,
        )
        for each in ended
    ]
    # A job that waits has had its last attempt remembered, and one that was set aside, too.
    if job.attempt and job.attempt not in {each.number for each in history}:
        history.append(
            Attempt(
                number=job.attempt,
                worker=job.worker,
                outcome=job.error_code or job.state.value.lower(),
                message=job.error_message,
                started_at=job.claimed_at,
                ended_at=job.finished_at,
            )
        )
    return history


def details_as_json(found: JobDetails) -> dict[str, Any]:
    """What `bharatverse jobs show --json` prints: the job as in the list, and more."""
    return as_json(found.job) | {
        "lane": found.job.lane,
        "cancel_requested": found.job.cancel_requested,
        "position": found.progress.position,
        "seconds_left": (
            None if found.progress.seconds_left is None else round(found.progress.seconds_left, 1)
        ),
        "attempts": [
            {
                "number": each.number,
                "worker": each.worker,
                "outcome": each.outcome,
                "message": each.message,
                "started_at": _iso(each.started_at),
                "ended_at": _iso(each.ended_at),
            }
            for each in found.attempts
        ],
    }


# Where jobs stand, and how long they take


def _order(session: Session, lane: str) -> dict[str, int]:
    """The place of every job that waits in this lane, from 1.

    Rung jobs go before the others, then turns, then who came first, as dispatch hands them out.
    What waits for its next try stands in no queue. Two walks along an index, and no sorting.
    """
    order = (Job.turn, Job.created_at)
    rung = session.scalars(select(Job.id).where(IS_RUNG, Job.lane == lane).order_by(*order)).all()
    due = (IS_UNRUNG, Job.lane == lane, Job.ring_after <= database_now())
    unrung = session.scalars(select(Job.id).where(*due).order_by(*order)).all()
    return {job_id: place for place, job_id in enumerate([*rung, *unrung], start=1)}


class _Places:
    """The order of a lane, shared by all sessions of this process that look at it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, dict[str, int]]] = {}

    def of(
        self, session: Session, lane: str, *, waiting: Set[str], max_age: float
    ) -> dict[str, int]:
        """The places in this lane; anew, too, when one of those that wait is not among them."""
        with self._lock:
            seen, places = self._known.get(lane, (0.0, {}))
            if time.monotonic() - seen > max_age or not waiting <= places.keys():
                places = _order(session, lane)
                self._known[lane] = (time.monotonic(), places)
            return places


_places = _Places()


def look(job_ids: Sequence[str], *, max_age: float = 0.0) -> dict[str, Progress]:
    """The progress of these jobs by id, with position and time left; an unknown id is left out.

    For pages: one MGET and one query, and a few for each lane in which one of them waits; what
    these say of a lane's order may be `max_age` seconds old, so that many readers of a long queue
    ask once. The ledger says in which state they are, Redis how far the running ones have got
    since.
    """
    if not job_ids:
        return {}
    fresh = progress.from_redis(job_ids)
    heard = not breaker.is_open  # else nobody works on what waits
    with reading() as session:
        rows = session.execute(
            select(
                Job.id, Job.state, Job.lane, Job.attempt, Job.claimed_at, Job.cancel_requested,
                Job.progress_done, Job.progress_total, Job.phase, Job.error_message,
                Lane.paused, (Job.ring_after <= database_now()).label("is_due"),
            )
            .outerjoin(Lane, Lane.name == Job.lane)
            .where(Job.id.in_(job_ids))
        ).all()  # fmt: skip
        waiting: dict[str, set[str]] = {}
        for row in rows:
            if row.state is JobState.QUEUED:
                waiting.setdefault(row.lane, set()).update([row.id] if row.is_due else [])
        places = {
            lane: _places.of(session, lane, waiting=ids, max_age=max_age)
            for lane, ids in waiting.items()
        }
        paces = {lane: _pace(session, lane) for lane in waiting}
    seen = {}
    for row in rows:
        place = places[row.lane].get(row.id) if row.state is JobState.QUEUED else None
        job = progress.of(row, position=place)
        if job.state is JobState.RUNNING and row.id in fresh:
            now = fresh[row.id]
            job = replace(job, done=now.done, total=now.total, phase=now.phase)
        if job.state is JobState.RUNNING:
            job = replace(job, seconds_left=_time_left(job, row.attempt, row.claimed_at))
        elif job.state is JobState.QUEUED:
            pace = paces.get(row.lane)
            left = None
            if pace is not None and job.position is not None and not row.paused and heard:
                left = pace.until(job.position)
            job = replace(job, is_paused=bool(row.paused), seconds_left=left)
        seen[row.id] = job
    return {job_id: seen[job_id] for job_id in job_ids if job_id in seen}


def _time_left(job: Progress, attempt: int, claimed_at: datetime | None) -> float | None:
    """Seconds, if it goes on as it went until now.

    A later attempt goes on from what an earlier one saved, so its time says nothing about the
    whole.
    """
    if attempt != 1 or claimed_at is None or not _TELLING <= job.fraction <= 1:
        return None
    worked = max(0.0, (utc_now() - claimed_at).total_seconds())
    return worked * (1 - job.fraction) / job.fraction


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a lane has gone lately."""

    seconds: float  # from one job's end to the next one's, while there was work
    length: float  # seconds that one job takes

    def until(self, position: int) -> float:
        """Seconds until the job at this position, from 1, is done."""
        return (position - 1) * self.seconds + self.length


def _pace(session: Session, lane: str) -> Pace | None:
    rows = session.execute(
        select(Job.claimed_at, Job.finished_at)
        .where(
            Job.state == JobState.DONE,
            Job.finished_at >= utc_now() - RECENTLY,
            Job.lane == lane,
            Job.claimed_at.is_not(None),
        )
        .order_by(Job.finished_at.desc())
        .limit(_SAMPLE)
    ).all()
    return pace_of([(row.claimed_at, row.finished_at) for row in rows])


def pace_of(spans: Sequence[tuple[datetime, datetime]]) -> Pace | None:
    """The pace of jobs that were worked on in these spans; None without any.

    Only time in which somebody worked counts, whatever the number of workers.
    """
    if not spans:
        return None
    busy = length = timedelta()
    until = min(begin for begin, _ in spans)
    for begin, end in sorted(spans):
        length += max(end - begin, timedelta())
        idle = begin - until if begin - until > _PAUSE else timedelta()
        if end > until:
            busy += end - until - idle
            until = end
    return Pace(busy.total_seconds() / len(spans), length.total_seconds() / len(spans))


# What operators look at


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An item that lacks a result that it should have."""

    item_id: str
    owner_name: str
    steps: tuple[Step, ...]  # those without a result
    job_id: str | None  # its newest job
    job_state: JobState | None


def missing(actor: Actor, *, limit: int | None = None) -> Sequence[Missing]:
    """Items that lack a result, whatever the queues say, oldest first; raises `NotAllowed`."""
    require(actor, Action.OPERATE)
    with reading() as session:
        rows = session.execute(
            _incomplete(Item.id, User.name, Job.id.label("job_id"), Job.state)
            .join(User, User.id == Item.owner_id)
            .order_by(Item.created_at, Item.id)
            .limit(limit)
        ).all()
        known: dict[str, set[str]] = {}
        ids = [row.id for row in rows]
        for start in range(0, len(ids), 500):  # below the limits on parameters
            for found in session.execute(
                select(Enrichment.item_id, Enrichment.step).where(
                    Enrichment.item_id.in_(ids[start : start + 500])
                )
            ):
                known.setdefault(found.item_id, set()).add(found.step)
    return [
        Missing(
            item_id=row.id,
            owner_name=row.name,
            steps=tuple(step for step in Step if step.value not in known.get(row.id, ())),
            job_id=row.job_id,
            job_state=row.state,
        )
        for row in rows
    ]


def missing_as_json(item: Missing) -> dict[str, Any]:
    """The item in the form that `bharatverse jobs missing --json` prints."""
    return {
        "id": item.item_id,
        "owner": item.owner_name,
        "missing": [step.value for step in item.steps],
        "job": (
            None
            if item.job_id is None or item.job_state is None
            else {"id": item.job_id, "state": item.job_state.value}
        ),
    }


def count_missing(actor: Actor) -> dict[JobState | None, int]:
    """How many items `missing` would list, by the state of their newest job."""
    require(actor, Action.OPERATE)
    with reading() as session:
        rows = session.execute(
            _incomplete(Job.state, func.count().label("items")).group_by(Job.state)
        )
        return {row.state: int(row.items) for row in rows}


def _incomplete(*columns: Any) -> Select[Any]:
    """Of `Item` without all its results, joined with its newest `Job`."""
    complete = (
        select(Enrichment.item_id)
        .where(Enrichment.step.in_([step.value for step in Step]))
        .group_by(Enrichment.item_id)
        .having(func.count(Enrichment.step.distinct()) == len(Step))
    )
    jobs = aliased(Job)
    newest = (
        select(jobs.id)
        .where(jobs.item_id == Item.id)
        .order_by(jobs.created_at.desc(), jobs.id.desc())
        .limit(1)
        .correlate(Item)
        .scalar_subquery()
    )
    return (
        select(*columns)
        .select_from(Item)
        .outerjoin(Job, Job.id == newest)
        .where(Item.id.not_in(complete))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """A lane as operators see it."""

    name: str
    queue: str
    paused: bool
    window: int
    waiting: int  # all QUEUED, of which:
    rung: int  # have a message in Redis
    delayed: int  # wait for their next try
    running: int
    oldest: float | None  # seconds that the oldest of the waiting ones has waited
    messages: int | None  # in Redis; None while it is away


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How often something went wrong lately."""

    code: str
    count: int
    sentence: str  # of one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The work of the whole archive at one moment."""

    lanes: Sequence[LaneView]
    counts: Mapping[JobState, int]
    failures: Sequence[Failures]  # of the last 24 hours, the most frequent first
    failed: Sequence[JobLine]  # of the last 24 hours, the newest first
    quarantined: Sequence[JobLine]  # the newest first


def overview(actor: Actor, *, limit: int = 20) -> Overview:
    """What admins watch, `limit` jobs of each list; raises `NotAllowed`."""
    require(actor, Action.OPERATE)
    since = utc_now() - LATELY
    failed_lately = and_(Job.state == JobState.FAILED, Job.finished_at >= since)
    by_end: list[Any] = [Job.finished_at.desc(), Job.id]
    with reading() as session:
        lanes = _lanes(session)
        counts = session.execute(
            select(Job.state, func.count().label("jobs")).group_by(Job.state)
        ).all()
        failures = session.execute(
            select(
                Job.error_code,
                func.count().label("jobs"),
                func.max(Job.error_message).label("sentence"),
            )
            .where(failed_lately)
            .group_by(Job.error_code)
            .order_by(func.count().desc(), Job.error_code)
        ).all()
        failed, quarantined = (
            select(Job.id).where(which).order_by(*by_end).limit(limit).subquery()
            for which in (failed_lately, Job.state == JobState.QUARANTINED)
        )
        bad = _lines(
            session,
            or_(Job.id.in_(select(failed)), Job.id.in_(select(quarantined))),
            order=by_end,
            limit=None,
        )
    return Overview(
        lanes=lanes,
        counts={row.state: int(row.jobs) for row in counts},
        failures=[
            Failures(
                code=row.error_code or "unknown", count=int(row.jobs), sentence=row.sentence or ""
            )
            for row in failures
        ],
        failed=[job for job in bad if job.state is JobState.FAILED],
        quarantined=[job for job in bad if job.state is JobState.QUARANTINED],
    )


def _lanes(session: Session) -> list[LaneView]:
    def number(which: ColumnElement[bool]) -> ColumnElement[int]:
        return func.count().filter(which)

    live = (
        select(
            Job.lane,
            number(IS_QUEUED).label("waiting"),
            number(IS_RUNG).label("rung"),
            number(and_(IS_UNRUNG, Job.ring_after > database_now())).label("delayed"),
            number(IS_RUNNING).label("running"),
            # What is tried again has waited since it was last worked on.
            func.min(func.coalesce(Job.claimed_at, Job.created_at))
            .filter(IS_QUEUED)
            .label("oldest"),
        )
        .where(IS_LIVE)
        .group_by(Job.lane)
        .subquery()
    )
    rows = session.execute(
        select(Lane.name, Lane.paused, Lane.window, *live.c).outerjoin(
            live, live.c.lane == Lane.name
        )
    )
    found = {row.name: row for row in rows}
    messages, now = _messages(), utc_now()
    return [
        LaneView(
            name=name,
            queue=queue,
            paused=row.paused,
            window=row.window,
            waiting=row.waiting or 0,
            rung=row.rung or 0,
            delayed=row.delayed or 0,
            running=row.running or 0,
            oldest=None if row.oldest is None else max(0.0, (now - row.oldest).total_seconds()),
            messages=None if messages is None else messages[name],
        )
        for queue, lanes in LANES_OF.items()
        for name in lanes
        if (row := found.get(name)) is not None
    ]


def _messages() -> dict[str, int] | None:
    """Messages by lane; None while Redis is away."""
    if breaker.is_open:
        return None
    try:
        depths = bell.depths()
    except REDIS_ERRORS:
        breaker.failed()
        return None
    return {lane: depths.get(lane, 0) for lane in LANES}
