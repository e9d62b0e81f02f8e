"""Alembic migrations of the sink database; `deploy.migrate` runs them."""
