"""Bodies of `POST /v1/events` as records for Kafka: one event or many, JSON or Avro.

An event is taken if it is a raw event by its schema: all fields there, of the right types, within the size that Kafka takes. Whether
its values make sense is for the stream's validation to say, which keeps what it refuses as a dead letter.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import fastavro
import msgspec

from api.problems import FieldError, Problem, pointer
from schemas.codec import HEADER, Codec, DecodeError
from schemas.jsonevents import event_from_json
from schemas.records import RawEvent
from schemas.store import self_contained, without_logical_types
from schemas.topics import RAW

JSON: Final = "application/json"
AVRO_WIRE: Final = "application/vnd.confluent.avro"
AVRO_BINARY: Final = "avro/binary"
MEDIA_TYPES: Final = (JSON, AVRO_WIRE, AVRO_BINARY)

_BROKEN: Final = frozenset({"empty-value", "truncated", "bad-magic", "trailing-bytes"})
_decoder = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event on its way to Kafka: `value` in the Confluent wire format, keyed by user."""

    event_id: str
    tenant_id: str
    key: bytes
    value: bytes


Path = tuple[str, ...] | None
"""Where the events are in a body; None: the body is the event."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events that may go to Kafka, in the order of the body."""

    records: Sequence[EventRecord]
    path: Path


@dataclass(frozen=True, slots=True)
class JsonEvents:
    """Decoded JSON that may be events."""

    found: Sequence[Any]
    path: Path


def event_pointer(path: Path, position: int, field: str = "") -> str:
    """JSON pointer of an event of a body, or of a field in it."""
    place: tuple[str | int, ...] = () if path is None else (*path, position)
    return pointer(*place, field) if field else pointer(*place)


def media_type(content_type: str) -> str | Problem:
    """The media type of a Content-Type header, in lower case, if it is one that is taken."""
    name, _, parameters = content_type.partition(";")
    found = name.strip().lower()
    if found not in MEDIA_TYPES:
        detail = f"a body is one of {', '.join(MEDIA_TYPES)}"
        return Problem(415, "unsupported-media-type", "Unsupported media type", detail, headers={"Accept": ", ".join(MEDIA_TYPES)})
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if found == JSON and charset not in ("", "utf-8", "utf8", "us-ascii"):
        return Problem(415, "unsupported-media-type", "Unsupported media type", "JSON is UTF-8 (RFC 8259)", headers={"Accept": JSON})
    return found


def too_many(max_events: int) -> Problem:
    """More events than a request may have."""
    return Problem(413, "too-many-events", "Too many events", f"a request takes at most {max_events} events")


def unprocessable(errors: Sequence[FieldError]) -> Problem:
    """What was read is not, or not only, raw events."""
    return Problem(422, "invalid-events", "Not raw events", "nothing was taken; errors names every field that is wrong", tuple(errors))


def read_json(body: bytes, max_events: int) -> JsonEvents | Problem:
    """The body as JSON: an event, an array of events, or an object whose only member `events` is such an array."""
    try:
        found = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Problem(400, "not-json", "Not JSON", f"the body is not JSON: {error}")
    events: JsonEvents
    if isinstance(found, list):
        events = JsonEvents(found, ())
    elif isinstance(found, dict) and "events" in found and "event_id" not in found:
        others = [FieldError(pointer(name), "unknown-member", "a batch has the member events only") for name in found if name != "events"]
        if others:
            return unprocessable(others)
        if not isinstance(found["events"], list):
            return unprocessable([FieldError("#/events", "wrong-type", "events is an array")])
        events = JsonEvents(found["events"], ("events",))
    else:
        return JsonEvents([found], None)
    if not events.found:
        return unprocessable([FieldError(pointer(*(events.path or ())), "empty", "a batch has at least one event")])
    return too_many(max_events) if len(events.found) > max_events else events


class JsonReader:
    """Turns decoded JSON into records, some at a time, so that a large batch leaves the event loop free in between."""

    def __init__(self, codec: Codec, events: JsonEvents, max_event_bytes: int) -> None:
        self._codec, self._events, self._max_event_bytes = codec, events, max_event_bytes
        self._records: list[EventRecord] = []
        self._errors: list[FieldError] = []
        self._large: list[FieldError] = []

    def steps(self, events_a_step: int) -> Iterator[None]:
        """Does the work; each step reads so many events."""
        for position, found in enumerate(self._events.found):
            self._read(position, found)
            if position % events_a_step == events_a_step - 1:
                yield

    def result(self) -> EventBatch | Problem:
        """All records in order, or what is wrong with the events, all of them."""
        if self._errors:
            return unprocessable(self._errors)
        if self._large:
            return _too_large(self._large, self._max_event_bytes)
        return EventBatch(self._records, self._events.path)

    def _read(self, position: int, found: Any) -> None:
        event = event_from_json(found)
        if isinstance(event, tuple):
            self._errors.extend(
                FieldError(event_pointer(self._events.path, position, fault.field), fault.code, fault.detail) for fault in event
            )
            return
        record = _record(event, self._codec.encode(event))
        size_bytes = len(record.key) + len(record.value)
        if size_bytes > self._max_event_bytes:
            self._large.append(_large(event_pointer(self._events.path, position), size_bytes))
        self._records.append(record)


def _record(event: RawEvent, value: bytes) -> EventRecord:
    return EventRecord(event.event_id, event.tenant_id or "default", event.user_id.encode(), value)


def _large(where: str, size_bytes: int) -> FieldError:
    return FieldError(where, "too-large", f"the event has {size_bytes} bytes in Kafka")


def _too_large(errors: Sequence[FieldError], max_event_bytes: int) -> Problem:
    return Problem(413, "event-too-large", "Event too large", f"an event has at most {max_event_bytes} bytes in Kafka", tuple(errors))


def schema_id(body: bytes) -> int | None:
    """The schema id of a body in the wire format; None where it has none."""
    return int(HEADER.unpack_from(body)[1]) if len(body) >= HEADER.size and body[0] == 0 else None


def read_wire(codec: Codec, body: bytes, max_event_bytes: int) -> EventBatch | Problem:
    """One event in the Confluent wire format; its bytes go to Kafka as they are. The caller has seen to it that the id is known."""
    try:
        event = codec.decode(body, RAW.record)
    except DecodeError as error:
        if error.code in _BROKEN:
            return _not_avro(str(error))
        return unprocessable([FieldError("#", error.code, error.detail)])
    assert isinstance(event, RawEvent)
    return _sized(EventBatch([_record(event, body)], None), max_event_bytes)


class AvroReader:
    """Reads bare Avro: one `ott.RawEvent` of the current schema after another, without headers."""

    def __init__(self, codec: Codec) -> None:
        self._schema: Any = fastavro.parse_schema(without_logical_types(self_contained(RAW.record)))
        self._header: Callable[[], bytes] = lambda: codec.header(RAW.record)

    def read(self, body: bytes, max_events: int, max_event_bytes: int) -> EventBatch | Problem:
        """All events of a body; each goes to Kafka as its bytes with a header before them."""
        stream, header, records = BytesIO(body), self._header(), list[EventRecord]()
        start = 0
        while start < len(body):
            if len(records) == max_events:
                return too_many(max_events)
            try:
                event = msgspec.convert(fastavro.schemaless_reader(stream, self._schema, None), RawEvent)
            except (EOFError, IndexError, struct.error, ValueError, TypeError, OverflowError, MemoryError) as error:
                return _not_avro(f"event {len(records)}, from byte {start} on, is no {RAW.record} ({type(error).__name__})")
            end = stream.tell()
            records.append(_record(event, header + body[start:end]))
            start = end
        return _sized(EventBatch(records, ()), max_event_bytes) if records else _not_avro("the body is empty")


def _not_avro(detail: str) -> Problem:
    return Problem(400, "not-avro", "Not Avro", detail)


def _sized(batch: EventBatch, max_event_bytes: int) -> EventBatch | Problem:
    large = [
        _large(event_pointer(batch.path, position), size_bytes)
        for position, record in enumerate(batch.records)
        if (size_bytes := len(record.key) + len(record.value)) > max_event_bytes
    ]
    return _too_large(large, max_event_bytes) if large else batch
