"""Decides when which scenario is staged, so that their share of the stream comes out as asked."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from simulator.config import MINUTE_MS, Scenario
from simulator.population import Registry
from simulator.scenarios import STAGES
from simulator.world import Process, World

QUIET: Final = 0.08
"""Share of the stream before the first scenario: honest habits come before what breaks them."""
CLOSED: Final = 0.93
"""Share of the stream after which nothing new is staged."""
STAGED_AT_SIZE_1: Final = 3000


def direct(world: World, registry: Registry) -> Process:
    """Looks every few minutes whether the stream owes misbehaviour and stages the scenario most in arrears.

    The first round gives every scenario once, in random order, so that also a short stream has each.
    """
    rng, config = world.rng, world.config
    shares: dict[Scenario, float] = {name: share for name, share in config.mix.items() if share > 0}
    expected = config.expected_events * config.misbehaviour_rate
    if not shares or expected <= 0:
        return
    whole = sum(shares.values())
    size = min(2.0, max(0.3, math.sqrt(expected / STAGED_AT_SIZE_1)))
    promised: Counter[Scenario] = Counter()
    latest: Counter[Scenario] = Counter()
    first_round = list(shares)
    rng.shuffle(first_round)
    wake_ms = max(MINUTE_MS, world.period_ms // 1500)
    while True:
        yield world.now + wake_ms
        done = world.progress
        owed = expected * min(1.0, max(0.0, (done - QUIET) / (CLOSED - QUIET)))
        while done < CLOSED and promised.total() < owed:
            ranking = sorted(shares, key=lambda name: promised[name] - shares[name] / whole * (promised.total() + 1))
            if not first_round and promised.total() + latest[ranking[0]] / 2 > owed:
                break  # nearer to what is owed without it
            for name in (*first_round, *ranking):
                events = STAGES[name](world, registry, size)
                if events:
                    promised[name] += events
                    latest[name] = events
                    if name in first_round:
                        first_round.remove(name)
                    break
            else:
                break
