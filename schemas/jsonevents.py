"""How a JSON object becomes a raw event: the one mapping, for recordings and for the ingest API.

Nothing is guessed. What an event must have and lacks, or has in another type, is a fault of that field; whether the values make
sense is for validation to say. Three liberties are taken, because gateways differ in them: `null` stands for absent in every field
that has a default; `extra_metadata` may be an object or the text of one; fields that `RawEvent` does not know are kept under
`extra_metadata.unknown_fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from schemas.records import RawEvent

UNKNOWN_FIELDS: Final = "unknown_fields"
MAX_INTEGER: Final = 2**63 - 1

FaultCode = Literal["not-an-object", "missing", "wrong-type", "out-of-range", "not-json", "name-taken"]

_FIELDS: Final = msgspec.structs.fields(RawEvent)
_KNOWN: Final = frozenset(field.name for field in _FIELDS)
_NONE_LEFT_OUT: Final[frozenset[str]] = frozenset()
# Null is no value of these; they take their default instead.
_DEFAULTED: Final = frozenset({"content_id", "is_eu", "has_consent"})

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field. `field` is empty where the event as a whole is meant; `detail` holds no value of the event."""

    field: str
    code: FaultCode
    detail: str


def event_from_json(found: Any, left_out: frozenset[str] = _NONE_LEFT_OUT) -> RawEvent | tuple[FieldFault, ...]:
    """A raw event from a decoded JSON value, or every fault of every field (at least one). Never raises.

    Args:
        found: what a JSON decoder gave.
        left_out: names of unknown fields that are dropped instead of kept with the metadata.
    """
    if not isinstance(found, Mapping):
        return (FieldFault("", "not-an-object", f"an event is an object, not {type(found).__name__}"),)
    fields: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in found.items():
        if name not in _KNOWN:
            if name not in left_out:
                unknown[name] = value
        elif value is not None or name not in _DEFAULTED:
            fields[name] = value
    faults: list[FieldFault] = []
    metadata = _metadata_text(fields.pop("extra_metadata", None), unknown)
    if isinstance(metadata, FieldFault):
        faults.append(metadata)
    else:
        fields["extra_metadata"] = metadata
    moment = fields.get("timestamp")
    if isinstance(moment, float) or (isinstance(moment, int) and not -MAX_INTEGER <= moment <= MAX_INTEGER):
        whole = _whole(moment)
        if isinstance(whole, FieldFault):
            faults.append(whole)
            del fields["timestamp"]
        else:
            fields["timestamp"] = whole
    if not faults:
        try:
            return msgspec.convert(fields, RawEvent)
        except msgspec.ValidationError:
            pass  # it names the first fault only; below are all of them
    known = {fault.field for fault in faults}
    faults.extend(fault for fault in _faults_of(fields) if fault.field not in known)
    return tuple(faults)


def _whole(moment: float) -> int | FieldFault:
    if isinstance(moment, float):
        if not moment.is_integer():
            return FieldFault(
                "timestamp", "wrong-type", "timestamp is a fraction: milliseconds since 1970 are whole, and seconds are not assumed"
            )
        moment = int(moment)
    if not -MAX_INTEGER <= moment <= MAX_INTEGER:
        return FieldFault("timestamp", "out-of-range", "timestamp does not fit 64 bits")
    return moment


def _faults_of(fields: Mapping[str, Any]) -> list[FieldFault]:
    found = []
    for field in _FIELDS:
        if field.name not in fields:
            if field.required:
                found.append(FieldFault(field.name, "missing", f"{field.name} is missing"))
            continue
        try:
            msgspec.convert(fields[field.name], field.type)
        except msgspec.ValidationError as error:
            found.append(FieldFault(field.name, "wrong-type", f"{field.name}: {error}"))
    return found


def _metadata_text(value: Any, unknown: Mapping[str, Any]) -> str | FieldFault | None:
    """Metadata as the text of one JSON object, with unknown fields in it."""
    if value is None and not unknown:
        return None
    if isinstance(value, str):
        try:
            value = _decoder.decode(value)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return FieldFault("extra_metadata", "not-json", "extra_metadata is text that is not JSON")
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        return FieldFault("extra_metadata", "wrong-type", f"extra_metadata is an object or the text of one, not {type(value).__name__}")
    if unknown:
        if UNKNOWN_FIELDS in value:
            return FieldFault("extra_metadata", "name-taken", f"extra_metadata has a field {UNKNOWN_FIELDS} already")
        value = {**value, UNKNOWN_FIELDS: unknown}
    try:
        return _encoder.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        return FieldFault("extra_metadata", "not-json", f"extra_metadata cannot be written as JSON: {error}")
