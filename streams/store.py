"""Reads the sink database for status: in constant time, however many rows there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg

RATE_WINDOW_S: Final = 60

_STATUS: Final = """
SELECT
    coalesce(sum(rows) FILTER (WHERE table_name = 'events'), 0)::bigint,
    coalesce(sum(rows) FILTER (WHERE table_name = 'decisions'), 0)::bigint,
    coalesce(sum(rows) FILTER (WHERE table_name = 'alerts'), 0)::bigint,
    coalesce(sum(rows) FILTER (WHERE table_name = 'violations'), 0)::bigint,
    coalesce(sum(rows) FILTER (WHERE table_name = 'dead_letters'), 0)::bigint,
    (SELECT count(*) FROM usher.rings AS r WHERE EXISTS
        (SELECT FROM usher.ring_members AS m WHERE m.tenant_id = r.tenant_id AND m.ring_id = r.ring_id)),
    (SELECT coalesce(sum(rows), 0) FROM usher.row_rates
        WHERE table_name = 'decisions' AND bucket_at > now() - make_interval(secs => %(window)s))::float8 / %(window)s
FROM usher.row_counts
"""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the sink database holds.

    Attributes:
        events, decisions, alerts, violations, dead_letters: rows the sinks have inserted, exact.
        rings: rings that have members now.
        rate_per_s: decisions stored a second, over the last 60 s.
    """

    events: int
    decisions: int
    alerts: int
    violations: int
    dead_letters: int
    rings: int
    rate_per_s: float


def read_status(dsn: str, timeout_s: float = 5.0) -> StoreStatus:
    """Reads the status.

    Raises:
        psycopg.Error: the database is away, slower than the time-out, or not migrated (`UndefinedTable`, `InvalidSchemaName`).
    """
    with psycopg.connect(dsn, connect_timeout=max(int(timeout_s), 1), application_name="usher-status", autocommit=True) as connection:
        connection.execute(f"SET statement_timeout = {int(timeout_s * 1000)}")
        row = connection.execute(_STATUS, {"window": RATE_WINDOW_S}).fetchone()
    if row is None:
        raise psycopg.DataError("the status query gave no row")
    return StoreStatus(*row)
