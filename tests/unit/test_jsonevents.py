"""JSON objects as raw events: every fault of every field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.jsonevents import FieldFault, event_from_json
from schemas.records import RawEvent
from tests.api_fakes import EVENT

CODEC = Codec()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def faults(found: Any) -> set[tuple[str, str]]:
    event = event_from_json(found)
    assert isinstance(event, tuple), event
    assert all(isinstance(fault, FieldFault) and fault.detail for fault in event)
    return {(fault.field, fault.code) for fault in event}


def test_all_that_is_missing_is_named() -> None:
    names = ("event_id", "user_id", "device_id", "event_type", "timestamp", "region", "ip_address")
    assert faults({}) == {(name, "missing") for name in names}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"timestamp": 1.5, "region": 3}, {("timestamp", "wrong-type"), ("region", "wrong-type")}),
        ({"timestamp": 1e30}, {("timestamp", "out-of-range")}),
        ({"timestamp": -(2**63)}, {("timestamp", "out-of-range")}),
        ({"timestamp": 2**70}, {("timestamp", "out-of-range")}),
        ({"timestamp": None}, {("timestamp", "wrong-type")}),
        ({"timestamp": float("nan")}, {("timestamp", "wrong-type")}),
        ({"extra_metadata": "[", "is_eu": 1}, {("extra_metadata", "not-json"), ("is_eu", "wrong-type")}),
        ({"extra_metadata": "\ud800"}, {("extra_metadata", "not-json")}),
        ({"extra_metadata": "[1]"}, {("extra_metadata", "wrong-type")}),
        ({"extra_metadata": {"unknown_fields": 1}, "x": 1}, {("extra_metadata", "name-taken")}),
    ],
)
def test_faults_of_several_fields_are_all_named(changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert faults(EVENT | changes) == expected


def test_unknown_fields_are_kept_but_for_those_that_are_left_out() -> None:
    event = event_from_json(EVENT | {"label": "bot", "x": 1}, frozenset({"label"}))
    assert isinstance(event, RawEvent)
    assert json.loads(event.extra_metadata or "")["unknown_fields"] == {"x": 1}


@given(st.dictionaries(st.sampled_from([*EVENT, "amount", "tenant_id", "x"]), VALUES))
def test_anything_is_an_event_that_can_be_encoded_or_faults_with_a_field(changes: dict[str, Any]) -> None:
    found = event_from_json(EVENT | changes)
    if isinstance(found, RawEvent):
        assert CODEC.decode(CODEC.encode(found)) == found
    else:
        assert found
        assert all(fault.field in {*EVENT, *changes} for fault in found)
