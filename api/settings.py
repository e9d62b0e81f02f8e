"""What the ingest endpoint is set to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Bounds of `POST /v1/events`.

    Attributes:
        max_body_bytes: largest body, in bytes; larger ones are 413.
        max_events: most events of one request; more are 413.
        max_event_bytes: largest event, key and value as Kafka holds them; larger ones are 413. Not above what validation takes.
        body_timeout_s: how long a client may take to send a body; then 408.
        ack_timeout_s: how long Kafka may take to ack a batch; then 503.
        events_per_window: events that a client may send in any `window_s`, where its key says nothing else.
        window_s: length of the sliding window of the rate limit.
        rate_limit_fails_open: whether events are taken uncounted (True) or refused with 503 (False) while Redis is away.
        idempotency_ttl_s: how long an Idempotency-Key is remembered.
        idempotency_lease_s: after which time a request that never ended frees its key; above `ack_timeout_s`.
        idempotency_fails_open: whether a request with a key is taken without its protection (True) or refused with 503 (False)
            while Redis is away. Taking it is safe for the results: the pipeline counts an event id once.

    Raises:
        ValueError: a value is out of range.
    """

    max_body_bytes: int = 4 * 1024 * 1024
    max_events: int = 1_000
    max_event_bytes: int = 262_144
    body_timeout_s: float = 30.0
    ack_timeout_s: float = 10.0
    events_per_window: int = 10_000
    window_s: float = 60.0
    rate_limit_fails_open: bool = True
    idempotency_ttl_s: float = 86_400.0
    idempotency_lease_s: float = 60.0
    idempotency_fails_open: bool = True

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_events", "max_event_bytes", "body_timeout_s", "ack_timeout_s", "events_per_window", "window_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is not above 0")
        if not self.ack_timeout_s < self.idempotency_lease_s <= self.idempotency_ttl_s:
            raise ValueError("idempotency_lease_s is not between ack_timeout_s and idempotency_ttl_s")
