"""How a dead letter is tried again, or why it cannot be."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agents.step import Fault, Received
from agents.validation import validate_event
from commands.dead import DeadRecord, count_reasons, raw_again, readable, topic_called, way_back
from schemas.codec import Case, Codec
from schemas.records import Event, Origin
from schemas.topics import CHECKED, CONSENTS, DECISIONS, RAW, VALID, Topic
from simulator import SimulationConfig, generate
from streams.dead_letters import ATTEMPT, PREFIX, STORABLE_BYTES, dead_letter_headers, storable
from tests.conftest import make_event, make_raw

CODEC = Codec()


def letter(topic: Topic = RAW, stage: str = "validate", value: bytes | None = b"x", **changes: Any) -> DeadRecord:
    headers = dead_letter_headers(topic.name, 1, 2, stage, [Fault("ip-invalid", "no address")], [("traceparent", b"00-1")])
    fields: dict[str, Any] = {"topic": topic, "partition": 0, "offset": 3, "timestamp_ms": 4, "reasons": ("ip-invalid",), "stage": stage, "message": "m",
                              "attempts": 1, "key": b"k", "value": value, "headers": tuple(headers)}  # fmt: skip
    return DeadRecord(**(fields | changes))


@pytest.mark.parametrize("topic", [RAW, CONSENTS, DECISIONS])
@pytest.mark.parametrize("value", [b"rubbish", b"", None])
def test_what_no_watermark_guards_goes_back_untouched_with_its_own_headers_and_attempts(topic: Topic, value: bytes | None) -> None:
    message = way_back(letter(topic, value=value), CODEC)
    assert not isinstance(message, str)
    assert (message.topic, message.key, message.value) == (topic.name, b"k", value)
    headers = dict(message.headers or ())
    assert headers["traceparent"] == b"00-1"
    assert headers[ATTEMPT] == b"1"
    assert not any(name.startswith(PREFIX) for name in headers)


def test_what_the_first_stage_could_not_read_enters_anew() -> None:
    event = make_event(tenant_id="acme", subdivision="NL-NH")
    message = way_back(letter(VALID, "check", CODEC.encode_case(Case(event), VALID.record)), CODEC)
    assert not isinstance(message, str)
    assert (message.topic, message.key) == (RAW.name, b"user-1")
    raw = CODEC.decode(message.value, RAW.record)
    assert raw == raw_again(event)
    assert dict(message.headers or ())[ATTEMPT] == b"1"


def test_what_still_cannot_be_read_or_was_counted_is_refused_with_the_reason() -> None:
    assert way_back(letter(VALID, "check", b"\x00\x00\x00\xff\xffjunk"), CODEC) == "it can still not be read: unknown-schema-id"
    value = CODEC.encode_case(Case(make_event()), VALID.record)
    for one in (letter(VALID, "score", value), letter(CHECKED, "score", value)):
        assert way_back(one, CODEC) == "check had counted the event before score refused it: sent again, it would be dropped as a repeat"


def test_a_value_that_was_cut_is_not_sent_as_if_it_were_whole() -> None:
    value, notes = storable(b"x" * (STORABLE_BYTES + 1))
    one = letter(value=value)
    assert "beginning" in str(way_back(replace(one, headers=(*one.headers, *notes)), CODEC))


def test_a_raw_event_made_of_an_event_is_validated_to_the_same_event() -> None:
    seen = 0
    for one in generate(SimulationConfig(seed=8, events=400, misbehaviour_rate=0.1)):
        raw = one.event
        for region in (raw.region, "EU", "US-CA", ""):
            at_ms = 1_780_000_000_000
            first = validate_event(Received(msgspec.structs.replace(raw, region=region), Origin(partition=0, offset=1), at_ms, b"k", 300))
            assert isinstance(first, Event)
            second = validate_event(Received(raw_again(first), Origin(partition=1, offset=9), at_ms + 5, b"k", 300))
            assert isinstance(second, Event)
            assert msgspec.structs.replace(second, origin=first.origin, received_at=first.received_at, warnings=first.warnings) == first
            seen += 1
    assert seen == 1_600


def test_reasons_are_counted_by_topic_and_stage() -> None:
    found = count_reasons([letter(), letter(reasons=("ip-invalid", "id-empty")), letter(VALID, "check", reasons=())])
    assert found == {
        (RAW.name, "validate", "ip-invalid"): 2,
        (RAW.name, "validate", "id-empty"): 1,
        (VALID.name, "check", "unknown"): 1,
    }


def test_a_letter_is_shown_as_far_as_it_can_be_read() -> None:
    assert "event_id='evt-1'" in readable(letter(value=CODEC.encode(make_raw())), CODEC)
    assert readable(letter(value=b"abc"), CODEC) == "truncated: 3 bytes are less than the 5-byte header; bytes 61 62 63"
    assert readable(letter(value=b"\x07" * 100), CODEC).endswith(" …")
    assert "empty-value" in readable(letter(value=None), CODEC)


def test_a_topic_is_found_with_and_without_the_suffix_of_dead_letters() -> None:
    assert topic_called(RAW.name) is topic_called(RAW.dead) is RAW
    with pytest.raises(KeyError):
        topic_called("ott.nothing.v1")
