"""Alembic's entry: runs the migrations on the connection that `schema.migrate` hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from shared.database.models import Base, UtcDateTime


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    return "UtcDateTime()" if kind == "type" and isinstance(item, UtcDateTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_item=_render,
    render_as_batch=True,  # SQLite cannot ALTER a table in place
)
with context.begin_transaction():
    context.run_migrations()
