"""Alembic's migrations of the schema; run by `shared.database.schema.migrate`."""
