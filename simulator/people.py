"""Households and their accounts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final, Literal

from simulator.config import DAY_MS, PLAN_STREAMS
from simulator.devices import Device, Spot
from simulator.geography import City, Country

Plan = Literal["trial", "basic", "premium", "vip"]

Hours = tuple[float, ...]
"""How likely a session begins in each of the 24 local hours, the busiest hour being 1."""

EVENING: Final[Hours] = (.20, .10, .05, .03, .03, .04, .08, .15, .18, .18, .2, .22, .28, .28, .28, .3, .38, .5, .68, .88, 1., 1., .8, .45)  # fmt: skip
NIGHT: Final[Hours] = (1., 1., .9, .7, .45, .25, .1, .05, .05, .05, .08, .1, .15, .15, .18, .2, .25, .3, .4, .5, .6, .75, .9, 1.)  # fmt: skip
DAYTIME: Final[Hours] = (.05, .03, .03, .03, .05, .15, .4, .6, .8, 1., 1., .9, .8, .85, .9, .8, .7, .6, .6, .6, .5, .35, .2, .1)  # fmt: skip
COMMUTE: Final[Hours] = (.08, .05, .03, .03, .05, .2, .7, 1., .6, .2, .15, .2, .35, .25, .15, .2, .5, .95, .7, .6, .7, .7, .45, .2)  # fmt: skip


@dataclass(slots=True, eq=False)
class Line:
    """A household's access line: its address lasts until `renewed_ms`, then the provider gives another.

    `shared` lines (campus, office block) keep theirs.
    """

    country: Country
    city: City
    address: str
    prefix6: int | None
    renewed_ms: int
    shared: bool = False


@dataclass(slots=True, eq=False)
class Account:
    """An account of a household, with its habits and where it stands at the moment of the simulation.

    Attributes:
        limit: streams its plan allows at once.
        sessions_per_day: how often somebody sits down to watch.
        binge: chance that an episode is followed by another.
        exits: VPN exits its members like; empty for most.
        exit_region: whether the gateway claims the exit's region (it goes by address) or the home's (by the store).
        consented: whether optional processing was agreed to.
        purposes: what events of this account are processed for, to draw from.
        streams: streams open at the moment.
        home_empty: everybody travels.
        held_until_ms: nobody of the household watches until then.
        seen_ms, seen_at, seen_device: last event of the household, if any.
        sessions: sessions begun so far.
        marked: it has a part in a staged scenario, or travels.
        spots: where devices at home are, by address of the line and network (or device, where each has its own IPv6 address).
    """

    user_id: str
    tenant_id: str | None
    line: Line
    plan: Plan
    limit: int
    people: int
    devices: list[Device]
    payment_token: str
    email_hash: str
    hours: Hours
    sessions_per_day: float
    binge: float
    mobile_share: float
    exits: tuple[Spot, ...]
    exit_region: bool
    consented: bool
    purposes: tuple[str | None, ...]
    consent_string: str | None
    start_ms: int
    streams: int = 0
    home_empty: bool = False
    held_until_ms: int = 0
    seen_ms: int = -1
    seen_at: Spot | None = None
    seen_device: Device | None = None
    sessions: int = 0
    marked: bool = False
    spots: dict[tuple[str, str], Spot] = field(default_factory=dict)

    def next_session_ms(self, rng: random.Random, now_ms: int) -> int:
        """When somebody sits down next: a Poisson process thinned by the local hour (Lewis and Shedler 1979)."""
        hours = self.hours
        peak_per_ms = self.sessions_per_day * 24 / sum(hours) / DAY_MS
        offset_ms = self.line.city.offset_ms
        at = now_ms
        while True:
            at += int(rng.expovariate(peak_per_ms)) + 1
            local = at + offset_ms
            weekend = (local // DAY_MS + 3) % 7 >= 5
            if rng.random() < hours[local // 3_600_000 % 24] * (1.0 if weekend else 0.85):
                return at

    def is_established(self, now_ms: int) -> bool:
        """Whether a thief or a neighbour finds a lived-in account here: some sessions, seen within four days, no other part."""
        return not self.marked and self.sessions >= 3 and now_ms - self.seen_ms < 4 * DAY_MS

    def take_plan(self, plan: Plan) -> None:
        """Changes to another plan and its stream limit."""
        self.plan = plan
        self.limit = PLAN_STREAMS[plan]
