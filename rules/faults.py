"""The catalogue of reason codes: why a record becomes a dead letter, and what validation mends or doubts.

The codes are defined here once; `docs/dead-letters.md` is rendered from this (`render_catalogue`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Effect = Literal["reject", "warn"]


@dataclass(frozen=True, slots=True)
class ReasonCode:
    """One documented code.

    Attributes:
        code: kebab-case name, stable for ever: alerts and saved queries rest on it.
        effect: `reject` makes a dead letter, `warn` is noted in `Event.warnings` of an event that goes on.
        found_by: what finds it: `decoding`, `validation` or `inspection`.
        meaning: one sentence.
        remedy: what the sender or the operator can do.
    """

    code: str
    effect: Effect
    found_by: Literal["decoding", "validation", "inspection"]
    meaning: str
    remedy: str


_GATEWAY = "Correct it in the gateway and send the event again."

_ALL: Final = (
    # --- bytes that are no record (schemas.codec.DecodeError) ---
    ReasonCode("empty-value", "reject", "decoding", "The record's value is null or has no bytes.", "Send a value; raw topics take no tombstones."),
    ReasonCode("bad-magic", "reject", "decoding", "The first byte is not 0x00, so this is not the Confluent wire format.",
               "Use a schema-registry serialiser, or prefix 0x00 and the 4-byte schema id."),
    ReasonCode("unknown-schema-id", "reject", "decoding", "The schema id stands in neither the lock file nor the registry.",
               "Register the schema, or point the workers at the right registry, then replay the dead letters."),
    ReasonCode("wrong-schema", "reject", "decoding", "The schema id belongs to another record than this topic carries.", "Correct the producer's topic or subject."),
    ReasonCode("truncated", "reject", "decoding", "The body ends before its last field.", "Look for a cut in transit; send the event again."),
    ReasonCode("trailing-bytes", "reject", "decoding", "Bytes follow the last field.", "Encode one record a message, with the schema of its id."),
    ReasonCode("wrong-types", "reject", "decoding", "The body does not fit the schema that its id names.", "Encode with exactly the schema of the id."),
    # --- the record as a whole ---
    ReasonCode("null-key", "reject", "validation", "The record has no Kafka key.", "Key raw events by user_id or device_id, or set the policy to accept null keys."),
    ReasonCode("too-large", "reject", "validation", "Key and value together exceed the size limit (256 KiB by default).", "Send less metadata; split bulk reports."),
    # --- ids and text ---
    ReasonCode("id-empty", "reject", "validation", "A required id (event_id, user_id, device_id) is empty or blank.", _GATEWAY),
    ReasonCode("id-control-characters", "reject", "validation",
               "An id or token holds control characters or text-direction marks: removing them could make it equal to another one.", _GATEWAY),
    ReasonCode("field-too-long", "reject", "validation", "An id, token or consent string exceeds its length limit; shortened it would be another one.", _GATEWAY),
    ReasonCode("tenant-invalid", "reject", "validation", "The tenant id is not 1–64 letters, digits, dots, hyphens or underscores.", _GATEWAY),
    # --- fields ---
    ReasonCode("unknown-event-type", "reject", "validation", "The event type is none that this version knows.",
               "Upgrade Usher, or set the policy to accept unknown types as UNKNOWN."),
    ReasonCode("timestamp-invalid", "reject", "validation", "The timestamp is neither a number nor ISO 8601.", _GATEWAY),
    ReasonCode("timestamp-in-future", "reject", "validation", "The event time lies further ahead of the broker's time than allowed (300 s by default).",
               "Set the device's or gateway's clock."),
    ReasonCode("timestamp-too-old", "reject", "validation", "The event time lies further back than allowed (366 days by default) or before the year 2000.",
               "Set the clock; load old data with `usher replay`, or raise the limit."),
    ReasonCode("region-invalid", "reject", "validation", "The region is no ISO 3166-1 or 3166-2 code.", "Send the alpha-2 code, or ZZ where it is not known."),
    ReasonCode("ip-invalid", "reject", "validation", "The address is not strict IPv4 or IPv6 text.", "Send one address without port or zone; take the client's from X-Forwarded-For."),
    ReasonCode("amount-invalid", "reject", "validation", "The amount is negative, not finite, or beyond the limit.", _GATEWAY),
    ReasonCode("metadata-not-json", "reject", "validation", "extra_metadata is not valid JSON text (RFC 8259).", _GATEWAY),
    ReasonCode("metadata-not-object", "reject", "validation", "extra_metadata is JSON, but not one object.", "Wrap it in an object."),
    ReasonCode("metadata-too-deep", "reject", "validation", "extra_metadata nests deeper than allowed (16 levels by default).", "Flatten it."),
    ReasonCode("metadata-too-large", "reject", "validation", "extra_metadata exceeds its size limit (16 KiB by default).", "Send less."),
    ReasonCode("metadata-too-many-keys", "reject", "validation", "extra_metadata has more keys than allowed, all levels counted (256 by default).", "Send less."),
    # --- attack inspection ---
    ReasonCode("attack-sql-injection", "reject", "inspection", "A string reads as SQL injection.",
               "See docs/inspection.md. A false alarm: add the text to the pattern's examples, correct the pattern, replay."),
    ReasonCode("attack-xss", "reject", "inspection", "A string reads as script injection.", "As for attack-sql-injection."),
    ReasonCode("attack-path-traversal", "reject", "inspection", "A string reads as path traversal.", "As for attack-sql-injection."),
    ReasonCode("attack-command-injection", "reject", "inspection", "A string reads as command injection.", "As for attack-sql-injection."),
    # --- warnings ---
    ReasonCode("late", "warn", "validation", "The event reached the broker more than an hour after it happened.", "None needed; offline devices do this."),
    ReasonCode("timestamp-unit", "warn", "validation", "The timestamp was in seconds, microseconds or nanoseconds and was converted.", "Send milliseconds."),
    ReasonCode("timestamp-no-offset", "warn", "validation", "The timestamp had no UTC offset and was read as UTC.", "Send Z or an offset."),
    ReasonCode("event-type-unknown", "warn", "validation", "The event type is not known and was accepted as UNKNOWN by policy.", "Upgrade Usher."),
    ReasonCode("region-unknown", "warn", "validation", "The gateway does not know the country; the region became ZZ.", "None needed."),
    ReasonCode("region-alias", "warn", "validation", "The region was a known other spelling (UK, EL, alpha-3) and was converted.", "Send ISO 3166-1 alpha-2."),
    ReasonCode("subdivision-unknown", "warn", "validation", "The country has no such subdivision; the country was kept.", "Send ISO 3166-2."),
    ReasonCode("eu-claim-differs", "warn", "validation", "is_eu as claimed differs from what the region's code says; the code counts.", "Correct the gateway's list."),
    ReasonCode("ip-not-global", "warn", "validation", "The address is private, reserved or multicast.", "Forward the client's address, not the proxy's."),
    ReasonCode("purpose-unknown", "warn", "validation", "The purpose is none that the regulation packs know.", "Use a documented purpose."),
    ReasonCode("controls-removed", "warn", "validation", "Control characters were removed from free text.", "None needed."),
    ReasonCode("truncated-text", "warn", "validation", "Free text was cut to its length limit.", "None needed."),
)  # fmt: skip

CATALOGUE: Final[dict[str, ReasonCode]] = {one.code: one for one in _ALL}
"""Every code with its meaning and remedy."""

ATTACK_CODES: Final[dict[str, str]] = {
    "sql_injection": "attack-sql-injection",
    "xss": "attack-xss",
    "path_traversal": "attack-path-traversal",
    "command_injection": "attack-command-injection",
}
"""Reason code of each kind that the inspection finds."""

_TITLES: Final = {
    ("decoding", "reject"): "Bytes that are no record",
    ("validation", "reject"): "Events that are not well-formed",
    ("inspection", "reject"): "Events that carry an attack",
    ("validation", "warn"): "Warnings: the event goes on",
}

_INTRODUCTION: Final = """# Dead letters and warnings

A record that cannot be processed is never dropped: it goes to `<topic>.dlq` with key and value bytes untouched and with headers that
name the reasons. All reasons that were found are listed, not only the first. The details name fields, never their content.

This page is rendered from `rules/faults.py`.
"""


def render_catalogue() -> str:
    """The text of `docs/dead-letters.md` (Markdown)."""
    parts = [_INTRODUCTION]
    for (found_by, effect), title in _TITLES.items():
        rows = [f"| `{one.code}` | {one.meaning} | {one.remedy} |" for one in _ALL if (one.found_by, one.effect) == (found_by, effect)]
        parts.append("\n".join([f"## {title}\n", "| code | meaning | remedy |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)
