"""Whatever fits the types survives the codec, and whatever bytes come in give a record or a reason."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Case, Codec, DecodeError
from schemas.records import EVENT_TYPES, Event, Origin, RawEvent

CODEC = Codec()
texts = st.text(max_size=40)
maybe = st.none() | texts
longs = st.integers(-(2**63), 2**63 - 1)

raw_events = st.builds(
    RawEvent, event_id=texts, user_id=texts, device_id=texts, content_id=texts, event_type=texts, timestamp=longs | texts, region=texts,
    is_eu=st.booleans(), has_consent=st.booleans(), ip_address=texts, subscription_plan=maybe, extra_metadata=maybe, amount=st.none() | st.floats(allow_nan=False),
)  # fmt: skip
events = st.builds(
    Event, event_id=texts, tenant_id=texts, user_id=texts, device_id=texts, content_id=texts, event_type=st.sampled_from(EVENT_TYPES), timestamp=longs,
    received_at=longs, region=texts, is_eu=st.booleans(), has_consent=st.booleans(), ip_address=texts, warnings=st.lists(texts, max_size=3).map(tuple),
    origin=st.builds(Origin, partition=st.integers(0, 2**31 - 1), offset=st.integers(0, 2**63 - 1)),
)  # fmt: skip


@given(raw_events)
def test_raw_events_round_trip(record: RawEvent) -> None:
    assert CODEC.decode(CODEC.encode(record)) == record


@given(events)
def test_cases_round_trip(record: Event) -> None:
    data = CODEC.encode_case(Case(record), "ott.ValidEvent")
    back = CODEC.decode(data)
    assert isinstance(back, Case)
    assert back.event == record
    assert CODEC.encode_case(back, "ott.ValidEvent") == data


@settings(max_examples=400)
@given(st.binary(max_size=200), st.sampled_from(sorted(CODEC.ids.by_id)))
def test_any_bytes_give_a_record_or_a_documented_reason(body: bytes, schema_id: int) -> None:
    try:
        found = CODEC.decode(b"\x00" + schema_id.to_bytes(4, "big") + body)
    except DecodeError as error:
        assert error.code in {"empty-value", "truncated", "trailing-bytes", "wrong-types"}
    else:
        assert isinstance(found, Case | msgspec.Struct)
