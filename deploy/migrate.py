"""Brings the sink database to the newest schema: Alembic runs the raw SQL files in `deploy/migrations/sql`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

MIGRATIONS: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "usher_schema_version"
_LOCK: Final = 8_247_311_905
"""Key of the advisory lock that lets one migration run at a time; any number that no other program of the database uses."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """The schema's revisions before and after; `before` is None for a database that had none."""

    before: str | None
    after: str | None


def migrate(dsn: str) -> Migrated:
    """Migrates to the newest revision and makes the next partitions. Does nothing where that is done already.

    Safe when several processes start at once: one migrates, the others wait for it.

    Raises:
        psycopg.Error: the database is away or the role may not create the schema; nothing has changed.
    """
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10, application_name="usher-migrate") as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn, connect_timeout=10), poolclass=NullPool)
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "version_table_schema": "public"})
            before = context.get_current_revision()
            command.upgrade(config, "head")
            after = context.get_current_revision()
        guard.execute("SELECT usher.make_partitions()")
    return Migrated(before, after)


def newest_revision() -> str | None:
    """The revision this code needs."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()
