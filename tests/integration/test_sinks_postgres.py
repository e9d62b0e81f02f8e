"""The Postgres sink, its migrations and its status on a real Postgres."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.dictionary import render
from deploy.migrate import Migrated, migrate, newest_revision
from schemas.records import RawEvent
from streams.sinks.base import Refused, SinkRecord, StoreAway
from streams.sinks.layout import TABLES
from streams.sinks.postgres import PostgresSink
from streams.store import StoreStatus, read_status
from tests.sink_samples import NOON_MS, action, alert, consent, dead_letter, decision, decisions, privacy_request, record, ring, violation
from tests.sink_stores import fresh_database, rows

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000


@pytest.fixture
def dsn(platform: Any) -> Iterator[str]:
    with fresh_database(platform.postgres_dsn) as own:
        yield own


@pytest.fixture
def sink(dsn: str) -> Iterator[PostgresSink]:
    one = PostgresSink(dsn)
    yield one
    one.close()


def partition_of(dsn: str, event_id: str) -> str:
    query = "SELECT c.relname FROM usher.decisions d JOIN pg_class c ON c.oid = d.tableoid WHERE d.event_id = %s"
    return str(rows(dsn, query, event_id)[0][0])


def today_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def test_migrating_again_or_from_many_processes_at_once_is_one_migration(platform: Any) -> None:
    with fresh_database(platform.postgres_dsn, migrated=False) as dsn:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: migrate(dsn), range(4)))
        newest = newest_revision()
        assert sorted(found, key=lambda one: one.before or "") == [Migrated(None, newest), *[Migrated(newest, newest)] * 3]


def test_every_table_and_column_is_commented_and_the_page_says_what_is_there(dsn: str) -> None:
    silent = rows(
        dsn,
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
        "WHERE c.relnamespace = 'usher'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
        "AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)",
    )
    assert silent == []
    page = Path(__file__).parents[2] / "docs" / "tables.md"
    assert render(dsn) == page.read_text(encoding="utf-8"), "write docs/tables.md again from deploy.dictionary.render"


def test_the_sink_fills_every_column_but_the_database_s_own(dsn: str) -> None:
    for table in TABLES:
        query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        assert {name for (name,) in rows(dsn, query, f"usher.{table.name}")} - {"stored_at"} == set(table.columns)


def test_a_decision_and_its_event_are_read_back_as_they_were(sink: PostgresSink, dsn: str) -> None:
    case = decision(5)
    assert case.compliance is not None
    assert case.verdict is not None
    sink.write([record(case, 0)])
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute("SELECT * FROM usher.decisions").fetchone()
        event = connection.execute("SELECT * FROM usher.events").fetchone()
    assert found is not None
    assert event is not None
    assert (found["outcome"], found["risk"], found["threshold"], found["severity"]) == ("BLOCK", 0.9, 0.7, "HIGH")
    assert [reason["code"] for reason in found["reasons"]] == ["impossible-travel", "new-device"]
    assert found["breaches"][0]["article"] == "Art 6(1)(a)"
    assert found["laws"] == ["GDPR", "UK-GDPR"]
    assert found["members"] == {"isolation_forest": 0.3, "local_outlier_factor": 0.2, "half_space_trees": None, "rules": 0.1}
    assert found["features"] == pytest.approx([i / 7 for i in range(32)], rel=1e-6)
    assert (found["ring_id"], found["ring_size"], found["links"]) == ("r-1", 4, ["device:d-1"])
    assert found["event_time"] == datetime.fromtimestamp(case.event.timestamp / 1000, UTC)
    assert found["decided_at"] == datetime.fromtimestamp(case.verdict.decided_at / 1000, UTC)
    assert (found["source_partition"], found["source_offset"]) == (5, 5)
    assert (event["device_id"], event["ip_address"], event["warnings"], event["amount"]) == ("d-5", "203.0.113.7", ["late"], None)
    assert (event["is_eu"], event["has_consent"], event["extra_metadata"]) == (True, True, case.event.extra_metadata)


def test_every_kind_of_record_has_its_row_once(sink: PostgresSink, dsn: str) -> None:
    values = [alert(1), action(2), violation(3), ring("u-1", "r-1", updated_at=NOON_MS), consent(4), privacy_request(5)]
    batch = [*(record(value, offset) for offset, value in enumerate(values)), dead_letter(1), dead_letter(2, source=1), *decisions(0, 3)]
    for _ in range(2):
        sink.write(batch)
    for name in ("alerts", "actions", "violations", "rings", "ring_members", "consents", "privacy_requests", "dead_letters"):
        assert rows(dsn, f"SELECT count(*) FROM usher.{name}") == [(1,)], name
    status = read_status(dsn)
    assert status == StoreStatus(3, 3, 1, 1, 1, 1, pytest.approx(3 / 60))


def test_an_older_ring_never_replaces_a_newer_one(sink: PostgresSink, dsn: str) -> None:
    sink.write([record(ring("u-1", "r-2", updated_at=NOON_MS + 10, size=9), 0)])
    sink.write([record(ring("u-1", "r-1", updated_at=NOON_MS), 1), record(ring("u-2", "r-2", updated_at=NOON_MS + 5, size=2), 2)])
    assert rows(dsn, "SELECT user_id, ring_id FROM usher.ring_members ORDER BY 1") == [("u-1", "r-2"), ("u-2", "r-2")]
    assert rows(dsn, "SELECT size FROM usher.rings WHERE ring_id = 'r-2'") == [(9,)]
    assert read_status(dsn).rings == 1  # r-1 has no member
    sink.write([record(ring("u-1", "", updated_at=NOON_MS + 10), 3), record(ring("u-2", "", updated_at=NOON_MS + 20), 4)])
    assert read_status(dsn).rings == 0


def test_a_dead_letter_is_indexed_without_its_payload(sink: PostgresSink, dsn: str) -> None:
    raw = RawEvent(event_id="e-dead", user_id="u", device_id="d", event_type="PLAY", timestamp=1, region="DE", ip_address="::1")
    sink.write([dead_letter(1)._replace(value=raw, raw=b"secret" * 100), dead_letter(2, headers=False)])
    found = rows(
        dsn,
        "SELECT source_topic, source_offset, reasons, attempt, event_id, size_bytes, d::text FROM usher.dead_letters d ORDER BY source_topic",
    )
    assert [row[:6] for row in found] == [
        ("ott.events.raw.v1", 1, ["wrong-types", "null-key"], 2, "e-dead", 600),
        ("ott.events.raw.v1.dlq", 2, ["unknown"], 1, None, 6),
    ]
    assert not any("secret" in row[6] for row in found)


def test_rows_of_any_time_are_taken_and_near_ones_have_partitions(sink: PostgresSink, dsn: str) -> None:
    now = today_ms()
    times = {
        "0": -62_135_596_800_000,
        "1": 0,
        "2": now - 2 * DAY_MS,
        "3": now,
        "4": now + DAY_MS,
        "5": now + 400 * DAY_MS,
        "6": 253_402_300_799_000,
    }
    sink.write([record(decision(int(number), event_time=at), int(number)) for number, at in times.items()])
    homes = {number: partition_of(dsn, f"e-{int(number):032x}") for number in times}
    for number, at in times.items():
        day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
        near = number in "234"
        assert homes[number] == ("decisions_" + (f"p{day:%Y%m%d}" if near else "default"))


def test_rows_in_the_default_partition_move_when_their_partition_is_made(sink: PostgresSink, dsn: str) -> None:
    at = today_ms() - 40 * DAY_MS
    rows(dsn, "UPDATE usher.partitioning SET back = 0")
    sink.write([record(decision(number, event_time=at), number) for number in range(10)])
    assert partition_of(dsn, f"e-{3:032x}") == "decisions_default"
    rows(dsn, "UPDATE usher.partitioning SET back = 92")
    sink.close()
    sink.write([record(decision(number, event_time=at), number) for number in range(12)])
    assert "decisions_p" in partition_of(dsn, f"e-{3:032x}")
    assert rows(dsn, "SELECT count(*), count(DISTINCT event_id) FROM usher.decisions") == [(12, 12)]
    assert read_status(dsn).decisions == 12


def test_two_writers_of_the_same_log_in_opposite_order_make_each_row_once(dsn: str) -> None:
    log = decisions(0, 2_000)
    cuts = [log[start : start + 100] for start in range(0, len(log), 100)]
    begin = threading.Barrier(2)

    def write_all(batches: list[list[SinkRecord]]) -> None:
        sink = PostgresSink(dsn)
        begin.wait()
        for batch in batches:
            while True:
                try:
                    sink.write(batch)
                    break
                except StoreAway:  # a deadlock: the runner would repeat as well
                    continue
        sink.close()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(write_all, cuts), pool.submit(write_all, [list(reversed(cut)) for cut in reversed(cuts)])]:
            future.result()
    assert rows(dsn, "SELECT count(*), count(DISTINCT event_id) FROM usher.decisions") == [(2_000, 2_000)]
    status = read_status(dsn)
    assert (status.events, status.decisions) == (2_000, 2_000)


@pytest.mark.parametrize("at", [10**18, -(10**18), 2**62, 300_000 * 366 * DAY_MS])
def test_a_record_that_fits_no_column_is_refused_and_nothing_of_the_batch_is_written(sink: PostgresSink, dsn: str, at: int) -> None:
    bad = record(decision(1, event_time=at), 1)
    with pytest.raises(Refused) as refused:
        sink.write([*decisions(2, 5), bad])
    assert "u-1" not in str(refused.value)
    assert read_status(dsn).decisions == 0
    assert rows(dsn, "SELECT count(*) FROM usher.sink_offsets") == [(0,)]
    sink.write(decisions(2, 5))
    assert read_status(dsn).decisions == 3


def test_an_endless_id_is_refused_and_not_retried_for_ever(sink: PostgresSink) -> None:
    incompressible = "".join(random.Random(1).choices([chr(code) for code in range(0x4E00, 0x9FFF)], k=20_000))
    with pytest.raises(Refused, match="ProgramLimitExceeded"):  # longer than an index entry may be
        sink.write([record(decision(1, user=incompressible), 0)])


def test_offsets_are_noted_in_the_transaction_of_the_rows(sink: PostgresSink, dsn: str) -> None:
    sink.write([*decisions(0, 7), record(alert(1), 41, topic="ott.alerts.v1", partition=3)])
    sink.write(decisions(7, 9))
    assert rows(dsn, "SELECT sink, topic, partition, next_offset FROM usher.sink_offsets ORDER BY topic") == [
        ("postgres", "ott.alerts.v1", 3, 42),
        ("postgres", "ott.decisions.v1", 0, 9),
    ]


def test_a_database_that_is_not_migrated_is_waited_for(platform: Any) -> None:
    with fresh_database(platform.postgres_dsn, migrated=False) as dsn:
        sink = PostgresSink(dsn)
        with pytest.raises(StoreAway):
            sink.write(decisions(0, 3))
        with pytest.raises(psycopg.Error):
            read_status(dsn)
        migrate(dsn)
        sink.write(decisions(0, 3))
        assert read_status(dsn).decisions == 3
        sink.close()


def test_a_locked_table_is_waited_for(sink: PostgresSink, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.sinks.postgres.STATEMENT_TIMEOUT_S", 1)
    with psycopg.connect(dsn) as lock:
        lock.execute("LOCK TABLE usher.decisions IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreAway):
            sink.write(decisions(0, 3))
    sink.write(decisions(0, 3))
    assert read_status(dsn).decisions == 3


def test_killed_in_the_middle_and_back_the_same_write_succeeds(platform: Any, sink: PostgresSink, dsn: str) -> None:
    sink.write(decisions(0, 5))
    platform.kill("postgres")
    try:
        with pytest.raises(StoreAway):
            sink.write(decisions(5, 10))
        with pytest.raises(StoreAway):
            sink.write(decisions(5, 10))
    finally:
        platform.restart("postgres")
    sink.write(decisions(5, 10))
    assert rows(dsn, "SELECT count(*), count(DISTINCT event_id) FROM usher.decisions") == [(10, 10)]
    assert read_status(dsn).decisions == 10
