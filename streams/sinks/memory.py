"""The sink of the tests and of runs without a store: keeps records in memory under the keys the other sinks use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas.codec import Case
from schemas.records import Action, Alert, ConsentRecord, PrivacyRequest, UserRing, Violation
from schemas.topics import ACTIONS, ALERTS, CONSENTS, DEAD_SUFFIX, DECISIONS, PRIVACY_REQUESTS, USER_RINGS, VIOLATIONS, Topic
from streams.sinks.base import SinkRecord
from streams.sinks.rows import dead_place

Key = tuple[Any, ...]

_KEYS: Final[Mapping[type, tuple[str, Callable[[Any], Key]]]] = {
    Case: ("decisions", lambda case: (case.event.tenant_id, case.event.event_id)),
    Alert: ("alerts", lambda alert: (alert.tenant_id, alert.alert_id)),
    Action: ("actions", lambda action: (action.tenant_id, action.action_id)),
    Violation: ("violations", lambda violation: (violation.tenant_id, violation.violation_id)),
    ConsentRecord: ("consents", lambda consent: (consent.tenant_id, consent.consent_id)),
    PrivacyRequest: ("privacy_requests", lambda request: (request.tenant_id, request.request_id)),
    UserRing: ("ring_members", lambda ring: (ring.tenant_id, ring.user_id)),
}


class MemorySink:
    """Keeps every record once: the first with a key stays, of rings the newest."""

    name: Final = "memory"
    topics: Final[tuple[Topic, ...]] = (DECISIONS, ALERTS, ACTIONS, VIOLATIONS, USER_RINGS, CONSENTS, PRIVACY_REQUESTS)
    takes_dead_letters: Final = True

    def __init__(self) -> None:
        self.rows: dict[str, dict[Key, Case | msgspec.Struct | SinkRecord]] = {}
        """Records by table and key; a dead letter is kept as it came."""

    def write(self, batch: Sequence[SinkRecord]) -> None:
        """Stores a batch. Never raises."""
        for record in batch:
            value = record.value
            if record.topic.endswith(DEAD_SUFFIX):
                place = dead_place(record)
                self.rows.setdefault("dead_letters", {}).setdefault((place.topic, place.partition, place.offset), record)
            elif value is not None and type(value) in _KEYS:
                table, key_of = _KEYS[type(value)]
                rows, key = self.rows.setdefault(table, {}), key_of(value)
                known = rows.get(key)
                newer = isinstance(value, UserRing) and isinstance(known, UserRing) and value.updated_at >= known.updated_at
                if known is None or newer:
                    rows[key] = value

    def ping(self) -> None:
        """Memory is always there."""

    def close(self) -> None:
        """Keeps the rows: a test reads them afterwards."""
