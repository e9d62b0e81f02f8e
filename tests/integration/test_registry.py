"""Against a real registry (Apicurio): Usher's ids, its rule, and readers and writers that know nothing of Usher."""

from __future__ import annotations

import io
import json
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import httpx
import msgspec
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from deploy.local.platform import LocalPlatform
from schemas.codec import Codec, DecodeError
from schemas.records import RECORDS, RawEvent
from schemas.store import self_contained, without_logical_types
from schemas.topics import ALERTS, ALL, RAW
from streams.registry import FIND_WITHIN_S, RegistryAway, RegistryError, make_codec

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

AT_MS = 1_780_000_000_123
AT = datetime(2026, 5, 28, 20, 26, 40, 123_000, tzinfo=UTC)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(Path(tmp_path_factory.mktemp("registry")), services=("kafka", "registry")) as platform:
        yield platform


@pytest.fixture(scope="module")
def codec(running: LocalPlatform) -> Codec:
    return make_codec(running.registry_url, ALL)


@pytest.fixture
def client(running: LocalPlatform) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": running.registry_url})


def sample(kind: Any, known: dict[str, Any], at: Any) -> Any:
    """A value of a schema with every field filled, with `at` for each time."""
    if isinstance(kind, list):
        return sample(next(branch for branch in kind if branch != "null"), known, at)
    if isinstance(kind, str) and kind in known:
        return sample(known[kind], known, at)
    if isinstance(kind, str):
        return {"string": "text", "boolean": True, "int": 7, "long": 2**40, "float": 0.5, "double": 0.25, "bytes": b"\x00\xff"}[kind]
    if kind.get("logicalType") == "timestamp-millis":
        return at
    if "name" in kind:
        known[f"{kind['namespace']}.{kind['name']}"] = kind
    match kind["type"]:
        case "record":
            return {field["name"]: sample(field["type"], known, at) for field in kind["fields"]}
        case "enum":
            return kind["symbols"][-1]
        case "array":
            return [sample(kind["items"], known, at)]
        case "map":
            return {"key": sample(kind["values"], known, at)}
        case other:
            return sample(other, known, at)


@dataclass(frozen=True)
class Sent:
    """What lies in Kafka, by topic: the value's bytes."""

    values: dict[str, bytes]


@pytest.fixture(scope="module")
def sent(running: LocalPlatform, codec: Codec) -> Sent:
    """One record of each topic, written by Usher's codec and fetched from Kafka again."""
    admin = AdminClient({"bootstrap.servers": running.bootstrap_servers})
    for future in admin.create_topics([NewTopic(topic.name, 1, 1) for topic in ALL]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": running.bootstrap_servers})
    for topic in ALL:
        record = msgspec.convert(sample(self_contained(topic.record), {}, AT_MS), RECORDS[topic.record])
        producer.produce(topic.name, codec.encode(record), b"key")
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": running.bootstrap_servers, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic.name for topic in ALL])
    values: dict[str, bytes] = {}
    deadline = time.monotonic() + 60
    while len(values) < len(ALL):
        assert time.monotonic() < deadline
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values[message.topic()] = message.value()
    consumer.close()
    return Sent(values)


def times_in(value: Any) -> int:
    """How many datetimes there are, at any depth."""
    if isinstance(value, dict):
        return sum(map(times_in, value.values()))
    if isinstance(value, list):
        return sum(map(times_in, value))
    return isinstance(value, datetime)


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_a_stock_deserialiser_reads_every_topic(topic: Any, sent: Sent, client: SchemaRegistryClient) -> None:
    found = AvroDeserializer(client)(sent.values[topic.name], SerializationContext(topic.name, MessageField.VALUE))
    assert found == sample(self_contained(topic.record), {}, AT)
    assert times_in(found) > 0


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_a_consumer_that_knows_only_the_wire_format_reads_every_topic(topic: Any, sent: Sent, running: LocalPlatform) -> None:
    value = sent.values[topic.name]
    magic, schema_id = struct.unpack(">bI", value[:5])  # as kcat -s avro does
    assert magic == 0
    schema = httpx.get(f"{running.registry_url}/schemas/ids/{schema_id}", timeout=10.0).raise_for_status().json()["schema"]
    body = io.BytesIO(value[5:])
    found = fastavro.schemaless_reader(body, fastavro.parse_schema(json.loads(schema)), None)
    assert found == sample(self_contained(topic.record), {}, AT)
    assert body.read() == b""


def test_every_topic_is_registered_under_its_name_with_our_schema(codec: Codec, client: SchemaRegistryClient) -> None:
    for topic in ALL:
        latest = client.get_latest_version(f"{topic.name}-value")
        assert latest.schema_id == codec.ids.current[topic.record]
        assert without_logical_types(json.loads(latest.schema.schema_str)) == without_logical_types(self_contained(topic.record))
    assert len(set(codec.ids.current.values())) == len({topic.record for topic in ALL})


def test_another_process_gets_the_same_ids(codec: Codec, running: LocalPlatform) -> None:
    assert make_codec(running.registry_url, ALL).ids.current == codec.ids.current


def changed(**fields: Any) -> dict[str, Any]:
    """Our raw event with changed and more fields."""
    schema = self_contained("ott.RawEvent")
    kept = [field | fields.pop(field["name"], {}) for field in schema["fields"]]
    return schema | {"fields": [*kept, *({"name": name, **rest} for name, rest in fields.items())]}


def test_the_rule_is_backward_transitive_and_the_registry_keeps_it(
    codec: Codec, running: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert httpx.get(f"{running.registry_url}/config", timeout=10.0).json()["compatibilityLevel"] == "BACKWARD_TRANSITIVE"
    for refused in (changed(needed={"type": "string"}), changed(user_id={"type": "long"})):
        monkeypatch.setattr(
            "streams.registry.self_contained", lambda name, refused=refused: refused if name == RAW.record else self_contained(name)
        )
        with pytest.raises(RegistryError, match=r"ott\.events\.raw.*409") as caught:
            make_codec(running.registry_url, ALL)
        assert not isinstance(caught.value, RegistryAway)


def stock_value(client: SchemaRegistryClient, schema: dict[str, Any], **fields: Any) -> bytes:
    """A raw event as a gateway writes it that uses Confluent's serialiser."""
    write = AvroSerializer(client, json.dumps(schema))
    event = sample(schema, {}, AT) | fields
    value = write(event, SerializationContext(RAW.name, MessageField.VALUE))
    assert isinstance(value, bytes)
    return value


def test_we_read_what_a_stock_serialiser_writes(codec: Codec, client: SchemaRegistryClient) -> None:
    found = codec.decode(stock_value(client, self_contained("ott.RawEvent"), amount=None), RAW.record)
    expected = sample(self_contained("ott.RawEvent"), {}, AT_MS) | {"amount": None}
    assert found == msgspec.convert(expected, RawEvent)


def test_we_read_a_newer_schema_that_was_registered_after_we_started(codec: Codec, client: SchemaRegistryClient) -> None:
    newer = changed(firmware={"type": ["null", "string"], "default": None})
    value = stock_value(client, newer, user_id="u-77", firmware="7.1")
    schema_id = struct.unpack(">bI", value[:5])[1]
    assert schema_id not in codec.ids.by_id
    found = codec.decode(value, RAW.record)
    assert isinstance(found, RawEvent)
    assert (found.user_id, found.timestamp) == ("u-77", AT_MS)
    assert codec.ids.current[RAW.record] != schema_id


@pytest.mark.parametrize(
    ("kind", "schema", "code"),
    [
        ("AVRO", '"string"', "unknown-schema-id"),
        ("PROTOBUF", 'syntax = "proto3"; message Foo { string a = 1; }', "unknown-schema-id"),
        ("JSON", '{"type": "object", "properties": {"a": {"type": "string"}}}', "unknown-schema-id"),
        ("AVRO", '{"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "a", "type": "string"}]}', "wrong-schema"),
        ("AVRO", '{"type": "record", "name": "RawEvent", "namespace": "ott", "fields": [{"name": "a", "type": "string"}]}', "wrong-schema"),
        ("AVRO", '{"type": "record", "name": "ott.RawEvent", "fields": [{"name": "a", "type": ["null", "ott.RawEvent"]}]}', "wrong-schema"),
    ],
)  # fmt: skip
def test_what_others_registered_makes_dead_letters(codec: Codec, running: LocalPlatform, kind: str, schema: str, code: str) -> None:
    answer = httpx.post(
        f"{running.registry_url}/subjects/other-{uuid.uuid4().hex}-value/versions",
        json={"schema": schema, "schemaType": kind},
        timeout=10.0,
    )
    value = struct.pack(">bI", 0, answer.raise_for_status().json()["id"]) + b"\x02a"
    for _ in range(2):
        with pytest.raises(DecodeError) as caught:
            codec.decode(value, RAW.record)
        assert caught.value.code == code


def test_an_id_the_registry_does_not_have_is_a_dead_letter(codec: Codec) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode(struct.pack(">bI", 0, 4_000_000_000) + b"\x02a", RAW.record)
    assert caught.value.code == "unknown-schema-id"


def test_a_registry_that_hangs_or_is_gone_is_no_fault_of_a_record(codec: Codec, running: LocalPlatform, raw: Any) -> None:
    value = codec.encode(raw())
    running.restart("registry")  # in order, so that what was registered just now is on disk before the kill
    reader = make_codec(running.registry_url, [ALERTS])
    ours = reader.encode(msgspec.convert(sample(self_contained(ALERTS.record), {}, AT_MS), RECORDS[ALERTS.record]))

    def is_away() -> None:
        started = time.monotonic()
        with pytest.raises(RegistryAway):
            reader.decode(value, RAW.record)
        assert time.monotonic() - started < 2 * FIND_WITHIN_S
        assert reader.decode(ours, ALERTS.record) is not None

    running.pause("registry")
    try:
        is_away()
    finally:
        running.resume("registry")
    running.kill("registry")
    try:
        is_away()
    finally:
        running.restart("registry")
    assert reader.decode(value, RAW.record) == raw()
