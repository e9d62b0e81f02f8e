"""Staged misbehaviour, by scenario.

A scenario's `stage` function finds whom it befalls, spawns its processes and returns how many events it will give, or 0 when nobody
suits at the moment. `size` scales it (1 for a stream with some three thousand staged events). Thieves use ordinary devices and
the same id, time and metadata formats as everybody; only what they do tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulator.config import Scenario
from simulator.population import Registry
from simulator.scenarios import abuse, automation, consent, theft
from simulator.world import World

Stage = Callable[[World, Registry, float], int]

STAGES: Final[dict[Scenario, Stage]] = {
    "takeover": theft.stage_takeover,
    "credential_stuffing": theft.stage_credential_stuffing,
    "sharing": abuse.stage_sharing,
    "impossible_travel": theft.stage_impossible_travel,
    "ring": abuse.stage_ring,
    "bulk_export": automation.stage_bulk_export,
    "bot": automation.stage_bot,
    "consent_breach": consent.stage_consent_breach,
}
