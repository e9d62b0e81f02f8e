"""Validation: from what a gateway says to an event in normal form, or to a dead letter with all its reasons.

The step is stateless: gateway retries (the same event id again) are dropped by the next stage, which is keyed by user.
Late and out-of-order events are accepted up to `ValidationPolicy.max_age_days`; event time stays as reported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from agents.step import Fault, Outputs, Received, Rejected
from rules import domain, sanitise
from rules.faults import ATTACK_CODES
from rules.inspect import inspect_event
from rules.purposes import load_purposes
from schemas.codec import Case
from schemas.records import Event, EventType, RawEvent

DAY_MS: Final = 86_400_000
YEAR_2000_MS: Final = 946_684_800_000

_TENANT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ValidationPolicy:
    """Bounds of what is accepted. All are inclusive.

    Attributes:
        accept_null_keys: whether raw records without a Kafka key are taken.
        accept_unknown_types: whether unknown event types become UNKNOWN (with a warning) instead of dead letters.
        inspect_attacks: whether strings are inspected for attacks.
        max_event_bytes: key and value as Kafka holds them.
        max_id_chars: event_id, user_id, device_id.
        max_token_chars: session_id, payment_token, email_hash.
        max_consent_chars: consent_string.
        max_text_chars: free text (content_id, error_code, user_agent, subscription_plan, purpose): longer is cut.
        max_ahead_s: how far event time may lie ahead of the broker's time.
        max_age_days: how far event time may lie back.
        late_after_s: from which age an event is marked late.
        max_metadata_bytes, max_metadata_depth, max_metadata_keys: of extra_metadata; the outermost object is level 1.
        max_amount: largest amount, in any currency.
    """

    accept_null_keys: bool = False
    accept_unknown_types: bool = False
    inspect_attacks: bool = True
    max_event_bytes: int = 262_144
    max_id_chars: int = 255
    max_token_chars: int = 1_024
    max_consent_chars: int = 8_192
    max_text_chars: int = 1_024
    max_ahead_s: int = 300
    max_age_days: int = 366
    late_after_s: int = 3_600
    max_metadata_bytes: int = 16_384
    max_metadata_depth: int = 16
    max_metadata_keys: int = 256
    max_amount: float = 1e9


DEFAULT_POLICY: Final = ValidationPolicy()


def validate_events(
    batch: Sequence[Received], state: Mapping[str, Any], now_ms: int, *, memory: Any = None, policy: ValidationPolicy = DEFAULT_POLICY
) -> Outputs[None]:
    """Validates a batch of decoded raw events (`Received.record` is a `RawEvent`).

    Args:
        batch: records in log order.
        state: not read: the step is stateless.
        now_ms: not read: every time rule is measured against `Received.timestamp_ms`.
        memory: not used.
        policy: bounds.

    Returns:
        `cases`: the events in normal form, in input order. `rejects`: the others, each with every fault that was found.
    """
    outputs: Outputs[None] = Outputs()
    for position, received in enumerate(batch):
        found = validate_event(received, policy)
        if isinstance(found, Event):
            outputs.cases.append(Case(found))
        else:
            outputs.rejects.append(Rejected(position, found))
    return outputs


def validate_event(received: Received, policy: ValidationPolicy = DEFAULT_POLICY) -> Event | tuple[Fault, ...]:
    """One raw event: the event in normal form, or all faults in the order of the checks (at least one)."""
    raw: RawEvent = received.record
    notes = _Notes([], [])
    faults, warnings = notes
    if received.key is None and not policy.accept_null_keys:
        faults.append(Fault("null-key", "the record has no key"))
    oversized = received.size_bytes > policy.max_event_bytes
    if oversized:
        faults.append(Fault("too-large", f"{received.size_bytes} bytes, allowed are {policy.max_event_bytes}"))
    event_id = _check_id(raw.event_id, "event_id", policy, notes)
    user_id = _check_id(raw.user_id, "user_id", policy, notes)
    device_id = _check_id(raw.device_id, "device_id", policy, notes)
    event_type = _check_type(raw.event_type, policy, notes)
    timestamp = _check_time(raw.timestamp, received.timestamp_ms, policy, notes)
    place = domain.parse_region(raw.region)
    if place is None:
        faults.append(Fault("region-invalid", "region is no ISO 3166 code"))
        place = domain.NOWHERE
    warnings.extend(place.warnings)
    if place.is_eea != raw.is_eu:
        warnings.append("eu-claim-differs")
    address = domain.parse_ip(raw.ip_address)
    if address is None:
        faults.append(Fault("ip-invalid", "ip_address is neither IPv4 nor IPv6"))
    elif not address.is_global:
        warnings.append("ip-not-global")
    metadata = None if raw.extra_metadata is None else _check_metadata(raw.extra_metadata, policy, notes)
    amount = raw.amount
    if amount is not None and not 0 <= amount <= policy.max_amount:
        faults.append(Fault("amount-invalid", "amount is not finite" if not math.isfinite(amount) else "amount is out of bounds"))
    tenant_id = raw.tenant_id or "default"
    if not _TENANT.fullmatch(tenant_id):
        faults.append(Fault("tenant-invalid", "tenant_id has characters or a length that are not allowed"))
    tokens, chars = policy.max_token_chars, policy.max_text_chars
    payment_token = raw.payment_token and _check_token(raw.payment_token, "payment_token", tokens, notes)
    email_hash = raw.email_hash and _check_token(raw.email_hash, "email_hash", tokens, notes)
    session_id = raw.session_id and _check_token(raw.session_id, "session_id", tokens, notes)
    consent_string = raw.consent_string and _check_token(raw.consent_string, "consent_string", policy.max_consent_chars, notes)
    content_id = raw.content_id and _clean(raw.content_id, chars, notes)
    error_code = raw.error_code and _clean(raw.error_code, chars, notes)
    user_agent = raw.user_agent and _clean(raw.user_agent, chars, notes)
    plan = raw.subscription_plan and _clean(raw.subscription_plan, chars, notes).lower()
    purpose = raw.purpose and _check_purpose(raw.purpose, chars, notes)
    if policy.inspect_attacks and not oversized:
        faults.extend(Fault(ATTACK_CODES[one.kind], f"found in {one.path}") for one in inspect_event(raw))
    if faults or address is None:
        return tuple(faults)
    return Event(
        event_id=event_id,
        tenant_id=tenant_id,
        user_id=user_id,
        device_id=device_id,
        content_id=content_id,
        event_type=event_type,
        timestamp=timestamp,
        received_at=received.timestamp_ms,
        region=place.region,
        subdivision=place.subdivision,
        is_eu=place.is_eea,
        has_consent=raw.has_consent,
        ip_address=address.text,
        subscription_plan=plan or None,
        error_code=error_code or None,
        extra_metadata=metadata,
        payment_token=payment_token or None,
        email_hash=email_hash or None,
        user_agent=user_agent or None,
        session_id=session_id or None,
        purpose=purpose or None,
        consent_string=consent_string or None,
        amount=amount,
        warnings=tuple(dict.fromkeys(warnings)) if warnings else (),
        origin=received.origin,
    )


class _Notes(NamedTuple):
    """What the checks of one event have found so far."""

    faults: list[Fault]
    warnings: list[str]


def _check_id(text: str, name: str, policy: ValidationPolicy, notes: _Notes) -> str:
    found = _check_token(text, name, policy.max_id_chars, notes)
    if not found:
        notes.faults.append(Fault("id-empty", f"{name} is empty"))
    return found


def _check_token(text: str, name: str, max_chars: int, notes: _Notes) -> str:
    if sanitise.has_controls(text):
        notes.faults.append(Fault("id-control-characters", f"{name} has control characters"))
    if len(text) > max_chars:
        notes.faults.append(Fault("field-too-long", f"{name} has {len(text)} characters, allowed are {max_chars}"))
        return text
    return sanitise.normal_form(text.strip())


def _clean(text: str, max_chars: int, notes: _Notes) -> str:
    found = sanitise.clean_text(text, max_chars)
    if found.changed:
        notes.warnings.append("controls-removed")
    if found.truncated:
        notes.warnings.append("truncated-text")
    return found.text


def _check_type(text: str, policy: ValidationPolicy, notes: _Notes) -> EventType:
    found = domain.parse_event_type(text)
    if found is not None:
        return found
    if policy.accept_unknown_types:
        notes.warnings.append("event-type-unknown")
    else:
        notes.faults.append(Fault("unknown-event-type", "event_type is none of the known ones"))
    return "UNKNOWN"


def _check_time(value: int | str, received_ms: int, policy: ValidationPolicy, notes: _Notes) -> int:
    instant = domain.parse_timestamp(value)
    if instant is None:
        notes.faults.append(Fault("timestamp-invalid", "timestamp is neither a number nor ISO 8601"))
        return 0
    if instant.warning is not None:
        notes.warnings.append(instant.warning)
    age_ms = received_ms - instant.ms
    if age_ms < -1000 * policy.max_ahead_s:
        notes.faults.append(Fault("timestamp-in-future", f"{-age_ms // 1000} s ahead of the broker, allowed are {policy.max_ahead_s}"))
    elif age_ms > DAY_MS * policy.max_age_days:
        notes.faults.append(Fault("timestamp-too-old", f"{age_ms // DAY_MS} days old, allowed are {policy.max_age_days}"))
    elif instant.ms < YEAR_2000_MS:
        notes.faults.append(Fault("timestamp-too-old", "before the year 2000"))
    elif age_ms > 1000 * policy.late_after_s:
        notes.warnings.append("late")
    return instant.ms


def _check_purpose(text: str, max_chars: int, notes: _Notes) -> str:
    name = _clean(text, max_chars, notes).lower()
    if name and load_purposes().find(name) is None:
        notes.warnings.append("purpose-unknown")
    return name


def _check_metadata(text: str, policy: ValidationPolicy, notes: _Notes) -> str | None:
    faults = notes.faults
    size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > policy.max_metadata_bytes:
        faults.append(Fault("metadata-too-large", f"extra_metadata has {size_bytes} bytes, allowed are {policy.max_metadata_bytes}"))
    # Depth is bounded before anything recurses over the value: parsers and printers have limits of their own.
    too_deep = domain.nests_deeper_than(text, policy.max_metadata_depth)
    if too_deep:
        faults.append(Fault("metadata-too-deep", f"extra_metadata nests deeper than {policy.max_metadata_depth} levels"))
    if too_deep or size_bytes > policy.max_metadata_bytes or not text.strip():
        return None
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        faults.append(Fault("metadata-not-json", "extra_metadata is not JSON"))
        return None
    if value is None:
        return None
    if not isinstance(value, dict):
        faults.append(Fault("metadata-not-object", "extra_metadata is not a JSON object"))
        return None
    # Every key is followed by a colon, so few colons are few keys.
    if text.count(":") > policy.max_metadata_keys and (count := domain.count_keys(value)) > policy.max_metadata_keys:
        faults.append(Fault("metadata-too-many-keys", f"extra_metadata has {count} keys, allowed are {policy.max_metadata_keys}"))
        return None
    if sanitise.may_hold_controls(text):
        cleaned = sanitise.clean_json(value)
        if cleaned != value:
            notes.warnings.append("controls-removed")
        value = cleaned
    # Written anew, so that every reader sees the same members: of keys that repeat, only the last one is left.
    return sanitise.dump_json(value)
