"""Records as rows, without a database."""

from __future__ import annotations

import hashlib
import struct

import pytest

from agents.step import Fault
from schemas.codec import Case
from schemas.records import RawEvent
from streams.dead_letters import dead_letter_headers
from streams.sinks.base import SinkRecord
from streams.sinks.layout import DEAD_LETTERS, DECISIONS, EVENTS, RING_MEMBERS, RINGS, TABLES, Table
from streams.sinks.memory import MemorySink
from streams.sinks.rows import Row, dead_place, rows_of, without_nul
from tests.sink_samples import NOON_MS, action, alert, consent, dead_letter, decision, decisions, privacy_request, record, ring, violation


def named(table: Table, row: Row) -> dict[str, object]:
    return dict(zip(table.columns, row, strict=True))


def test_every_row_has_a_value_for_every_column() -> None:
    values = [decision(0), alert(1), action(2), violation(3), ring("u", "r", updated_at=1), consent(4), privacy_request(5)]
    found = rows_of([*(record(value, offset) for offset, value in enumerate(values)), dead_letter(9)])
    assert set(found) == set(TABLES)
    for table, rows in found.items():
        assert len(table.columns) == len(table.copy_types) == len(rows[0])
        assert set(table.key) <= set(table.columns)


def test_times_are_microseconds_since_2000() -> None:
    (row,) = rows_of(decisions(0, 1))[EVENTS]
    assert named(EVENTS, row)["event_time"] == (NOON_MS - 946_684_800_000) * 1000


def test_arrays_are_in_the_wire_layout() -> None:
    (row,) = rows_of(decisions(1, 2))[DECISIONS]
    found = named(DECISIONS, row)
    assert found["laws"] == struct.pack(">iiiii", 1, 0, 25, 2, 1) + b"\0\0\0\x04GDPR" + b"\0\0\0\x07UK-GDPR"
    features = found["features"]
    assert isinstance(features, bytes)
    assert struct.unpack_from(">iiiii", features) == (1, 0, 700, 32, 1)
    assert struct.unpack_from(">if", features, 20 + 8) == (4, pytest.approx(1 / 7))
    assert named(EVENTS, rows_of(decisions(1, 2))[EVENTS][0])["warnings"] == struct.pack(">iii", 0, 0, 25)


def test_a_case_that_is_not_decided_yet_has_no_decision() -> None:
    assert DECISIONS not in rows_of([record(Case(decision(1).event), 0)])


def test_the_newest_ring_of_a_batch_stays_and_of_equal_times_the_later() -> None:
    log = [ring("u", "r-1", updated_at=20), ring("u", "r-2", updated_at=10), ring("v", "r-1", updated_at=5), ring("v", "", updated_at=5)]
    found = rows_of([record(value, offset) for offset, value in enumerate(log)])
    members = {row["user_id"]: row["ring_id"] for row in (named(RING_MEMBERS, one) for one in found[RING_MEMBERS])}
    assert members == {"u": "r-1", "v": None}
    assert {named(RINGS, one)["ring_id"] for one in found[RINGS]} == {"r-1", "r-2"}


def test_the_memory_sink_agrees_about_rings_and_dead_letters() -> None:
    sink = MemorySink()
    for offset, value in enumerate([ring("u", "r-1", updated_at=20), ring("u", "r-2", updated_at=10)]):
        sink.write([record(value, offset)])
    sink.write([dead_letter(1), dead_letter(7, source=1)])
    sink.close()
    assert sink.rows["ring_members"]["default", "u"].ring_id == "r-1"
    assert list(sink.rows["dead_letters"]) == [("ott.events.raw.v1", 3, 1)]


def test_a_dead_letter_is_known_by_where_it_was_refused() -> None:
    found = named(DEAD_LETTERS, rows_of([dead_letter(50, source=8)])[DEAD_LETTERS][0])
    assert (found["source_topic"], found["source_partition"], found["source_offset"]) == ("ott.events.raw.v1", 3, 8)
    assert (found["dead_topic"], found["dead_partition"], found["dead_offset"]) == ("ott.events.raw.v1.dlq", 0, 50)
    assert (found["stage"], found["attempt"], found["size_bytes"]) == ("validate", 2, 6)
    assert found["message"] == "wrong-types: region is no text"
    assert found["event_id"] is None
    assert found["key_sha256"] == hashlib.sha256(b"u-1").hexdigest()


def test_the_headers_other_stages_write_are_understood() -> None:
    headers = dead_letter_headers("ott.events.raw.v1", 2, 77, "validate", (Fault("late", "an hour"), Fault("null-key", "no key")), ())
    letter = SinkRecord("ott.events.raw.v1.dlq", 0, 1, NOON_MS, None, None, tuple(headers), None)
    found = named(DEAD_LETTERS, rows_of([letter])[DEAD_LETTERS][0])
    assert (found["source_offset"], found["stage"], found["attempt"], found["key_sha256"], found["size_bytes"]) == (
        77,
        "validate",
        1,
        None,
        0,
    )
    assert found["reasons"] == struct.pack(">iiiii", 1, 0, 25, 2, 1) + b"\0\0\0\x04late" + b"\0\0\0\x08null-key"


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("__connect.errors.topic", b"t"), ("__connect.errors.partition", b"-1"), ("__connect.errors.offset", b"5")),
        (("__connect.errors.topic", b"t"), ("__connect.errors.partition", b"9999999999"), ("__connect.errors.offset", b"5")),
        (("__connect.errors.topic", b"t"), ("__connect.errors.partition", b"1"), ("__connect.errors.offset", "٣".encode())),
        (("__connect.errors.topic", None), ("usher.attempt", b"9" * 40), ("\xff", b"\xff\xfe")),
    ],
)
def test_a_dead_letter_with_broken_headers_is_known_by_its_own_place(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    letter = dead_letter(4)._replace(headers=headers)
    place = dead_place(letter)
    assert (place.topic, place.partition, place.offset) == ("ott.events.raw.v1.dlq", 0, 4)
    found = named(DEAD_LETTERS, rows_of([letter])[DEAD_LETTERS][0])
    assert found["attempt"] == 1
    assert found["stage"] == "unknown"


def test_a_readable_dead_letter_names_its_event() -> None:
    raw = RawEvent(
        event_id="e" * 500, user_id="u", device_id="d", event_type="PLAY", timestamp=1, region="DE", ip_address="::1", tenant_id="t"
    )
    found = named(DEAD_LETTERS, rows_of([dead_letter(1)._replace(value=raw)])[DEAD_LETTERS][0])
    assert (found["event_id"], found["tenant_id"]) == ("e" * 200, "t")
    found = named(DEAD_LETTERS, rows_of([dead_letter(1)._replace(value=decision(3))])[DEAD_LETTERS][0])
    assert found["event_id"] == f"e-{3:032x}"


def test_without_nul_changes_only_nul() -> None:
    clean = record(decision(5), 0)
    assert without_nul(clean).value == clean.value
    spoilt = without_nul(record(decision(5, text="a\0b"), 0))
    assert isinstance(spoilt.value, Case)
    assert spoilt.value.event.content_id.endswith("a\ufffdb")
    assert spoilt.value.verdict is not None
    assert spoilt.value.verdict.reasons[0].detail.endswith("a\ufffdb")
    assert without_nul(record(None, 0)).value is None
    assert without_nul(record(alert(1), 0)).value == alert(1)
    assert without_nul(dead_letter(1)._replace(headers=(("a", b"\0"), ("b", None)))).headers == (("a", b"?"), ("b", None))
    assert without_nul(record(Case(decision(1).event), 0)).value == Case(decision(1).event)
