"""The tables.

Times are UTC; leases are seconds by the database's clock (see `clock.py`).
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Enum,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def new_id() -> str:
    """A random id (UUID 4): ids stand in addresses, and must not tell how many there are."""
    return str(uuid.uuid4())


def utc_now() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite, which knows no zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Role(StrEnum):
    """What an account may do; see `shared/accounts/policy.py`."""

    READER = "reader"  #: reads what members may read
    CONTRIBUTOR = "contributor"  #: also contributes
    REVIEWER = "reviewer"  #: also judges what AI and others wrote
    ADMIN = "admin"  #: also manages accounts and jobs


class Visibility(StrEnum):
    """Who may see an item."""

    PUBLIC = "public"  #: everyone
    MEMBERS = "members"  #: everyone with an account
    PRIVATE = "private"  #: only its owner


class JobState(StrEnum):
    """QUEUED <-> RUNNING -> DONE | FAILED | CANCELLED | QUARANTINED."""

    QUEUED = "QUEUED"  #: saved; a worker will claim it
    RUNNING = "RUNNING"  #: claimed by a worker that renews its lease
    DONE = "DONE"  #: its results are in the database
    FAILED = "FAILED"  #: it ended with an error that trying again does not mend
    CANCELLED = "CANCELLED"  #: a person stopped it
    QUARANTINED = "QUARANTINED"  #: its worker died with it too often


#: States in which a job still has work before it.
LIVE = (JobState.QUEUED, JobState.RUNNING)


def _stored_as_text(members: type[StrEnum]) -> Enum:
    return Enum(
        members,
        native_enum=False,
        length=20,
        values_callable=lambda enum: [member.value for member in enum],
    )


class Base(DeclarativeBase):
    """Every table; enums are stored as text, so that adding a member needs no migration."""

    # Named constraints can be changed by later migrations on every database.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's declared attribute
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        Role: _stored_as_text(Role),
        Visibility: _stored_as_text(Visibility),
        JobState: _stored_as_text(JobState),
    }


class User(Base):
    """An account."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64), unique=True)  # signs in with it; lower case
    role: Mapped[Role]
    password_hash: Mapped[str | None] = mapped_column(String(255))  # None: cannot sign in
    must_change_password: Mapped[bool] = mapped_column(default=False)
    failed_sign_ins: Mapped[int] = mapped_column(default=0)  # since the last success
    locked_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class SignIn(Base):
    """A signed-in browser; the cookie holds the token, this table only its hash."""

    __tablename__ = "sign_ins"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Item(Base):
    """A contribution: what a person gave to the archive, never changed by AI."""

    __tablename__ = "items"
    __table_args__ = (
        # A double click, or the same file imported again, finds the item it made the first time.
        UniqueConstraint("owner_id", "submission_key"),
        Index(None, "visibility", "created_at"),
        Index(None, "owner_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    submission_key: Mapped[str] = mapped_column(String(64), default=new_id)
    title: Mapped[str] = mapped_column(String(200))
    text: Mapped[str] = mapped_column(Text)
    text_sha256: Mapped[str] = mapped_column(String(64))
    declared_language: Mapped[str | None] = mapped_column(String(8))  # by the contributor
    detected_language: Mapped[str | None] = mapped_column(String(8))  # by AI; a draft
    visibility: Mapped[Visibility]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    owner: Mapped[User] = relationship()

    @property
    def language(self) -> str | None:
        """ISO 639-1 code: what the contributor said, else what was detected, else None."""
        return self.declared_language or self.detected_language


class Draft(Base):
    """What a person is writing in one tab and has not contributed yet."""

    __tablename__ = "drafts"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    submission_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text, default="")
    language: Mapped[str | None] = mapped_column(String(8))
    visibility: Mapped[Visibility] = mapped_column(default=Visibility.PUBLIC)
    saved_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)


class Enrichment(Base):
    """One thing that AI found out about an item, with its provenance."""

    __tablename__ = "enrichments"
    __table_args__ = (
        # A step's result is saved once a job, however often the job is tried.
        UniqueConstraint("job_id", "step"),
        Index(None, "item_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    item_id: Mapped[str] = mapped_column(ForeignKey("items.id", ondelete="CASCADE"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16))
    value: Mapped[Any] = mapped_column(JSON)
    language: Mapped[str | None] = mapped_column(String(8))
    provider: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(64))
    parameters: Mapped[dict[str, Any]]
    confidence: Mapped[float | None] = mapped_column(Float)
    note: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Float)
    vector: Mapped[bytes | None] = mapped_column(
        LargeBinary, deferred=True
    )  # float32, little endian
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


#: Partial indexes need their condition word for word: SQLite does not look into a parameter.
QUEUED_SQL = "state = 'QUEUED'"
RUNNING_SQL = "state = 'RUNNING'"
LIVE_SQL = "state IN ('QUEUED', 'RUNNING')"
UNRUNG_SQL = "state = 'QUEUED' AND rung_at IS NULL"
RUNG_SQL = "state = 'QUEUED' AND rung_at IS NOT NULL"


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


class Job(Base):
    """One row of the ledger; see `shared/jobs/ledger.py`. Its id is the Celery task's id, too."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "owner_id", "created_at"),
        Index(None, "item_id", "created_at"),
        Index(None, "created_at"),
        Index(None, "state", "finished_at"),
        Index(None, "content_key"),
        # Submit or join: at most one live job a content key, whoever submits at the same time.
        _partial("uq_jobs_live_content_key", "content_key", where=LIVE_SQL, unique=True),
        # What waits its turn, what is rung, what runs: small beside the jobs that have ended.
        _partial("ix_jobs_unrung", "lane", "turn", "created_at", where=UNRUNG_SQL),
        _partial("ix_jobs_rung", "lane", "turn", "created_at", where=RUNG_SQL),
        _partial("ix_jobs_owners_turn", "lane", "owner_id", "turn", where=QUEUED_SQL),
        _partial("ix_jobs_running", "worker", where=RUNNING_SQL),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(64))  # the Celery task's name: "ai.enrich_text"
    queue: Mapped[str] = mapped_column(String(32))  # the kind of work: "ai"
    lane: Mapped[str] = mapped_column(String(32))  # where it waits, a queue of Celery's: "ai.bulk"
    turn: Mapped[int] = mapped_column(default=0)  # place in its lane, in which owners take turns
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    item_id: Mapped[str | None] = mapped_column(ForeignKey("items.id", ondelete="CASCADE"))
    content_key: Mapped[str] = mapped_column(String(64))
    state: Mapped[JobState] = mapped_column(default=JobState.QUEUED)
    attempt: Mapped[int] = mapped_column(default=0)  # fences late results of earlier attempts
    errors: Mapped[int] = mapped_column(default=0)  # attempts that ended with an error
    losses: Mapped[int] = mapped_column(default=0)  # attempts that ended with a dead worker
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    lease_until: Mapped[float | None] = mapped_column(Float)  # seconds, the database's clock
    ring_after: Mapped[float] = mapped_column(Float)  # the next ring is not before this second
    rung_at: Mapped[float | None] = mapped_column(Float)  # None: waits its turn in SQL
    rings: Mapped[int] = mapped_column(default=0)  # messages sent for the present wait
    worker: Mapped[str | None] = mapped_column(String(128))  # of the present or last attempt
    progress_done: Mapped[int] = mapped_column(default=0)
    progress_total: Mapped[int] = mapped_column(default=0)
    phase: Mapped[str] = mapped_column(String(64), default="")
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]  # the first attempt
    claimed_at: Mapped[datetime | None]  # the present or last attempt
    finished_at: Mapped[datetime | None]

    owner: Mapped[User] = relationship()


class JobAttempt(Base):
    """An attempt that did not end its job. The last one stands in the job's own row."""

    __tablename__ = "job_attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    worker: Mapped[str | None] = mapped_column(String(128))
    outcome: Mapped[str] = mapped_column(String(64))  # an error's code, or "handed_back"
    message: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime] = mapped_column(default=utc_now)


class JobChunk(Base):
    """A finished part of a step that is not finished; removed some time after its job is DONE."""

    __tablename__ = "job_chunks"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[bytes] = mapped_column(LargeBinary)


class Lane(Base):
    """A queue of jobs: whether it is paused, and how many of its jobs are rung at a time."""

    __tablename__ = "lanes"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    paused: Mapped[bool] = mapped_column(default=False)
    window: Mapped[int]  # see `shared/jobs/dispatch.py`


class Recurring(Base):
    """When something that several processes may do was last done by one of them."""

    __tablename__ = "recurring"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    done_at: Mapped[float] = mapped_column(Float)  # seconds, the database's clock


class AnalyticsEvent(Base):
    """Something that happened, without any contributed text in it."""

    __tablename__ = "analytics_events"
    __table_args__ = (Index(None, "kind", "occurred_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    occurred_at: Mapped[datetime]
    fields: Mapped[dict[str, Any]]
