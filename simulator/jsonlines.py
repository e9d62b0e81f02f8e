"""Events as JSON lines: how the simulator writes them, and how recordings of others are read.

Written: one object a line with the thirteen fields that every event has, `null` where there is nothing, and the optional ones where
they hold something; `extra_metadata` is a nested object (in Avro it is the text of one). `label` is added only when asked for.

Read: the same. Nothing is guessed. What an event must have and lacks, or has in another type, makes the line unreadable, with the
reason; whether the values make sense is for validation to say. Three liberties are taken, because recordings differ in them:
`null` stands for absent in every field that has a default; `extra_metadata` may be an object or the text of one; fields that
`RawEvent` does not know are kept under `extra_metadata.unknown_fields`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.records import RawEvent
from simulator.run import LabelledEvent

ALWAYS: Final = (
    "event_id", "user_id", "device_id", "content_id", "event_type", "timestamp", "region", "is_eu", "has_consent",
    "ip_address", "subscription_plan", "error_code", "extra_metadata",
)  # fmt: skip
OPTIONAL: Final = ("payment_token", "email_hash", "user_agent", "session_id", "purpose", "consent_string", "amount", "tenant_id")
UNKNOWN_FIELDS: Final = "unknown_fields"
LABEL: Final = "label"
MAX_INTEGER: Final = 2**63 - 1
_KNOWN: Final = frozenset((*ALWAYS, *OPTIONAL))
_DEFAULTED: Final = frozenset({"content_id", "is_eu", "has_consent"})

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no event: its number (from 1; 0 where there are no lines) and why."""

    line_no: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that was read from a line; `label` is the truth where the recording has it."""

    event: RawEvent
    label: str | None
    line_no: int


def to_json_line(labelled: LabelledEvent, labels: bool = False) -> str:
    """The event as one line of JSON without a line end. Metadata that is not valid JSON is written as a string."""
    event = labelled.event
    fields: dict[str, Any] = {name: getattr(event, name) for name in ALWAYS}
    if event.extra_metadata is not None:
        fields["extra_metadata"] = _nested(event.extra_metadata)
    for name in OPTIONAL:
        value = getattr(event, name)
        if value is not None:
            fields[name] = value
    if labels:
        fields[LABEL] = labelled.label
    return _encoder.encode(fields).decode()


def _nested(text: str) -> Any:
    try:
        _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return msgspec.Raw(text.encode())


def from_json(found: Any, line_no: int = 0) -> RawEvent | Unreadable:
    """An event from a decoded JSON object. `label` is left out of it: no detector may see it. Never raises."""
    if not isinstance(found, Mapping):
        return Unreadable(line_no, f"an event is an object, not {type(found).__name__}")
    fields: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in found.items():
        if name not in _KNOWN:
            if name != LABEL:
                unknown[name] = value
        elif value is not None or name not in _DEFAULTED:
            fields[name] = value
    metadata = _metadata_text(fields.get("extra_metadata"), unknown)
    if isinstance(metadata, Unreadable):
        return Unreadable(line_no, metadata.reason)
    fields["extra_metadata"] = metadata
    moment = fields.get("timestamp")
    if isinstance(moment, float):
        if not moment.is_integer():
            return Unreadable(line_no, "timestamp is a fraction: milliseconds since 1970 are whole, and seconds are not assumed")
        fields["timestamp"] = moment = int(moment)
    if isinstance(moment, int) and not -MAX_INTEGER <= moment <= MAX_INTEGER:
        return Unreadable(line_no, "timestamp does not fit 64 bits")
    try:
        return msgspec.convert(fields, RawEvent)
    except msgspec.ValidationError as error:
        return Unreadable(line_no, str(error))


def _metadata_text(value: Any, unknown: Mapping[str, Any]) -> str | Unreadable | None:
    """Metadata as the text of one JSON object, with unknown fields in it."""
    if value is None and not unknown:
        return None
    if isinstance(value, str):
        try:
            value = _decoder.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return Unreadable(0, "extra_metadata is text that is not JSON")
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        return Unreadable(0, f"extra_metadata is an object or the text of one, not {type(value).__name__}")
    if unknown:
        if UNKNOWN_FIELDS in value:
            return Unreadable(0, f"extra_metadata has a field {UNKNOWN_FIELDS} already")
        value = {**value, UNKNOWN_FIELDS: unknown}
    try:
        return _encoder.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        return Unreadable(0, f"extra_metadata cannot be written as JSON: {error}")


def read_line(line: bytes | str, line_no: int) -> Recorded | Unreadable:
    """One line of a recording."""
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, UnicodeEncodeError, RecursionError) as error:
        return Unreadable(line_no, f"not JSON: {error}")
    event = from_json(found, line_no)
    if isinstance(event, Unreadable):
        return event
    label = found.get(LABEL)
    if label is not None and not isinstance(label, str):
        return Unreadable(line_no, "label is not text")
    return Recorded(event, label, line_no)


def read_lines(lines: Iterable[bytes | str]) -> Iterator[Recorded | Unreadable]:
    """All lines of a recording in order; empty ones are passed over but counted."""
    for line_no, line in enumerate(lines, start=1):
        if line.strip():
            yield read_line(line, line_no)
