"""Records for the tests of the sinks: real ones in every field, made from a number, so that the same number gives the same record."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.codec import Case
from schemas.records import (
    Action,
    Alert,
    Breach,
    Compliance,
    ConsentRecord,
    Event,
    Members,
    Network,
    Origin,
    PrivacyRequest,
    Reason,
    Score,
    UserRing,
    Verdict,
    Violation,
)
from schemas.topics import DECISIONS
from streams.sinks.base import SinkRecord

NOON_MS: Final = 1_790_000_000_000
"""An event time in the tests (Unix ms)."""


def decision(
    number: int, *, user: str | None = None, event_time: int | None = None, decided_at: int = NOON_MS + 90, text: str = ""
) -> Case:
    """A decided case. `text` goes into every free text."""
    at = NOON_MS + number * 1_000 if event_time is None else event_time
    blocked = number % 5 == 0
    return Case(
        Event(
            event_id=f"e-{number:032x}",
            tenant_id="default",
            user_id=user or f"u-{number % 50}",
            device_id=f"d-{number % 70}",
            content_id=f"c-{number % 900}" + text,
            event_type="PLAY",
            timestamp=at,
            received_at=at + 20,
            region="DE",
            is_eu=True,
            has_consent=True,
            ip_address="203.0.113.7",
            subscription_plan="premium",
            extra_metadata='{"player": "7.1", "quality": "1080p"}',
            user_agent="Mozilla/5.0 (SMART-TV; Linux) Player/7.1" + text,
            session_id=f"s-{number}",
            purpose="service",
            warnings=("late",) if blocked else (),
            origin=Origin(partition=number % 8, offset=number),
        ),
        Compliance(
            laws=("GDPR", "UK-GDPR"),
            purpose="service",
            consent="GRANTED",
            breaches=(Breach(law="GDPR", rule="consent-missing", article="Art 6(1)(a)", severity="HIGH", facts="no consent" + text),)
            if blocked
            else (),
            rules_version="2026.1",
            checked_at=at + 30,
        ),
        Score(
            risk=0.25,
            members=Members(isolation_forest=0.3, local_outlier_factor=0.2, half_space_trees=None, rules=0.1),
            reasons=(Reason(code="new-device", contribution=0.2, detail="first seen today" + text),),
            segment="normal",
            model_version="m1",
            features=tuple(float(i) / 7 for i in range(32)),
            feature_version="f1",
            scored_at=at + 40,
        ),
        Network(
            links=("device:d-1",),
            ring_id="r-1" if blocked else None,
            ring_size=4 if blocked else 0,
            ring_risk=0.4,
            evidence=(),
            linked_at=at + 50,
        ),
        Verdict(
            outcome="BLOCK" if blocked else "ALLOW",
            risk=0.9 if blocked else 0.25,
            threshold=0.7,
            severity="HIGH" if blocked else "LOW",
            reasons=(
                Reason(code="impossible-travel", contribution=0.6, detail="1,200 km in 10 minutes" + text),
                Reason(code="new-device", contribution=0.2, detail="first seen today"),
            ),
            policy_version="p1",
            decided_at=decided_at,
        ),
    )


def alert(number: int) -> Alert:
    """An alert about the decision of the same number."""
    return Alert(
        alert_id=f"a-{number}",
        tenant_id="default",
        user_id=f"u-{number % 50}",
        event_id=f"e-{number:032x}",
        kind="impossible-travel",
        severity="HIGH",
        title="Impossible travel",
        detail="1,200 km in 10 minutes",
        event_time=NOON_MS + number * 1_000,
        raised_at=NOON_MS + number * 1_000 + 100,
    )


def action(number: int) -> Action:
    """An action on the decision of the same number."""
    return Action(
        action_id=f"x-{number}",
        tenant_id="default",
        user_id=f"u-{number % 50}",
        event_id=f"e-{number:032x}",
        kind="STEP_UP",
        target=f"s-{number}",
        reason="impossible-travel",
        requested_at=NOON_MS + number * 1_000,
    )


def violation(number: int) -> Violation:
    """A violation by the event of the same number."""
    return Violation(
        violation_id=f"v-{number}",
        tenant_id="default",
        user_id=f"u-{number % 50}",
        event_id=f"e-{number:032x}",
        law="GDPR",
        rule="consent-missing",
        article="Art 6(1)(a)",
        severity="HIGH",
        facts="no consent for analytics",
        region="DE",
        event_time=NOON_MS + number * 1_000,
        found_at=NOON_MS,
    )


def ring(user: str, ring_id: str, *, updated_at: int, size: int = 3) -> UserRing:
    """A user's ring; an empty `ring_id` means that the user left."""
    return UserRing(
        user_id=user,
        tenant_id="default",
        ring_id=ring_id,
        size=size,
        risk=0.8,
        members=(user, "other"),
        evidence=("device:d-1",),
        updated_at=updated_at,
    )


def consent(number: int) -> ConsentRecord:
    """A consent."""
    return ConsentRecord(
        consent_id=f"c-{number}", tenant_id="default", user_id="u-1", purpose="analytics", granted=True, effective_at=NOON_MS, source="app"
    )


def privacy_request(number: int) -> PrivacyRequest:
    """A privacy request."""
    return PrivacyRequest(
        request_id=f"q-{number}", tenant_id="default", user_id="u-1", kind="ERASURE", region="DE", received_at=NOON_MS, channel="api"
    )


def record(value: Case | msgspec.Struct | None, offset: int, *, topic: str = DECISIONS.name, partition: int = 0) -> SinkRecord:
    """A value as it lies in a topic."""
    return SinkRecord(topic, partition, offset, NOON_MS + offset, b"u-1", value, (), b"\x00raw")


def decisions(start: int, stop: int) -> list[SinkRecord]:
    """The decisions start … stop - 1, each at its own offset."""
    return [record(decision(number), number) for number in range(start, stop)]


def dead_letter(offset: int, *, headers: bool = True, source: int | None = None) -> SinkRecord:
    """A dead letter at `offset` of the dead-letter topic about the raw record at `source` (default: the same offset)."""
    ours = {
        "__connect.errors.topic": "ott.events.raw.v1",
        "__connect.errors.partition": "3",
        "__connect.errors.offset": str(offset if source is None else source),
        "__connect.errors.stage": "validate",
        "__connect.errors.exception.class.name": "wrong-types",
        "__connect.errors.exception.message": "wrong-types: region is no text",
        "usher.reasons": "wrong-types,null-key",
        "usher.attempt": "2",
    }
    found = tuple((name, value.encode()) for name, value in ours.items()) if headers else ()
    return SinkRecord("ott.events.raw.v1.dlq", 0, offset, NOON_MS, b"u-1", None, found, b"broken")
