"""Events as JSON lines: how the simulator writes them, and how recordings of others are read.

Written: one object a line with the thirteen fields that every event has, `null` where there is nothing, and the optional ones where
they hold something; `extra_metadata` is a nested object (in Avro it is the text of one). `label` is added only when asked for.

Read: the same, by the mapping of `schemas.jsonevents`, which the ingest API shares. What is no event makes the line unreadable, with
the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.jsonevents import event_from_json
from schemas.records import RawEvent
from simulator.run import LabelledEvent

ALWAYS: Final = (
    "event_id", "user_id", "device_id", "content_id", "event_type", "timestamp", "region", "is_eu", "has_consent",
    "ip_address", "subscription_plan", "error_code", "extra_metadata",
)  # fmt: skip
OPTIONAL: Final = ("payment_token", "email_hash", "user_agent", "session_id", "purpose", "consent_string", "amount", "tenant_id")
LABEL: Final = "label"
_LABEL_ONLY: Final = frozenset({LABEL})

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
    event = event_from_json(found, _LABEL_ONLY)
    if isinstance(event, RawEvent):
        return event
    return Unreadable(line_no, "; ".join(fault.detail for fault in event))


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
