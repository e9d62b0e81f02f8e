"""The sink database: events, decisions, findings, and the books of the sinks."""

from deploy.migrations.raw import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates schema `usher`."""
    run_sql("0001_spine.sql")
