"""What to simulate: a frozen, checked configuration whose gaps are filled from the number of events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
MINUTE_MS: Final = 60_000

Scenario = Literal["takeover", "credential_stuffing", "sharing", "impossible_travel", "ring", "bulk_export", "bot", "consent_breach"]
SCENARIOS: Final[tuple[Scenario, ...]] = get_args(Scenario)
HONEST: Final = "honest"
MALFORMED: Final = "malformed"
DUPLICATE: Final = "duplicate"

EVENTS_PER_USER_DAY: Final = 10.5
"""Measured mean of the default population; only used to size population and period, never to shape an event."""

DEFAULT_START_MS: Final = 1_767_571_200_000
"""2026-01-05T00:00:00Z, a Monday."""

DEFAULT_MIX: Final = MappingProxyType[Scenario, float](
    {
        "takeover": 0.13,
        "credential_stuffing": 0.11,
        "sharing": 0.24,
        "impossible_travel": 0.06,
        "ring": 0.12,
        "bulk_export": 0.13,
        "bot": 0.15,
        "consent_breach": 0.06,
    }
)

PLAN_STREAMS: Final = MappingProxyType({"trial": 1, "basic": 2, "premium": 4, "vip": 6})
"""How many streams a plan allows at once."""


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """What to simulate.

    Attributes:
        seed: the same seed and configuration give the same bytes.
        events: how many events to give (>= 1); None: as many as happen in `days`.
        users: accounts at the start (>= 1); None: chosen so that `events` fill `days`.
        start_ms: Unix milliseconds of the beginning; nothing happens before.
        days: length of the period (> 0). With `events` it only shapes the population: the stream ends at the number.
            None: grows with the root of `events`, 30 at the most.
        misbehaviour_rate: share of events that belong to staged misbehaviour, in [0, 0.2].
        mix: share of the staged events by scenario, non-negative; a scenario that is absent is not staged.
        tenants: number of tenants (>= 1); with one, events carry no tenant.
        heartbeat_s: seconds between heartbeats of a playing stream (>= 10).
        dirt_rate: share of events that are followed by a duplicate, arrive late or are malformed, in [0, 0.5].
        unflagged_breaches: share of consent breaches that only the consent records show, because the gateway's own flag
            is stale, in [0, 1].

    Raises:
        ValueError: a value is outside its range.
    """

    seed: int = 1
    events: int | None = None
    users: int | None = None
    start_ms: int = DEFAULT_START_MS
    days: float | None = None
    misbehaviour_rate: float = 0.015
    mix: Mapping[Scenario, float] = field(default_factory=lambda: DEFAULT_MIX)
    tenants: int = 1
    heartbeat_s: int = 300
    dirt_rate: float = 0.0
    unflagged_breaches: float = 0.0

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be {rule}"
            for name, rule, holds in (
                ("events", "at least 1", self.events is None or self.events >= 1),
                ("users", "at least 1", self.users is None or self.users >= 1),
                ("start_ms", "at least 0", self.start_ms >= 0),
                ("days", "above 0", self.days is None or self.days > 0),
                ("misbehaviour_rate", "in [0, 0.2]", 0 <= self.misbehaviour_rate <= 0.2),
                ("mix", "known scenarios with shares >= 0", all(key in SCENARIOS and share >= 0 for key, share in self.mix.items())),
                ("tenants", "at least 1", self.tenants >= 1),
                ("heartbeat_s", "at least 10", self.heartbeat_s >= 10),
                ("dirt_rate", "in [0, 0.5]", 0 <= self.dirt_rate <= 0.5),
                ("unflagged_breaches", "in [0, 1]", 0 <= self.unflagged_breaches <= 1),
            )
            if not holds
        ]
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def rate_per_user_day(self) -> float:
        """Expected events of a user a day."""
        beats = 300 / self.heartbeat_s
        return EVENTS_PER_USER_DAY * (0.4 + 0.6 * beats)

    @property
    def period_days(self) -> float:
        """Length of the period in days, as given or derived."""
        if self.days is not None:
            return self.days
        if self.events is None:
            return 7.0
        if self.users is not None:
            return max(0.25, self.events / self.users / self.rate_per_user_day)
        return min(30.0, max(1.0, math.sqrt(self.events) / 15))

    @property
    def population(self) -> int:
        """Accounts at the start, as given or derived; at least 20 when derived."""
        if self.users is not None:
            return self.users
        if self.events is None:
            return 200
        return max(20, round(self.events / self.period_days / self.rate_per_user_day))

    @property
    def expected_events(self) -> int:
        """How many events there will be (exactly, where `events` is given)."""
        if self.events is not None:
            return self.events
        return max(1, round(self.population * self.period_days * self.rate_per_user_day))
