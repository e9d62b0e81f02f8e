"""Fresh stores on the test session's servers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from deploy.migrate import migrate


@contextmanager
def fresh_database(dsn: str, *, migrated: bool = True) -> Iterator[str]:
    """A database of its own on the server of `dsn`; gone at the end."""
    name = f"sinks_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    own = make_conninfo(**(conninfo_to_dict(dsn) | {"dbname": name}))
    try:
        if migrated:
            migrate(own)
        yield own
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def rows(dsn: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows a statement gives; none for one that gives none."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def redis_database(url: str, number: int) -> str:
    """The same Redis server, another of its databases."""
    return f"{url.rpartition('/')[0]}/{number}"
