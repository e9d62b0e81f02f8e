"""The topics: what each carries, how it is keyed, who writes and reads it is in `streams.topology`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000
DEAD_SUFFIX: Final = ".dlq"


@dataclass(frozen=True, slots=True)
class Topic:
    """One Kafka topic with its contract.

    Attributes:
        name: the topic's name; it ends in the contract's version.
        record: full name of the Avro record it carries.
        key: what the message key is.
        spread: True: as many partitions as the event topics have. False: one partition, because its reader needs all.
        compacted: whether only the newest record of a key is kept.
        retention_ms: how long records are kept where not compacted (None: the broker's default).
        max_message_bytes: largest record the broker takes (None: the broker's default of 1 MiB).
        log_append_time: whether the broker stamps the records; only then are their times to be trusted.
    """

    name: str
    record: str
    key: str
    spread: bool = True
    compacted: bool = False
    retention_ms: int | None = 7 * DAY_MS
    max_message_bytes: int | None = None
    log_append_time: bool = False

    @property
    def dead(self) -> str:
        """Name of the topic for records of this topic that could not be processed."""
        return self.name + DEAD_SUFFIX


RAW: Final = Topic(
    "ott.events.raw.v1", "ott.RawEvent", "any; gateways use user_id or device_id", max_message_bytes=8 * 1024 * 1024, log_append_time=True
)
VALID: Final = Topic("ott.events.valid.v1", "ott.ValidEvent", "user_id")
CHECKED: Final = Topic("ott.events.checked.v1", "ott.CheckedEvent", "user_id")
SCORED: Final = Topic("ott.events.scored.v1", "ott.ScoredEvent", "user_id")
LINKED: Final = Topic("ott.events.linked.v1", "ott.LinkedEvent", "user_id")
ENTITIES_SEEN: Final = Topic("ott.entities.seen.v1", "ott.EntitySighting", "entity (kind:value)")
ENTITIES_SHARED: Final = Topic("ott.entities.shared.v1", "ott.SharedEntity", "entity (kind:value)", spread=False)
USER_RINGS: Final = Topic("ott.users.rings.v1", "ott.UserRing", "user_id", compacted=True, retention_ms=None)
DECISIONS: Final = Topic("ott.decisions.v1", "ott.Decision", "user_id")
ALERTS: Final = Topic("ott.alerts.v1", "ott.Alert", "user_id")
ACTIONS: Final = Topic("ott.actions.v1", "ott.Action", "user_id")
VIOLATIONS: Final = Topic("ott.violations.v1", "ott.Violation", "user_id")
FEEDBACK: Final = Topic("ott.feedback.v1", "ott.Feedback", "user_id")
PRIVACY_REQUESTS: Final = Topic("ott.privacy.requests.v1", "ott.PrivacyRequest", "user_id")
CONSENTS: Final = Topic("ott.consents.v1", "ott.ConsentRecord", "user_id", retention_ms=400 * DAY_MS)
CONTROLS: Final = Topic("ott.controls.v1", "ott.Control", "setting", spread=False, compacted=True, retention_ms=None)
MODELS: Final = Topic(
    "ott.models.v1", "ott.ModelArtefact", "model name", spread=False, compacted=True, retention_ms=None, max_message_bytes=8 * 1024 * 1024
)

ALL: Final[tuple[Topic, ...]] = (
    RAW, VALID, CHECKED, SCORED, LINKED, ENTITIES_SEEN, ENTITIES_SHARED, USER_RINGS, DECISIONS, ALERTS, ACTIONS, VIOLATIONS,
    FEEDBACK, PRIVACY_REQUESTS, CONSENTS, CONTROLS, MODELS,
)  # fmt: skip
