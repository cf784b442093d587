"""Alembic migrations, shipped in the wheel as `dpiqa.migrations`."""
