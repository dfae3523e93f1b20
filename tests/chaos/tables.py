"""What the suite keeps in the archive's own database: what jobs shall do, and what they did.

Nothing here is unique on purpose: what happened twice must show.
"""

from __future__ import annotations

from sqlalchemy import Float, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.config import get_settings


class Base(DeclarativeBase):
    """The suite's tables, apart from the archive's."""


class Order(Base):
    """What one job shall do; the ledger itself holds no such thing."""

    __tablename__ = "chaos_orders"

    job_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    seconds: Mapped[float] = mapped_column(Float)  # of work, or of each of its parts
    parts: Mapped[int]  # chunks; 0 for a job without


class Effect(Base):
    """The result of one finished job, saved in the transaction that ends it."""

    __tablename__ = "chaos_effects"

    number: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(String(36), index=True)


class Trace(Base):
    """Something that was really done, whether or not its result was taken."""

    __tablename__ = "chaos_traces"

    number: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(String(36), index=True)
    what: Mapped[str] = mapped_column(String(32))  # "began", or "part 7"
    pid: Mapped[int]
    at: Mapped[float] = mapped_column(Float)  # seconds since 1970


def make_tables() -> None:
    """Add the suite's tables to the archive's database."""
    made = create_engine(get_settings().sqlalchemy_url)
    Base.metadata.create_all(made)
    made.dispose()
