"""The data dictionary, rendered from the comments in the database: what is documented is what is there."""

from __future__ import annotations

from typing import Final

import psycopg

_INTRODUCTION: Final = """# Tables

The tables of schema `usher`, rendered from the database's own comments by `deploy.dictionary.render` (a test compares this page with a
freshly migrated database). All times are `timestamptz`, UTC.

`events`, `decisions` and `violations` are cut by event time (`partitioning` says how). Partitions are made ahead at migration and once an hour by the
sink, and for late events within the span that `partitioning.back` allows; every other row goes to the table's default partition, so
no row is ever refused for its time. Postgres 14 or newer.
"""

_TABLES: Final = """
SELECT c.oid, c.relname, obj_description(c.oid, 'pg_class'), pg_get_partkeydef(c.oid),
    (SELECT string_agg(a.attname, ', ' ORDER BY k.place)
     FROM pg_constraint p CROSS JOIN unnest(p.conkey) WITH ORDINALITY AS k(number, place)
     JOIN pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = k.number
     WHERE p.conrelid = c.oid AND p.contype = 'p')
FROM pg_class c
WHERE c.relnamespace = 'usher'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY c.relname
"""
_COLUMNS: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(a.attrelid, a.attnum)
FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


def render(dsn: str) -> str:
    """The data dictionary as Markdown.

    Raises:
        psycopg.Error: the database is away or not migrated.
    """
    parts = [_INTRODUCTION]
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        for oid, name, meaning, partitioned, key in connection.execute(_TABLES).fetchall():
            parts.append(
                f"\n## {name}\n\n{meaning}\n\nPrimary key: {key}." + (f" Partitioned by {partitioned}." if partitioned else "") + "\n"
            )
            parts.append("\n| column | type | may be null | meaning |\n|---|---|---|---|\n")
            for column, kind, not_null, text in connection.execute(_COLUMNS, (oid,)).fetchall():
                parts.append(f"| `{column}` | {kind} | {'no' if not_null else 'yes'} | {(text or '').replace('|', chr(92) + '|')} |\n")
    return "".join(parts)
