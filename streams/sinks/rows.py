"""Records as rows of the sink database: which table, which columns, which values.

Values are in the types of Postgres's binary COPY format (Postgres documentation, "COPY", "Binary Format"), which the server takes
without parsing text: times as microseconds since 2000-01-01, jsonb as a version byte and the text, arrays in their wire
layout. Cost: about 13 µs for the two rows of a decision.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from schemas.codec import Case
from schemas.records import Action, Alert, ConsentRecord, PrivacyRequest, UserRing, Violation
from schemas.topics import DEAD_SUFFIX
from streams.dead_letters import ATTEMPT, PREFIX, REASONS, attempt_of
from streams.sinks.base import SinkRecord
from streams.sinks.layout import (
    ACTIONS,
    ALERTS,
    CONSENTS,
    DEAD_LETTERS,
    DECISIONS,
    EVENTS,
    PRIVACY_REQUESTS,
    RING_MEMBERS,
    RINGS,
    VIOLATIONS,
    Table,
)

R = TypeVar("R")
Row = tuple[Any, ...]

_EPOCH_2000_MS: Final = 946_684_800_000
_OID_TEXT, _OID_FLOAT4 = 25, 700
_NO_TEXTS: Final = struct.pack(">iii", 0, 0, _OID_TEXT)
_NO_FLOATS: Final = struct.pack(">iii", 0, 0, _OID_FLOAT4)
_LENGTH: Final = struct.Struct(">i")
_ARRAY: Final = struct.Struct(">iiiii")
_MOST_ID_LETTERS: Final = 200

_to_json: Final = msgspec.json.Encoder().encode


def _micros(at_ms: int) -> int:
    return (at_ms - _EPOCH_2000_MS) * 1000


def _micros_or_null(at_ms: int | None) -> int | None:
    return None if at_ms is None else _micros(at_ms)


def _json(value: Any) -> bytes:
    return b"\x01" + _to_json(value)


def _texts(values: Sequence[str]) -> bytes:
    if not values:
        return _NO_TEXTS
    parts = [_ARRAY.pack(1, 0, _OID_TEXT, len(values), 1)]
    for value in values:
        data = value.encode()
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def _floats(values: Sequence[float]) -> bytes:
    if not values:
        return _NO_FLOATS
    flat: list[float] = [4] * (2 * len(values))
    flat[1::2] = values
    return struct.pack(f">iiiii{'if' * len(values)}", 1, 0, _OID_FLOAT4, len(values), 1, *flat)


def _event(case: Case) -> Row:
    e = case.event
    return (
        e.event_id, e.tenant_id, _micros(e.timestamp), e.user_id, e.device_id, e.content_id, e.event_type, _micros(e.received_at),
        e.region, e.subdivision, e.is_eu, e.has_consent, e.ip_address, e.subscription_plan, e.error_code, e.extra_metadata,
        e.payment_token, e.email_hash, e.user_agent, e.session_id, e.purpose, e.consent_string, e.amount, _texts(e.warnings),
        e.origin.partition, e.origin.offset,
    )  # fmt: skip


def _decision(case: Case) -> Row | None:
    e, c, s, n, v = case.event, case.compliance, case.score, case.network, case.verdict
    if c is None or s is None or n is None or v is None:
        return None
    return (
        e.event_id, e.tenant_id, _micros(e.timestamp), e.user_id, e.event_type, e.region, v.outcome, v.severity, v.risk, v.threshold,
        _json(v.reasons), _texts(c.laws), c.purpose, c.consent, _json(c.breaches), s.risk, _json(s.members), s.segment,
        _floats(s.features), _texts(n.links), n.ring_id, n.ring_size, n.ring_risk, v.policy_version, c.rules_version, s.model_version,
        s.feature_version, _micros(e.received_at), _micros(c.checked_at), _micros(s.scored_at), _micros(n.linked_at),
        _micros(v.decided_at), e.origin.partition, e.origin.offset,
    )  # fmt: skip


def _violation(v: Violation) -> Row:
    return (
        v.violation_id, v.tenant_id, _micros(v.event_time), v.user_id, v.event_id, v.law, v.rule, v.article, v.severity, v.facts,
        v.region, _micros(v.found_at),
    )  # fmt: skip


def _alert(a: Alert) -> Row:
    return (
        a.alert_id, a.tenant_id, a.user_id, a.event_id, a.kind, a.severity, a.title, a.detail, _micros(a.event_time), _micros(a.raised_at),
    )  # fmt: skip


def _action(a: Action) -> Row:
    return (
        a.action_id, a.tenant_id, a.user_id, a.event_id, a.kind, a.target, a.reason, _micros_or_null(a.expires_at), _micros(a.requested_at),
    )  # fmt: skip


def _consent(c: ConsentRecord) -> Row:
    return (
        c.consent_id, c.tenant_id, c.user_id, c.purpose, c.granted, _micros(c.effective_at), _micros_or_null(c.expires_at), c.source,
        c.birth_year, c.by_guardian,
    )  # fmt: skip


def _privacy_request(r: PrivacyRequest) -> Row:
    return (r.request_id, r.tenant_id, r.user_id, r.kind, r.region, _micros(r.received_at), r.channel)


def _ring(r: UserRing) -> Row | None:
    return (r.tenant_id, r.ring_id, r.size, r.risk, _texts(r.evidence), _micros(r.updated_at)) if r.ring_id else None


def _ring_member(r: UserRing) -> Row:
    return (r.tenant_id, r.user_id, r.ring_id or None, _micros(r.updated_at))


_ROWS: Final[Mapping[type, tuple[tuple[Table, Callable[[Any], Row | None]], ...]]] = {
    Case: ((EVENTS, _event), (DECISIONS, _decision)),
    Violation: ((VIOLATIONS, _violation),),
    Alert: ((ALERTS, _alert),),
    Action: ((ACTIONS, _action),),
    UserRing: ((RINGS, _ring), (RING_MEMBERS, _ring_member)),
    ConsentRecord: ((CONSENTS, _consent),),
    PrivacyRequest: ((PRIVACY_REQUESTS, _privacy_request),),
}


def _whole(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else default


@dataclass(frozen=True, slots=True)
class DeadPlace:
    """Where a dead letter was refused: the identity that a repeat shares."""

    topic: str
    partition: int
    offset: int


def dead_place(record: SinkRecord) -> DeadPlace:
    """Where the dead letter was read, by its headers; where it lies itself if those are missing or broken."""
    texts = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    topic = texts.get(PREFIX + "topic", "")
    partition, offset = _whole(texts.get(PREFIX + "partition", ""), -1), _whole(texts.get(PREFIX + "offset", ""), -1)
    if not topic or partition < 0 or offset < 0 or partition > 2**31 - 1:
        return DeadPlace(record.topic, record.partition, record.offset)
    return DeadPlace(topic, partition, offset)


def _dead_letter(record: SinkRecord) -> Row:
    texts = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    place = dead_place(record)
    about = record.value.event if isinstance(record.value, Case) else record.value
    event_id, tenant_id = getattr(about, "event_id", None), getattr(about, "tenant_id", None)
    reasons = tuple(code for code in texts.get(REASONS, "").split(",") if code) or ("unknown",)
    return (
        place.topic, place.partition, place.offset,
        texts.get(PREFIX + "stage", "unknown"), _texts(reasons), texts.get(PREFIX + "exception.message", ""),
        max(attempt_of(record.headers), 1) if len(texts.get(ATTEMPT, "")) < 9 else 1,
        event_id[:_MOST_ID_LETTERS] if event_id else None, tenant_id[:_MOST_ID_LETTERS] if tenant_id else None,
        hashlib.sha256(record.key).hexdigest() if record.key is not None else None, len(record.raw or b""),
        record.topic, record.partition, record.offset, _micros(record.timestamp_ms),
    )  # fmt: skip


def rows_of(batch: Sequence[SinkRecord]) -> dict[Table, list[Row]]:
    """The rows of a batch by table, at most one a key, in the order in which keys first come.

    Of two rows with one key the first stays, in tables with `newer` the newer one. Tombstones and foreign records have no rows.
    """
    tables: dict[Table, list[Row]] = {}
    for record in batch:
        if record.topic.endswith(DEAD_SUFFIX):
            tables.setdefault(DEAD_LETTERS, []).append(_dead_letter(record))
        elif record.value is not None:
            for table, make in _ROWS.get(type(record.value), ()):
                row = make(record.value)
                if row is not None:
                    tables.setdefault(table, []).append(row)
    return {table: _newest(table, rows) if table.newer else rows for table, rows in tables.items()}


def _newest(table: Table, rows: Sequence[Row]) -> list[Row]:
    key = [table.columns.index(column) for column in table.key]
    when = table.columns.index(table.newer or "")
    kept: dict[Row, Row] = {}
    for row in rows:
        identity = tuple(row[i] for i in key)
        known = kept.get(identity)
        if known is None or row[when] >= known[when]:
            kept[identity] = row
    return list(kept.values())


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {name: _clean(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return value


def without_nul(record: SinkRecord) -> SinkRecord:
    """The record with every NUL in its texts replaced by U+FFFD: Postgres holds every character but that one."""
    headers = tuple((name, None if value is None else value.replace(b"\0", b"?")) for name, value in record.headers)
    value = record.value
    if isinstance(value, Case):
        value = Case(
            _clean_struct(value.event),
            value.compliance and _clean_struct(value.compliance),
            value.score and _clean_struct(value.score),
            value.network and _clean_struct(value.network),
            value.verdict and _clean_struct(value.verdict),
        )
    elif value is not None:
        value = _clean_struct(value)
    return record._replace(value=value, headers=headers)


def _clean_struct(value: R) -> R:
    return msgspec.convert(_clean(msgspec.to_builtins(value)), type(value))
