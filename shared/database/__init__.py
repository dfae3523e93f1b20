"""The database: engine and pool, models, migrations."""
