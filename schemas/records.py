"""Typed records of every topic. Generated from `schemas/avro/*.avsc` by `usher schemas generate`: do not edit.

Times are integers: milliseconds since the Unix epoch, UTC. Optional fields are `None` when absent.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

ActionKind = Literal["UNKNOWN", "BLOCK_SESSION", "STEP_UP", "NOTIFY_USER", "BLOCK_IP", "SUSPEND_RING"]
"""What a downstream service is asked to do."""

ACTION_KINDS: Final[tuple[ActionKind, ...]] = ("UNKNOWN", "BLOCK_SESSION", "STEP_UP", "NOTIFY_USER", "BLOCK_IP", "SUSPEND_RING")

Severity = Literal["UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"]
"""How bad, from mild to severe."""

SEVERITIES: Final[tuple[Severity, ...]] = ("UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")

EventType = Literal[
    "UNKNOWN",
    "PLAY",
    "PAUSE",
    "STOP",
    "SEEK",
    "ERROR",
    "LOGIN",
    "LOGOUT",
    "LOGIN_FAILED",
    "PURCHASE",
    "DOWNLOAD",
    "EXPORT",
    "TOKEN_REFRESH",
    "TOKEN_REFRESH_FAILED",
    "BULK_DOWNLOAD",
    "ACCESS",
    "HEARTBEAT",
    "PROFILE",
    "SEARCH",
    "DATA_ACCESS",
    "DATA_DELETION",
    "CONSENT_CHANGE",
    "PAYMENT",
    "ACCOUNT_CHANGE",
]
"""What the viewer or the device did. UNKNOWN stands for a type this version does not know."""

EVENT_TYPES: Final[tuple[EventType, ...]] = (
    "UNKNOWN",
    "PLAY",
    "PAUSE",
    "STOP",
    "SEEK",
    "ERROR",
    "LOGIN",
    "LOGOUT",
    "LOGIN_FAILED",
    "PURCHASE",
    "DOWNLOAD",
    "EXPORT",
    "TOKEN_REFRESH",
    "TOKEN_REFRESH_FAILED",
    "BULK_DOWNLOAD",
    "ACCESS",
    "HEARTBEAT",
    "PROFILE",
    "SEARCH",
    "DATA_ACCESS",
    "DATA_DELETION",
    "CONSENT_CHANGE",
    "PAYMENT",
    "ACCOUNT_CHANGE",
)

ConsentState = Literal["UNKNOWN", "GRANTED", "DENIED", "WITHDRAWN", "EXPIRED", "NOT_REQUIRED"]
"""What the consent ledger said about the purpose of the event at event time."""

CONSENT_STATES: Final[tuple[ConsentState, ...]] = ("UNKNOWN", "GRANTED", "DENIED", "WITHDRAWN", "EXPIRED", "NOT_REQUIRED")

Outcome = Literal["UNKNOWN", "ALLOW", "ALLOW_WITH_CAUTION", "BLOCK"]
"""What is decided about one event, from mild to severe."""

OUTCOMES: Final[tuple[Outcome, ...]] = ("UNKNOWN", "ALLOW", "ALLOW_WITH_CAUTION", "BLOCK")

RequestKind = Literal["UNKNOWN", "ACCESS", "PORTABILITY", "ERASURE", "OPT_OUT"]
"""Which right a person exercises."""

REQUEST_KINDS: Final[tuple[RequestKind, ...]] = ("UNKNOWN", "ACCESS", "PORTABILITY", "ERASURE", "OPT_OUT")


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.actions.v1: what a downstream service is asked to do.

    Fields:
        action_id: Stable id.
        tenant_id: Tenant.
        user_id: Account.
        event_id: Event that caused it.
        kind: What to do.
        target: Session, IP, user or ring id the action is for.
        reason: Reason code.
        expires_at: Until when it holds.
        requested_at: Processing time.
    """

    action_id: str
    tenant_id: str
    user_id: str
    event_id: str
    kind: ActionKind
    target: str
    reason: str
    expires_at: int | None = None
    requested_at: int


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.alerts.v1: something a person or service should know.

    Fields:
        alert_id: Stable id: the same cause gives the same id.
        tenant_id: Tenant.
        user_id: Account.
        event_id: Event that raised it.
        kind: Strongest reason's code.
        severity: Severity.
        title: One line.
        detail: A few sentences with the reasons.
        event_time: Event time.
        raised_at: Processing time.
    """

    alert_id: str
    tenant_id: str
    user_id: str
    event_id: str
    kind: str
    severity: Severity
    title: str
    detail: str
    event_time: int
    raised_at: int


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of one law that an event breaks.

    Fields:
        law: Code of the regulation pack, e.g. GDPR.
        rule: Code of the check, e.g. consent-missing.
        article: Provision, e.g. Art 6(1)(a).
        severity: How bad.
        facts: What was found, in one sentence without personal data.
    """

    law: str
    rule: str
    article: str
    severity: Severity
    facts: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the raw event lies in the log: the identity by which every stage knows a repeat.

    Fields:
        partition: Partition of ott.events.raw.v1.
        offset: Offset in that partition.
    """

    partition: int
    offset: int


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A raw event that was found well-formed, in normal form.

    Fields:
        event_id: As in ott.RawEvent.
        tenant_id: Tenant, 'default' where the gateway gave none.
        user_id: Account.
        device_id: Device.
        content_id: Title or resource, empty where none.
        event_type: Type.
        timestamp: Event time.
        received_at: When Kafka stored the raw event: the clock of every skew and lateness rule.
        region: ISO 3166-1 alpha-2, upper case; 'ZZ' where unknown.
        subdivision: ISO 3166-2 code where the gateway gave one, e.g. US-CA.
        is_eu: Whether the region is in the EU or EEA, by ISO code and not by claim.
        has_consent: Consent flag of the gateway.
        ip_address: Canonical address text (RFC 5952 for IPv6).
        subscription_plan: Plan in lower case.
        error_code: Error code.
        extra_metadata: JSON object text, sanitised.
        payment_token: Opaque payment token.
        email_hash: E-mail hash.
        user_agent: User agent.
        session_id: Session.
        purpose: Purpose of processing in lower case.
        consent_string: Consent string as received.
        amount: Amount.
        warnings: Codes of what validation mended or doubts, e.g. late, eu-claim-differs.
        origin: Where the raw event lies.
    """

    event_id: str
    tenant_id: str
    user_id: str
    device_id: str
    content_id: str
    event_type: EventType
    timestamp: int
    received_at: int
    region: str
    subdivision: str | None = None
    is_eu: bool
    has_consent: bool
    ip_address: str
    subscription_plan: str | None = None
    error_code: str | None = None
    extra_metadata: str | None = None
    payment_token: str | None = None
    email_hash: str | None = None
    user_agent: str | None = None
    session_id: str | None = None
    purpose: str | None = None
    consent_string: str | None = None
    amount: float | None = None
    warnings: tuple[str, ...] = ()
    origin: Origin


class Compliance(msgspec.Struct, frozen=True, kw_only=True):
    """What compliance found about an event.

    Fields:
        laws: Codes of all laws that apply.
        purpose: Purpose the event was judged under.
        consent: Consent for that purpose at event time.
        breaches: What is breached; empty is lawful.
        rules_version: Version of the regulation packs.
        checked_at: Processing time.
    """

    laws: tuple[str, ...]
    purpose: str
    consent: ConsentState
    breaches: tuple[Breach, ...]
    rules_version: str
    checked_at: int


class CheckedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.events.checked.v1.

    Fields:
        event: The event.
        compliance: Compliance.
    """

    event: Event
    compliance: Compliance


class ConsentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.consents.v1: one consent decision of a person; wins by its own time.

    Fields:
        consent_id: Unique id.
        tenant_id: Tenant.
        user_id: Account.
        purpose: Purpose, or '*' for all.
        granted: Granted or withdrawn.
        effective_at: From when it holds.
        expires_at: Until when it holds.
        source: Where it was given: app, web, crm, gpc.
        birth_year: Year of birth where the person gave it with the consent.
        by_guardian: Whether a parent or guardian gave it.
    """

    consent_id: str
    tenant_id: str
    user_id: str
    purpose: str
    granted: bool
    effective_at: int
    expires_at: int | None = None
    source: str
    birth_year: int | None = None
    by_guardian: bool | None = None


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.controls.v1: a setting changed at run time; compacted by setting.

    Fields:
        setting: Name, e.g. paused.
        value: New value as JSON text.
        changed_by: Who.
        changed_at: When.
    """

    setting: str
    value: str
    changed_by: str
    changed_at: int


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """Calibrated score of each ensemble member in [0, 1], high is worse; null while it has too little data.

    Fields:
        isolation_forest: Isolation forest.
        local_outlier_factor: Local outlier factor (novelty).
        half_space_trees: River half-space trees, scored before learning.
        rules: Deterministic signals: travel, failures, concurrency, exports.
    """

    isolation_forest: float | None = None
    local_outlier_factor: float | None = None
    half_space_trees: float | None = None
    rules: float | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One reason for a risk, strongest first in every list.

    Fields:
        code: Documented code, e.g. impossible-travel.
        contribution: Share of the risk in [0, 1]; high is worse.
        detail: One sentence a person understands, with the figures.
    """

    code: str
    contribution: float
    detail: str


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What scoring found about an event.

    Fields:
        risk: Risk in [0, 1], high is worse.
        members: Scores of the ensemble's members.
        reasons: Reasons, strongest first.
        segment: Segment of the user: new, normal, power, inactive, dormant, suspicious.
        model_version: Version of the models that scored.
        features: Feature values in the order of the feature dictionary of feature_version.
        feature_version: Version of the feature dictionary.
        scored_at: Processing time.
    """

    risk: float
    members: Members
    reasons: tuple[Reason, ...]
    segment: str
    model_version: str
    features: tuple[float, ...]
    feature_version: str
    scored_at: int


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What linking found about an event.

    Fields:
        links: Entities of this event, e.g. device:abc; only kinds shared with other users.
        ring_id: Ring the user belongs to.
        ring_size: Users in that ring, 0 without.
        ring_risk: Risk of the ring in [0, 1], high is worse.
        evidence: Shared entities that hold the ring together.
        linked_at: Processing time.
    """

    links: tuple[str, ...]
    ring_id: str | None = None
    ring_size: int = 0
    ring_risk: float = 0.0
    evidence: tuple[str, ...] = ()
    linked_at: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about an event and why.

    Fields:
        outcome: Decision.
        risk: Final risk in [0, 1] after scoring, network and compliance; high is worse.
        threshold: Risk from which the outcome is not ALLOW.
        severity: Severity.
        reasons: Reasons of the final risk, strongest first.
        policy_version: Version of thresholds and policy.
        decided_at: Processing time.
    """

    outcome: Outcome
    risk: float
    threshold: float
    severity: Severity
    reasons: tuple[Reason, ...]
    policy_version: str
    decided_at: int


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.decisions.v1: the one decision record of an event, with all it rests on.

    Fields:
        event: The event.
        compliance: Compliance.
        score: Score.
        network: Network.
        verdict: Verdict.
    """

    event: Event
    compliance: Compliance
    score: Score
    network: Network
    verdict: Verdict


class EntitySighting(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.entities.seen.v1: a user was seen with an entity.

    Fields:
        entity: kind:value, e.g. device:abc, ip:203.0.113.7, payment:tok, email:hash.
        tenant_id: Tenant.
        user_id: Account.
        seen_at: Event time.
        failed: Whether the sighting was a failed login or refused payment.
    """

    entity: str
    tenant_id: str
    user_id: str
    seen_at: int
    failed: bool = False


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.feedback.v1: a person's verdict on a decision.

    Fields:
        event_id: Event that was judged.
        tenant_id: Tenant.
        user_id: Account.
        alert_id: Alert, where it came from one.
        label: true_positive or false_positive, or a scenario name.
        analyst: Who judged.
        given_at: When.
    """

    event_id: str
    tenant_id: str
    user_id: str
    alert_id: str | None = None
    label: str
    analyst: str
    given_at: int


class LinkedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.events.linked.v1.

    Fields:
        event: The event.
        compliance: Compliance.
        score: Score.
        network: Network.
    """

    event: Event
    compliance: Compliance
    score: Score
    network: Network


class ModelArtefact(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.models.v1: a trained model; compacted by model name.

    Fields:
        name: Model name.
        version: Version.
        format: Serialisation, e.g. skops.
        payload: The artefact.
        sha256: Checksum of the payload.
        trained_at: When.
        metrics: What was measured when it was trained.
    """

    name: str
    version: str
    format: str
    payload: bytes
    sha256: str
    trained_at: int
    metrics: dict[str, float] = {}


class PrivacyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.privacy.requests.v1: a person exercises a right.

    Fields:
        request_id: Unique id.
        tenant_id: Tenant.
        user_id: Account.
        kind: Which right.
        region: Where the person lives, ISO 3166.
        received_at: When the clock started.
        channel: api, crm, mail.
    """

    request_id: str
    tenant_id: str
    user_id: str
    kind: RequestKind
    region: str
    received_at: int
    channel: str


class RawEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as a device gateway reports it, before anything is believed.

    Fields:
        event_id: Unique id given by the gateway; a retry repeats it.
        user_id: Account the event belongs to.
        device_id: Device that acted.
        content_id: Title or resource that was acted on.
        event_type: Type in upper or lower case, see ott.EventType.
        timestamp: When it happened on the device: milliseconds since the epoch, or ISO 8601 text.
        region: ISO 3166-1 alpha-2 country the gateway claims, or ISO 3166-2 (US-CA).
        is_eu: Whether the gateway holds the viewer to be in the EU or EEA.
        has_consent: Whether the gateway saw a consent for the purpose of this event.
        ip_address: Client address, IPv4 or IPv6 text.
        subscription_plan: Plan of the account, e.g. basic, premium, vip, trial.
        error_code: Error the device reported, if any.
        extra_metadata: Free metadata of the gateway as the text of one JSON object, nested as it likes.
        payment_token: Opaque token of the payment instrument.
        email_hash: Hash of the account's e-mail address.
        user_agent: User agent of the client.
        session_id: Playback or login session.
        purpose: Purpose of processing, e.g. service, analytics, personalisation, marketing, sale.
        consent_string: IAB TCF v2 or US privacy string.
        amount: Amount of a purchase or payment, in the account's currency.
        tenant_id: Tenant; absent means the default tenant.
    """

    event_id: str
    user_id: str
    device_id: str
    content_id: str = ""
    event_type: str
    timestamp: int | str
    region: str
    is_eu: bool = False
    has_consent: bool = False
    ip_address: str
    subscription_plan: str | None = None
    error_code: str | None = None
    extra_metadata: str | None = None
    payment_token: str | None = None
    email_hash: str | None = None
    user_agent: str | None = None
    session_id: str | None = None
    purpose: str | None = None
    consent_string: str | None = None
    amount: float | None = None
    tenant_id: str | None = None


class ScoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.events.scored.v1.

    Fields:
        event: The event.
        compliance: Compliance.
        score: Score.
    """

    event: Event
    compliance: Compliance
    score: Score


class SharedEntity(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.entities.shared.v1: an entity that enough users share to matter.

    Fields:
        entity: kind:value.
        tenant_id: Tenant.
        users: Recent users, bounded.
        user_count: Distinct users seen in the link window.
        weight: Strength of the link in [0, 1] after the discount for shared addresses.
        seen_at: Latest sighting.
    """

    entity: str
    tenant_id: str
    users: tuple[str, ...]
    user_count: int
    weight: float
    seen_at: int


class UserRing(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.users.rings.v1: the ring a user belongs to; compacted by user.

    Fields:
        user_id: Account.
        tenant_id: Tenant.
        ring_id: Ring, stable while it grows; empty when the user left.
        size: Users in the ring.
        risk: Risk in [0, 1], high is worse.
        members: Users, bounded.
        evidence: Shared entities that hold it together.
        updated_at: Event time of the latest sighting.
    """

    user_id: str
    tenant_id: str
    ring_id: str
    size: int
    risk: float
    members: tuple[str, ...]
    evidence: tuple[str, ...]
    updated_at: int


class ValidEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.events.valid.v1.

    Fields:
        event: The event.
    """

    event: Event


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """Topic ott.violations.v1: a law breached by an event.

    Fields:
        violation_id: Stable id.
        tenant_id: Tenant.
        user_id: Account.
        event_id: Event.
        law: Code of the regulation pack.
        rule: Check.
        article: Provision.
        severity: Severity.
        facts: What was found.
        region: Region of the event.
        event_time: Event time.
        found_at: Processing time.
    """

    violation_id: str
    tenant_id: str
    user_id: str
    event_id: str
    law: str
    rule: str
    article: str
    severity: Severity
    facts: str
    region: str
    event_time: int
    found_at: int


RECORDS: Final[dict[str, type[msgspec.Struct]]] = {
    "ott.Action": Action,
    "ott.Alert": Alert,
    "ott.Breach": Breach,
    "ott.Origin": Origin,
    "ott.Event": Event,
    "ott.Compliance": Compliance,
    "ott.CheckedEvent": CheckedEvent,
    "ott.ConsentRecord": ConsentRecord,
    "ott.Control": Control,
    "ott.Members": Members,
    "ott.Reason": Reason,
    "ott.Score": Score,
    "ott.Network": Network,
    "ott.Verdict": Verdict,
    "ott.Decision": Decision,
    "ott.EntitySighting": EntitySighting,
    "ott.Feedback": Feedback,
    "ott.LinkedEvent": LinkedEvent,
    "ott.ModelArtefact": ModelArtefact,
    "ott.PrivacyRequest": PrivacyRequest,
    "ott.RawEvent": RawEvent,
    "ott.ScoredEvent": ScoredEvent,
    "ott.SharedEntity": SharedEntity,
    "ott.UserRing": UserRing,
    "ott.ValidEvent": ValidEvent,
    "ott.Violation": Violation,
}
"""Every record by the full name of its schema."""
