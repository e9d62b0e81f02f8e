"""Recordings: taken apart without losing a line, and arriving at their own time."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agents.step import Received
from agents.validation import validate_event
from commands import inputs
from commands.inputs import arrival_ms, inputs_of, recorded_lines
from schemas.codec import Codec
from schemas.records import Event, Origin
from simulator import Unreadable, read_lines
from tests.conftest import make_raw

AT_MS = 1_767_614_096_789
MOMENT = datetime.fromtimestamp(AT_MS / 1000, UTC)


def line(number: int = 1, **changes: Any) -> bytes:
    fields = {"event_id": f"e{number}", "user_id": "u", "device_id": "d", "content_id": "c", "event_type": "PLAY", "timestamp": AT_MS,
              "region": "NL", "is_eu": True, "has_consent": True, "ip_address": "203.0.113.10"}  # fmt: skip
    return json.dumps(fields | changes).encode()


def ids_of(lines: Iterator[bytes]) -> list[str | int]:
    """Event ids, and the numbers of lines that are no events."""
    return [one.line_no if isinstance(one, Unreadable) else one.event.event_id for one in read_lines(lines)]


def of_text(text: bytes) -> Iterator[bytes]:
    return recorded_lines(text.splitlines(keepends=True))


# --- taking recordings apart ------------------------------------------------------------------------------------------


def pretty(*events: bytes) -> bytes:
    return json.dumps([json.loads(one) for one in events], indent=2).encode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", []),
        (b"\n\n", []),
        (line(1) + b"\n" + line(2), ["e1", "e2"]),
        (b"\n" + line(1) + b"\n\n" + line(2) + b"\n", ["e1", "e2"]),
        (pretty(line(1), line(2)), ["e1", "e2"]),
        (json.dumps(json.loads(line(1)), indent=4).encode(), ["e1"]),
        (b"[" + line(1) + b"," + line(2) + b"]\n", ["e1", "e2"]),
        (b"[" + line(1) + b",\n" + line(2) + b"]\n", ["e1", "e2"]),
        (b"[]", []),
        (line(1)[:-9] + b"\n" + line(2) + b"\n" + line(3) + b"\n", [1, "e2", "e3"]),
        (b'"rubbish\n' + line(2) + b"\n", [1, "e2"]),
        (b"\n\n" + line(1)[:-9] + b"\n" + line(2) + b"\n", [3, "e2"]),
        (line(1) + b"\n" + line(2)[:9] + b"\n" + line(3), ["e1", 2, "e3"]),
        (b"[[" * 5_000 + b"\n" + line(2), [1, "e2"]),
        (b'{"a": "\xff"\n' + line(2), [1, "e2"]),
        (b"[1, " + line(2) + b"]", [1, "e2"]),
    ],
)
def test_a_recording_is_taken_apart_and_no_line_is_dropped(text: bytes, found: list[str | int]) -> None:
    assert ids_of(of_text(text)) == found


def test_after_a_broken_first_line_no_more_than_the_bound_is_held_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "WHOLE_MAX_BYTES", 4_000)
    taken = 0

    def many() -> Iterator[bytes]:
        nonlocal taken
        yield line(0)[:-5] + b"\n"
        for number in range(1, 200):
            taken += 1
            yield line(number) + b"\n"

    found = recorded_lines(many())
    assert next(found).startswith(b"{")
    assert taken * len(line(1)) < 5_000
    assert ids_of(found) == [f"e{number}" for number in range(1, 200)]


def test_a_document_larger_than_the_bound_is_reported_and_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "WHOLE_MAX_BYTES", 100)
    text = pretty(line(1), line(2))
    assert ids_of(of_text(text)) == list(range(1, len(text.splitlines()) + 1))


def test_a_good_first_line_lets_lines_through_one_by_one() -> None:
    def endless() -> Iterator[bytes]:
        number = 0
        while True:
            yield line(number)
            number += 1

    found = recorded_lines(endless())
    assert [json.loads(next(found))["event_id"] for _ in range(3)] == ["e0", "e1", "e2"]


# --- arrival ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        (AT_MS, AT_MS),
        (AT_MS // 1000, AT_MS // 1000 * 1000),
        (AT_MS * 1000, AT_MS),
        (str(AT_MS), AT_MS),
        (str(AT_MS // 1000), AT_MS // 1000 * 1000),
        (MOMENT.isoformat(), AT_MS),
        (MOMENT.replace(tzinfo=None).isoformat(), AT_MS),
        ("2026-01-05T12:34:56.789+05:00", 1_767_598_496_789),
        ("yesterday", 77),
        ("", 77),
        (0, 77),
        (-1, 77),
        (2**63 - 1, 77),
        ("9999999999999999999", 77),
    ],
)
def test_an_event_arrives_at_its_own_time_wherever_the_machine_stands(
    timestamp: int | str, at_ms: int, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert arrival_ms(make_raw(timestamp=timestamp), 77) == at_ms
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("timestamp", [AT_MS // 1000, str(AT_MS // 1000), AT_MS * 1_000_000, "2026-01-05T12:34:56", "20260105T123456Z"])
def test_what_validation_can_read_is_not_refused_for_its_time(timestamp: int | str) -> None:
    event = make_raw(timestamp=timestamp)
    found = validate_event(Received(event, Origin(partition=0, offset=0), arrival_ms(event, 0), b"k", 300))
    assert isinstance(found, Event)
    assert found.received_at == found.timestamp


def test_inputs_keep_the_order_and_tell_what_they_read() -> None:
    bad: list[Unreadable] = []
    labels: list[str | None] = []
    lines = [line(1, label="honest"), b"rubbish", line(2, timestamp="nonsense"), line(3, user_id="")]
    found = list(inputs_of(lines, bad.append, lambda one: labels.append(one.label)))
    assert [one.line_no for one in bad] == [2]
    assert labels == ["honest", None, None]
    assert [(one.key, one.at_ms) for one in found] == [(b"u", AT_MS), (b"u", AT_MS), (None, AT_MS)]
    assert [Codec().decode(one.value).event_id for one in found] == ["e1", "e2", "e3"]  # type: ignore[union-attr]
