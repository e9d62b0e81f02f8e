"""Writes what was decided and found into Postgres, each batch in one transaction.

A batch is COPYed into temporary tables and moved from there with ON CONFLICT, so that a repeat changes nothing: a
decision, alert or dead letter that is there stays, a ring is replaced only by a newer one. The same transaction adds to the row
counts and notes the offsets. Kafka's offset is committed afterwards by the runner; a crash in between is such a repeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import psycopg
import structlog
from psycopg import errors, sql

from schemas.topics import ACTIONS, ALERTS, CONSENTS, DAY_MS, DECISIONS, PRIVACY_REQUESTS, USER_RINGS, VIOLATIONS, Topic
from streams.sinks.base import Refused, SinkRecord, StoreAway
from streams.sinks.layout import Table
from streams.sinks.rows import Row, rows_of, without_nul

log: Final = structlog.get_logger("usher.sink.postgres")

STATEMENT_TIMEOUT_S: Final = 60
"""Longest a statement may run, and wait for locks, before the batch is given up and written again."""
PARTITIONS_EVERY_S: Final = 3_600.0
RATES_KEPT_S: Final = 600
_DAYS_FROM_1970_TO_2000: Final = 10_957
_DAY_US: Final = DAY_MS * 1000
_LAST_DAY: Final = 2_900_000  # in the year 9909: partitions are made for times near the present only

UNFIT: Final = (errors.DataError, errors.IntegrityError, errors.ProgramLimitExceeded, OverflowError)
"""Errors that say that a record, not the database, is the trouble."""

_ENSURE_PARTITIONS: Final = (
    "SELECT usher.ensure_partition(wanted.table_name, to_timestamp(wanted.day * 86400.0)) "
    "FROM unnest(%s::text[], %s::bigint[]) AS wanted(table_name, day)"
)
_COUNT_ROWS: Final = (
    "WITH counted AS (SELECT * FROM unnest(%(tables)s::text[], %(rows)s::bigint[]) AS c(table_name, rows) ORDER BY 1), "
    "total AS (INSERT INTO usher.row_counts AS t (table_name, shard, rows) SELECT table_name, %(shard)s, rows FROM counted "
    "ON CONFLICT (table_name, shard) DO UPDATE SET rows = t.rows + excluded.rows) "
    "INSERT INTO usher.row_rates AS t (table_name, bucket_at, shard, rows) "
    "SELECT table_name, date_bin('5 seconds', now(), '2000-01-01Z'), %(shard)s, rows FROM counted "
    "ON CONFLICT (table_name, bucket_at, shard) DO UPDATE SET rows = t.rows + excluded.rows"
)
_NOTE_OFFSETS: Final = (
    "INSERT INTO usher.sink_offsets AS t (sink, topic, partition, next_offset) "
    "SELECT 'postgres', * FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS o(topic, partition, next_offset) ORDER BY 2, 3 "
    "ON CONFLICT (sink, topic, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = excluded.updated_at"
)
_PRUNE_RATES: Final = "DELETE FROM usher.row_rates WHERE bucket_at < now() - make_interval(secs => %s)"


class PostgresSink:
    """Stores decisions with their events, alerts, actions, violations, rings, consents, privacy requests and dead letters.

    Args:
        dsn: connection URL or conninfo text. The role needs to insert, update and make temporary tables; PgBouncer must pool by session.
        clock: monotonic seconds.
    """

    name: Final = "postgres"
    topics: Final[tuple[Topic, ...]] = (DECISIONS, ALERTS, ACTIONS, VIOLATIONS, USER_RINGS, CONSENTS, PRIVACY_REQUESTS)
    takes_dead_letters: Final = True

    def __init__(self, dsn: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._dsn = dsn
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._staged: set[str] = set()
        self._known_days: set[tuple[str, int]] = set()
        self._tidy_at = 0.0

    def write(self, batch: Sequence[SinkRecord]) -> None:
        """Stores a batch in one transaction; see `Sink.write`.

        Raises:
            StoreAway: the database is away, locked, full or not migrated yet.
            Refused: a record does not fit its table.
        """
        if not batch:
            return
        try:
            try:
                self._store(batch)
            except errors.DataError:
                # The one text that fits a record and not Postgres is NUL; looking for it only now keeps the usual way free of it.
                self._staged.clear()
                self._store([without_nul(record) for record in batch])
        except UNFIT as error:
            self._staged.clear()
            # The server's message may quote the data, its code does not.
            raise Refused(f"{type(error).__name__} ({getattr(error, 'sqlstate', None) or 'client'})") from error
        except psycopg.Error as error:
            raise self._away(error) from error

    def ping(self) -> None:
        """Looks for one of the tables; see `Sink.ping`.

        Raises:
            StoreAway: the database is away or not migrated yet.
        """
        try:
            self._open().execute("SELECT sink FROM usher.sink_offsets LIMIT 1")
        except psycopg.Error as error:
            raise self._away(error) from error

    def _away(self, error: psycopg.Error) -> StoreAway:
        self.close()
        return StoreAway(f"Postgres: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}")

    def close(self) -> None:
        """Closes the connection. Never raises."""
        connection, self._connection = self._connection, None
        self._staged.clear()
        self._known_days.clear()
        if connection is not None:
            connection.close()

    def _store(self, batch: Sequence[SinkRecord]) -> None:
        tables = rows_of(batch)
        connection = self._open()
        self._make_partitions(connection, tables)
        with connection.transaction(), connection.cursor() as cursor:
            counts = {table.name: self._merge(cursor, table, rows) for table, rows in tables.items()}
            if counts:
                # The writer owns the partition, so no other sink process waits for this row of the counts.
                cursor.execute(_COUNT_ROWS, {"tables": list(counts), "rows": list(counts.values()), "shard": batch[0].partition})
            _note_offsets(cursor, batch)

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self.close()
        connection = psycopg.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=5,
            application_name="usher-sink",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=30_000,
        )
        # Kafka's offset is committed after the batch, so the batch has to be on disk; the database's default may be laxer.
        connection.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'; SET synchronous_commit = on; SET timezone = 'UTC'")
        self._connection = connection
        self._tidy_at = 0.0
        return connection

    def _make_partitions(self, connection: psycopg.Connection[Any], tables: dict[Table, list[Row]]) -> None:
        now = self._clock()
        if now >= self._tidy_at:
            self._tidy_at = now + PARTITIONS_EVERY_S
            self._known_days.clear()
            self._try(connection, "SELECT usher.make_partitions()", ())
            self._try(connection, _PRUNE_RATES, (RATES_KEPT_S,))
        wanted = {(table.name, day) for table, rows in tables.items() if table.partitioned for day in _days(table, rows)} - self._known_days
        if wanted:
            self._known_days |= wanted  # where it fails it is tried again at the next round, not at every batch
            self._try(connection, _ENSURE_PARTITIONS, ([name for name, _ in wanted], [day for _, day in wanted]))

    def _try(self, connection: psycopg.Connection[Any], statement: str, values: Sequence[Any]) -> None:
        """Runs housekeeping that rows can do without: the default partition takes those whose partition could not be made."""
        try:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '2s'")
                connection.execute(statement, values)
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            log.warning("partitions could not be made now, rows go to the default partition", cause=type(error).__name__)

    def _merge(self, cursor: psycopg.Cursor[Any], table: Table, rows: Sequence[Row]) -> int:
        """Brings rows into a table; returns how many were new."""
        target, stage = sql.Identifier("usher", table.name), sql.Identifier(f"stage_{table.name}")
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        if table.name not in self._staged:
            make = "CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA"
            cursor.execute(sql.SQL(make).format(stage, columns, target))
            self._staged.add(table.name)
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(stage, columns)) as copy:
            copy.set_types(table.copy_types)
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            sql.SQL("INSERT INTO {} AS t ({}) SELECT {} FROM {} ON CONFLICT ").format(target, columns, columns, stage) + _on_conflict(table)
        )
        return max(cursor.rowcount, 0) if table.newer is None else 0


def _on_conflict(table: Table) -> sql.Composable:
    if table.newer is None:
        return sql.SQL("DO NOTHING")
    # Same times are taken in log order, so that an earlier record never stays over a later one.
    return sql.SQL("({}) DO UPDATE SET {} WHERE excluded.{} >= t.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, table.key)),
        sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in table.columns if column not in table.key
        ),
        sql.Identifier(table.newer),
        sql.Identifier(table.newer),
    )


def _days(table: Table, rows: Iterable[Row]) -> set[int]:
    at = table.columns.index("event_time")
    days = {row[at] // _DAY_US + _DAYS_FROM_1970_TO_2000 for row in rows}
    return {day for day in days if 0 <= day <= _LAST_DAY}


def _note_offsets(cursor: psycopg.Cursor[Any], batch: Sequence[SinkRecord]) -> None:
    following: dict[tuple[str, int], int] = {}
    for record in batch:
        following[record.topic, record.partition] = record.offset + 1
    places = list(following)
    cursor.execute(_NOTE_OFFSETS, ([topic for topic, _ in places], [partition for _, partition in places], list(following.values())))
