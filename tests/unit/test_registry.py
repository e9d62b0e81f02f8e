"""What a registry may answer, and what records with its ids may do to a worker: never more than make a dead letter."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import fastavro
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec, DecodeError
from schemas.foreign import Unreadable, full_name, parse_writer
from schemas.store import self_contained
from schemas.topics import ALERTS, ALL, RAW
from streams.registry import UNKNOWN_FOR_S, UNKNOWN_MAX, Registry, RegistryAway, RegistryError, RegistryIds, make_codec
from tests.conftest import make_raw

FOREIGN = 500
UNKNOWN = {"error_code": 40403, "message": "Schema not found"}


class FakeRegistry(httpx.BaseTransport):
    """A registry in memory. `trouble` is asked first: what it returns is the answer, what it raises happens on the way."""

    def __init__(self) -> None:
        self.schemas: dict[int, Any] = {}
        self.asked: list[str] = []
        self.trouble: Callable[[httpx.Request], httpx.Response | None] = lambda request: None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        answer = self.trouble(request)
        if answer is not None:
            return answer
        if request.method == "PUT":
            return httpx.Response(200, json=json.loads(request.content))
        if request.method == "POST":
            schema_id = len(self.schemas) + 1
            self.schemas[schema_id] = json.loads(request.content)
            return httpx.Response(200, json={"id": schema_id})
        found = self.schemas.get(int(request.url.path.rsplit("/", 1)[1]))
        return httpx.Response(404, json=UNKNOWN) if found is None else httpx.Response(200, json=found)

    def give(self, schema: Any, schema_id: int = FOREIGN, **more: Any) -> None:
        """Registers a schema, JSON or any text."""
        self.schemas[schema_id] = {"schema": schema if isinstance(schema, str) else json.dumps(schema), **more}

    @property
    def lookups(self) -> int:
        return sum(one.startswith("GET") for one in self.asked)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def codec(fake: FakeRegistry, clock: Clock) -> Codec:
    registry = Registry("http://registry", start_within_s=1e-6, find_within_s=1e-6, transport=fake)
    return Codec(RegistryIds(registry, ALL, clock))


def wire(body: bytes = b"", schema_id: int = FOREIGN) -> bytes:
    return struct.pack(">bI", 0, schema_id) + body


def code_of(codec: Codec, data: bytes, expected: str | None = RAW.record) -> str:
    with pytest.raises(DecodeError) as caught:
        codec.decode(data, expected)
    return caught.value.code


def raw_with(**changes: Any) -> dict[str, Any]:
    return self_contained("ott.RawEvent") | changes


def raw_and(*fields: dict[str, Any]) -> dict[str, Any]:
    """Our raw event with more fields in front."""
    return raw_with(fields=[*fields, *self_contained("ott.RawEvent")["fields"]])


def body_of(raw: Any) -> bytes:
    return Codec().encode(raw)[5:]


# --- what stands in a registry beside our schemas


@pytest.mark.parametrize(
    ("schema", "more"),
    [
        ('"string"', {}),
        ('["null", "string"]', {}),
        ("7", {}),
        ("null", {}),
        ({"type": "enum", "name": "ott.RawEvent", "symbols": ["A"]}, {}),
        ({"type": "array", "items": "string"}, {}),
        ({"type": "record", "fields": []}, {}),
        ({"type": "record", "name": 7, "fields": []}, {}),
        ('syntax = "proto3"; message Foo {}', {"schemaType": "PROTOBUF"}),
        ('syntax = "proto3"; message Foo {}', {}),
        ('{"type": "object", "properties": {}}', {"schemaType": "JSON"}),
        ({"type": "record", "name": "ott.RawEvent", "fields": []}, {"schemaType": "JSON"}),
        ("[" * 100_000, {}),
    ],
)
@pytest.mark.parametrize("expected", [RAW.record, None])
def test_a_schema_that_is_no_avro_record_is_unknown(codec: Codec, fake: FakeRegistry, schema: Any, more: Any, expected: str | None) -> None:
    fake.give(schema, **more)
    assert code_of(codec, wire(b"\x02\x02\x02"), expected) == "unknown-schema-id"


def test_an_answer_without_a_schema_is_unknown(codec: Codec, fake: FakeRegistry) -> None:
    fake.schemas = {FOREIGN: {"subject": "x"}, FOREIGN + 1: {"schema": ["x"]}}
    assert code_of(codec, wire()) == code_of(codec, wire(schema_id=FOREIGN + 1)) == "unknown-schema-id"


@pytest.mark.parametrize("expected", [RAW.record, None])
def test_a_record_of_somebody_else_is_the_wrong_schema_and_its_schema_is_not_kept(
    codec: Codec, fake: FakeRegistry, expected: str | None
) -> None:
    fake.give({"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "x" * 5_000, "type": "string"}]})
    assert code_of(codec, wire(b"\x02x"), expected) == "wrong-schema"
    assert codec.ids.by_id[FOREIGN].schema == {}
    assert code_of(codec, wire(b"\x02x"), expected) == "wrong-schema"
    assert fake.lookups == 1


INCOMPATIBLE = {
    "another type": raw_with(fields=[{"name": "event_id", "type": "long"}]),
    "no field of ours": raw_with(fields=[{"name": "other", "type": "string"}]),
    "unknown name": raw_and({"name": "other", "type": "shop.Order"}),
    "unknown type": raw_and({"name": "other", "type": "wibble"}),
    "no fields": {"type": "record", "name": "ott.RawEvent"},
    "fields no list": raw_with(fields={"name": "x"}),
    "fields of text": raw_with(fields=["x"]),
    "type within a type": raw_and({"name": "other", "type": {"type": {"type": "string"}}}),
    "type missing": raw_and({"name": "other"}),
    "logical type of nothing": raw_and({"name": "other", "type": {"logicalType": "date"}}),
    "double name": raw_and({"name": "other", "type": raw_with(fields=[])}),
    "bad default": raw_and({"name": "other", "type": {"type": "enum", "name": "E", "symbols": [1]}}),
}


@pytest.mark.parametrize("why", INCOMPATIBLE)
def test_a_record_of_our_name_that_cannot_become_ours_is_the_wrong_schema(codec: Codec, fake: FakeRegistry, why: str, raw: Any) -> None:
    fake.give(INCOMPATIBLE[why])
    for body in (b"\x02" * 40, body_of(raw())):
        assert code_of(codec, wire(body)) == "wrong-schema"


def test_a_value_that_only_the_writers_union_can_hold_is_the_wrong_schema(codec: Codec, fake: FakeRegistry, raw: Any) -> None:
    schema = raw_with()
    schema["fields"] = [
        field | ({"type": ["long", "string", "boolean"]} if field["name"] == "timestamp" else {}) for field in schema["fields"]
    ]
    fake.give(schema)
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    fields = {name: getattr(raw(), name) for name in (field["name"] for field in schema["fields"])}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, fields)
    assert codec.decode(wire(out.getvalue()), RAW.record) == raw()
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, fields | {"timestamp": True})
    assert code_of(codec, wire(out.getvalue())) == "wrong-schema"


@pytest.mark.parametrize(
    "named", [{"name": "ott.RawEvent", "namespace": ""}, {"name": "ott.RawEvent"}, {"name": "RawEvent", "namespace": "ott"}]
)
def test_a_full_name_may_be_written_in_each_way_that_avro_knows(codec: Codec, fake: FakeRegistry, named: dict[str, str], raw: Any) -> None:
    schema = {key: value for key, value in raw_with().items() if key not in ("name", "namespace")}
    fake.give(schema | named)
    assert codec.decode(wire(body_of(raw())), RAW.record) == raw()


# --- schemas that are valid and would let a few bytes break the reader

HOLDS_ITSELF = raw_and({"name": "inner", "type": ["null", "ott.RawEvent"]})
HOLDS_ITSELF_FAR = raw_and(
    {"name": "a", "type": {"type": "record", "name": "A", "fields": [{"name": "b", "type": {"type": "map", "values": "ott.RawEvent"}}]}}
)
NO_BYTES = raw_and({"name": "none", "type": {"type": "array", "items": "null"}})
NO_BYTES_NAMED = raw_and(
    {"name": "one", "type": {"type": "fixed", "name": "Nothing", "size": 0}},
    {"name": "many", "type": {"type": "array", "items": "Nothing"}},
)
EMPTY_RECORD = raw_and({"name": "a", "type": {"type": "record", "name": "A", "fields": [{"name": "x", "type": "null"}]}})


def long_of(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (HOLDS_ITSELF, b"\x02" * 500_000),  # a stack overflow in C, that is the end of the process, where it is read
        (HOLDS_ITSELF_FAR, b"\x02" * 500_000),
        (NO_BYTES, long_of(2**40)),  # an endless loop where it is read
        (NO_BYTES_NAMED, long_of(2**40)),
        (EMPTY_RECORD, b""),
    ],
)
def test_a_schema_that_makes_few_bytes_much_work_is_not_read_with(codec: Codec, fake: FakeRegistry, schema: Any, body: bytes) -> None:
    fake.give(schema)
    assert code_of(codec, wire(body)) == "wrong-schema"


def test_harmless_schemas_are_read_with(codec: Codec, fake: FakeRegistry, raw: Any) -> None:
    twice = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "double"}, {"name": "n", "type": "null"}]}
    fake.give(
        raw_and(
            {"name": "a", "type": twice},
            {"name": "b", "type": "Point"},
            {"name": "c", "type": {"type": "array", "items": "Point"}},
            {"name": "d", "type": {"type": "map", "values": "null"}},
            {"name": "e", "type": {"type": "string"}},
            {"name": "f", "type": {"type": "enum", "name": "Kind", "symbols": ["A"]}},
        )
    )
    assert codec.decode(wire(bytes(8) + bytes(8) + b"\0\0" + b"\0" + b"\0" + body_of(raw())), RAW.record) == raw()


def test_what_cannot_be_parsed_says_why() -> None:
    with pytest.raises(Unreadable, match="UnknownType"):
        parse_writer("wibble")
    assert full_name({"type": "record", "name": "Order"}) == "Order"


@st.composite
def odd_schemas(draw: st.DrawFn) -> Any:
    """Our raw event with some part of it replaced by what does not belong there."""
    junk = st.recursive(
        st.sampled_from(["string", "null", "long", "record", "ott.RawEvent", "array", "", 7, None, True, "ott.Origin", "decimal"]),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "name", "fields", "items", "values", "symbols", "logicalType", "size", "default"]), inner, max_size=4),
        max_leaves=6,
    )  # fmt: skip
    schema = json.loads(json.dumps(raw_with()))
    for _ in range(draw(st.integers(1, 3))):
        field = draw(st.integers(0, len(schema["fields"]) - 1))
        where = draw(st.sampled_from(["field", "type", "name", "default", "top"]))
        if where == "field":
            schema["fields"][field] = draw(junk)
        elif where == "top":
            schema[draw(st.sampled_from(["doc", "aliases", "logicalType", "namespace"]))] = draw(junk)
        elif isinstance(schema["fields"][field], dict):
            schema["fields"][field][where] = draw(junk)
    return schema


@settings(max_examples=300, deadline=None)
@given(odd_schemas(), st.binary(max_size=60), st.booleans())
def test_whatever_the_schema_bytes_give_a_record_or_a_documented_reason(schema: Any, body: bytes, whole: bool) -> None:
    fake = FakeRegistry()
    codec = Codec(RegistryIds(Registry("http://registry", find_within_s=1e-6, transport=fake), [RAW], Clock()))
    fake.give(schema)
    for expected in (RAW.record, None):
        try:
            codec.decode(wire(body_of(make_raw()) if whole else body), expected)
        except DecodeError as error:
            assert error.code in {"unknown-schema-id", "wrong-schema", "truncated", "trailing-bytes", "wrong-types"}


# --- ids the registry does not know


def test_an_unknown_id_is_asked_for_again_after_a_while(codec: Codec, fake: FakeRegistry, clock: Clock, raw: Any) -> None:
    assert code_of(codec, wire(body_of(raw()))) == "unknown-schema-id"
    fake.give(raw_with())
    clock.now += UNKNOWN_FOR_S - 1
    assert code_of(codec, wire(body_of(raw()))) == "unknown-schema-id"
    assert fake.lookups == 1
    clock.now += 1
    assert codec.decode(wire(body_of(raw())), RAW.record) == raw()
    assert codec.decode(wire(body_of(raw())), RAW.record) == raw()
    assert fake.lookups == 2


def test_made_up_ids_are_asked_for_and_remembered_in_bounds(codec: Codec, fake: FakeRegistry, clock: Clock, raw: Any) -> None:
    for made_up in range(10_000, 15_000):
        assert code_of(codec, wire(schema_id=made_up)) == "unknown-schema-id"
    assert fake.lookups == UNKNOWN_MAX
    assert isinstance(codec.ids, RegistryIds)
    assert len(codec.ids._unknown) == UNKNOWN_MAX
    clock.now += UNKNOWN_FOR_S
    fake.give(raw_with())
    assert codec.decode(wire(body_of(raw())), RAW.record) == raw()


def test_an_id_found_later_is_not_written_with(codec: Codec, fake: FakeRegistry, raw: Any) -> None:
    before = codec.encode(raw())
    fake.give(raw_with())
    codec.decode(wire(body_of(raw())), RAW.record)
    assert codec.encode(raw()) == before


# --- a registry that is away


def raising(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def trouble(request: httpx.Request) -> httpx.Response:
        raise error

    return trouble


def answering(status: int, text: str = "") -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, text=text)


AWAY: dict[str, Callable[[httpx.Request], httpx.Response]] = {
    "refused": raising(httpx.ConnectError("refused")),
    "slow": raising(httpx.ReadTimeout("slow")),
    "cut off": raising(httpx.RemoteProtocolError("cut off")),
    "starting": answering(503, '{"error_code": 50301}'),
    "busy": answering(429, '{"error_code": 429}'),
    "a proxy's page": answering(200, "<html>maintenance</html>"),
    "a proxy's 404": answering(404, "default backend - 404"),
    "no object": answering(200, "[]"),
}


@pytest.mark.parametrize("how", AWAY)
def test_a_registry_that_is_away_says_nothing_about_a_record(codec: Codec, fake: FakeRegistry, raw: Any, how: str) -> None:
    ours = codec.encode(raw())
    fake.give(raw_with())
    fake.trouble = AWAY[how]
    with pytest.raises(RegistryAway):
        codec.decode(wire(body_of(raw())), RAW.record)
    assert codec.decode(ours, RAW.record) == raw()  # known ids need no registry
    fake.trouble = lambda request: None
    assert codec.decode(wire(body_of(raw())), RAW.record) == raw()  # at once: being away is not remembered


def test_a_registry_that_refuses_a_lookup_says_nothing_about_a_record(codec: Codec, fake: FakeRegistry) -> None:
    fake.trouble = answering(403, '{"error_code": 40301}')
    with pytest.raises(RegistryError, match="403"):
        codec.decode(wire(), RAW.record)


def test_a_lookup_is_repeated_and_bounded(fake: FakeRegistry) -> None:
    fake.give(raw_with())
    troubles: list[Any] = [httpx.Response(503, json={}), httpx.Response(503, json={})]
    fake.trouble = lambda request: troubles.pop() if troubles else None
    assert Registry("http://registry", transport=fake).find(FOREIGN) is not None
    waits: list[dict[str, float]] = []

    def slow(request: httpx.Request) -> httpx.Response:
        waits.append(request.extensions["timeout"])
        raise httpx.ConnectError("refused")

    fake.trouble = slow
    started = time.monotonic()
    with pytest.raises(RegistryAway):
        Registry("http://registry", find_within_s=0.3, transport=fake).find(FOREIGN)
    assert time.monotonic() - started < 3.0
    assert 1 < len(waits) < 8
    assert all(one["connect"] + one["read"] <= 0.3 for one in waits)


# --- the start


def test_the_start_sets_the_rule_registers_every_topic_and_waits_for_a_registry_that_starts(fake: FakeRegistry) -> None:
    troubles: list[Any] = [httpx.Response(503, text="starting"), httpx.Response(503, text="starting")]
    fake.trouble = lambda request: troubles.pop() if troubles else None
    registry = Registry("http://registry/base/", transport=fake)
    registry.require_compatibility()
    ids = RegistryIds(registry, ALL)
    assert fake.asked[2] == "PUT /base/config"
    assert fake.asked[3:] == [f"POST /base/subjects/{topic.name}-value/versions" for topic in ALL]
    assert ids.current == {topic.record: number for number, topic in enumerate(ALL, 1)}
    assert json.loads(fake.schemas[1]["schema"]) == self_contained(ALL[0].record)


def test_a_refused_schema_ends_the_start_and_says_which(fake: FakeRegistry) -> None:
    fake.trouble = answering(409, '{"error_code": 409, "message": "incompatible"}')
    with pytest.raises(RegistryError, match=r"ott\.alerts.*409.*incompatible") as caught:
        Registry("http://registry", transport=fake).register(ALERTS)
    assert not isinstance(caught.value, RegistryAway)
    assert len(fake.asked) == 1


def test_without_a_registry_the_lock_file_counts(raw: Any) -> None:
    codec = make_codec(None, ALL)
    assert type(codec.ids) is not RegistryIds
    assert codec.decode(codec.encode(raw())) == raw()
