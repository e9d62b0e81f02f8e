"""The tables the Postgres sink writes and the columns it fills; what each column means is said in the migrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_COPY_TYPES: Final = {"time": "int8", "json": "bytea", "texts": "bytea", "floats": "bytea"}
"""What the values of `streams.sinks.rows` are to COPY; other kinds are types of Postgres themselves."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table the Postgres sink writes.

    Attributes:
        name: its name in schema `usher`.
        columns: the columns the sink fills, in row order.
        copy_types: what each value is given to COPY as.
        key: its primary key.
        newer: column that says which of two rows with the same key is newer and stays; None: the first one stays.
        partitioned: whether it is cut by `event_time`.
    """

    name: str
    columns: tuple[str, ...]
    copy_types: tuple[str, ...]
    key: tuple[str, ...]
    newer: str | None = None
    partitioned: bool = False


def _table(name: str, key: str, columns: str, *, newer: str | None = None, partitioned: bool = False) -> Table:
    pairs = [column.split() for column in columns.split(",")]
    return Table(
        name=name,
        columns=tuple(column for column, _ in pairs),
        copy_types=tuple(_COPY_TYPES.get(kind, kind) for _, kind in pairs),
        key=tuple(key.split()),
        newer=newer,
        partitioned=partitioned,
    )


EVENTS: Final = _table(
    "events",
    "event_id tenant_id event_time",
    "event_id text, tenant_id text, event_time time, user_id text, device_id text, content_id text, event_type text, received_at time, "
    "region text, subdivision text, is_eu bool, has_consent bool, ip_address text, subscription_plan text, error_code text, "
    "extra_metadata text, payment_token text, email_hash text, user_agent text, session_id text, purpose text, consent_string text, "
    "amount float8, warnings texts, source_partition int4, source_offset int8",
    partitioned=True,
)
DECISIONS: Final = _table(
    "decisions",
    "event_id tenant_id event_time",
    "event_id text, tenant_id text, event_time time, user_id text, event_type text, region text, outcome text, severity text, risk float8, "
    "threshold float8, reasons json, laws texts, purpose text, consent text, breaches json, score_risk float8, members json, segment text, "
    "features floats, links texts, ring_id text, ring_size int4, ring_risk float8, policy_version text, rules_version text, "
    "model_version text, feature_version text, received_at time, checked_at time, scored_at time, linked_at time, decided_at time, "
    "source_partition int4, source_offset int8",
    partitioned=True,
)
VIOLATIONS: Final = _table(
    "violations",
    "violation_id tenant_id event_time",
    "violation_id text, tenant_id text, event_time time, user_id text, event_id text, law text, rule text, article text, severity text, "
    "facts text, region text, found_at time",
    partitioned=True,
)
ALERTS: Final = _table(
    "alerts",
    "tenant_id alert_id",
    "alert_id text, tenant_id text, user_id text, event_id text, kind text, severity text, title text, detail text, event_time time, "
    "raised_at time",
)
ACTIONS: Final = _table(
    "actions",
    "tenant_id action_id",
    "action_id text, tenant_id text, user_id text, event_id text, kind text, target text, reason text, expires_at time, requested_at time",
)
RINGS: Final = _table(
    "rings",
    "tenant_id ring_id",
    "tenant_id text, ring_id text, size int4, risk float8, evidence texts, updated_at time",
    newer="updated_at",
)
RING_MEMBERS: Final = _table(
    "ring_members", "tenant_id user_id", "tenant_id text, user_id text, ring_id text, updated_at time", newer="updated_at"
)
CONSENTS: Final = _table(
    "consents",
    "tenant_id consent_id",
    "consent_id text, tenant_id text, user_id text, purpose text, granted bool, effective_at time, expires_at time, source text, "
    "birth_year int4, by_guardian bool",
)
PRIVACY_REQUESTS: Final = _table(
    "privacy_requests",
    "tenant_id request_id",
    "request_id text, tenant_id text, user_id text, kind text, region text, received_at time, channel text",
)
DEAD_LETTERS: Final = _table(
    "dead_letters",
    "source_topic source_partition source_offset",
    "source_topic text, source_partition int4, source_offset int8, stage text, reasons texts, message text, attempt int4, event_id text, "
    "tenant_id text, key_sha256 text, size_bytes int4, dead_topic text, dead_partition int4, dead_offset int8, failed_at time",
)
TABLES: Final = (EVENTS, DECISIONS, VIOLATIONS, ALERTS, ACTIONS, RINGS, RING_MEMBERS, CONSENTS, PRIVACY_REQUESTS, DEAD_LETTERS)
