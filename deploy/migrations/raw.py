"""Runs a raw SQL file inside a migration's transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alembic import op

SQL: Final = Path(__file__).parent / "sql"


def run_sql(file_name: str) -> None:
    """Runs all statements of a file in `sql/`. Migrations only go forward: a mistake is put right by the next one.

    Raises:
        psycopg.Error: a statement failed; the whole migration is rolled back.
    """
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute((SQL / file_name).read_text(encoding="utf-8"))
