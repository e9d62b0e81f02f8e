"""Impossible travel: one account in two places that nobody can travel between in the time."""

from __future__ import annotations

from typing import Final, NamedTuple

from rules.behaviour import Travel
from tables.places import apart_km
from tables.profile import Observation


class Move(NamedTuple):
    """A move from the account's last place: least distance (km), time (s, at least `Travel.min_elapsed_s`) and speed (km/h)."""

    distance_km: float
    elapsed_s: float
    speed_kmh: float


STILL: Final = Move(0.0, 0.0, 0.0)


def move_of(seen: Observation, at_ms: int, settings: Travel) -> Move:
    """The move an event at `at_ms` (Unix ms) implies; `STILL` where a place is unknown, the same, or the event is late."""
    origin = seen.origin
    if origin is None or seen.late or not seen.place or seen.place == origin.place:
        return STILL
    distance_km = apart_km(origin.place, seen.place)
    if distance_km <= 0.0:
        return STILL
    elapsed_s = max(float(settings.min_elapsed_s), (at_ms - origin.at_ms) / 1000.0)
    return Move(distance_km, elapsed_s, distance_km / (elapsed_s / 3600.0))


def impossible(move: Move, seen: Observation, settings: Travel) -> float:
    """Strength in [0, 1] of the doubt about a move; 0.0 for a possible one.

    A device is compared with itself where it was seen before, else with the account's latest device: a household may well be in two
    places, a device may not. Tolerated: short distances (borders, commuters, roaming), plausible speeds, one network in two places
    (its address is located badly), and hops onto a network the account has used several times (a VPN, a relay, a second home).
    """
    origin = seen.origin
    if origin is None or move.distance_km < settings.min_distance_km or move.speed_kmh <= settings.max_speed_kmh:
        return 0.0
    if seen.network == origin.network or seen.network_known or seen.network_uses >= settings.tolerated_uses:
        return 0.0
    if seen.device == origin.device:
        return settings.same_device_strength
    return 0.0 if seen.device_known else settings.strength
