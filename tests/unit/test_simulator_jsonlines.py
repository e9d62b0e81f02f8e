"""Events as JSON lines: written as the example is, read without guessing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.records import RawEvent
from simulator import LabelledEvent, Recorded, Unreadable, from_json, read_line, read_lines, to_json_line

EXAMPLE: dict[str, Any] = {
    "event_id": "evt_20260116_001",
    "user_id": "user_42",
    "device_id": "tv_lg_abc123",
    "content_id": "movie_987",
    "event_type": "PLAY",
    "timestamp": "2026-01-16T12:34:56Z",
    "region": "NL",
    "is_eu": True,
    "has_consent": False,
    "ip_address": "203.0.113.10",
    "subscription_plan": "premium",
    "error_code": None,
    "extra_metadata": {"app_version": "1.2.3", "network_type": "wifi", "device_model": "LG_OLED_55"},
}


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in EXAMPLE.items() if key not in names} | changes


def read(found: Any) -> RawEvent:
    event = from_json(found)
    assert isinstance(event, RawEvent), event
    return event


def test_the_example_is_read_and_written_as_it_is() -> None:
    event = read(EXAMPLE)
    assert json.loads(event.extra_metadata or "") == EXAMPLE["extra_metadata"]
    written = to_json_line(LabelledEvent(event, "honest"))
    assert json.loads(written) == EXAMPLE
    assert list(json.loads(written)) == list(EXAMPLE)
    assert "\n" not in written


def test_the_label_is_written_only_when_asked_for_and_never_becomes_part_of_the_event() -> None:
    event = read(EXAMPLE)
    line = to_json_line(LabelledEvent(event, "bot"), labels=True)
    assert json.loads(line)["label"] == "bot"
    assert read_line(line, 7) == Recorded(event, "bot", 7)
    assert "label" not in json.loads(to_json_line(LabelledEvent(event, "bot")))


def test_optional_fields_are_written_where_they_hold_something() -> None:
    event = read(without(amount=3.5, tenant_id="a", purpose="sale"))
    assert json.loads(to_json_line(LabelledEvent(event, "honest"))) == EXAMPLE | {"amount": 3.5, "tenant_id": "a", "purpose": "sale"}


def test_metadata_that_is_not_json_is_written_as_text() -> None:
    event = RawEvent(
        event_id="e", user_id="u", device_id="d", event_type="x", timestamp=1, region="NL", ip_address="192.0.2.1", extra_metadata="{broken"
    )
    assert json.loads(to_json_line(LabelledEvent(event, "malformed")))["extra_metadata"] == "{broken"


def test_absent_and_null_fields_take_their_defaults() -> None:
    event = read(without("content_id", "is_eu", "has_consent", "subscription_plan", "error_code", "extra_metadata"))
    assert (event.content_id, event.is_eu, event.has_consent, event.extra_metadata) == ("", False, False, None)
    assert read(without(content_id=None, is_eu=None, has_consent=None, extra_metadata=None)).content_id == ""


@pytest.mark.parametrize("moment", [1768566896000, 1768566896000.0])
def test_whole_numbers_are_milliseconds(moment: float) -> None:
    assert read(without(timestamp=moment)).timestamp == 1768566896000


def test_unknown_fields_are_kept_with_the_metadata() -> None:
    event = read(without(player={"bitrate": 5}))
    assert json.loads(event.extra_metadata or "") == EXAMPLE["extra_metadata"] | {"unknown_fields": {"player": {"bitrate": 5}}}
    assert json.loads(read(without("extra_metadata", city="x")).extra_metadata or "") == {"unknown_fields": {"city": "x"}}


def test_metadata_may_be_the_text_of_an_object() -> None:
    assert json.loads(read(without(extra_metadata='{"a": 1}')).extra_metadata or "") == {"a": 1}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([], "object"),
        (None, "object"),
        (without("event_id"), "event_id"),
        (without("timestamp"), "timestamp"),
        (without(user_id=None), "user_id"),
        (without(user_id=42), "user_id"),
        (without(is_eu="yes"), "is_eu"),
        (without(amount="3.50"), "amount"),
        (without(timestamp=1768566896.5), "fraction"),
        (without(timestamp=2**70), "64 bits"),
        (without(timestamp=True), "timestamp"),
        (without(extra_metadata=[1]), "extra_metadata"),
        (without(extra_metadata="not json"), "not JSON"),
        (without(extra_metadata={"unknown_fields": 1}, city="x"), "unknown_fields"),
        (without(city=object()), "cannot be written"),
        (without(extra_metadata={"a": "\ud800"}), "cannot be written"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(found: Any, reason: str) -> None:
    refused = from_json(found, 3)
    assert isinstance(refused, Unreadable)
    assert refused.line_no == 3
    assert reason in refused.reason


def test_a_recording_is_read_line_by_line() -> None:
    lines = [json.dumps(EXAMPLE), "", "{", json.dumps(without(label=3)).encode(), b"\xff\xfe", "\ud800", "[" * 5000, "[]"]
    found = list(read_lines(lines))
    assert isinstance(found[0], Recorded)
    assert found[0].label is None
    assert [one.line_no for one in found] == [1, 3, 4, 5, 6, 7, 8]
    assert all(isinstance(one, Unreadable) for one in found[1:])
