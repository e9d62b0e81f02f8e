"""Honest journeys: nobody is online while under way, and the way takes as long as it takes."""

from __future__ import annotations

from simulator.config import DAY_MS, HOUR_MS
from simulator.geography import distance_km
from simulator.people import Account
from simulator.population import Registry
from simulator.world import Process, World

NEAR_KM = (120.0, 2_500.0)
FAR_KM = (2_500.0, 19_000.0)


def journey_h(distance: float) -> float:
    """Hours from door to door, and offline: a car at 80 km/h up to 300 km, else a flight at 750 km/h and three hours around it."""
    return distance / 80 if distance <= 300 else 3 + distance / 750


def travel(world: World, registry: Registry, account: Account) -> Process:
    """A household (or one of its members) goes away for some days, watches there with the devices it took, and comes back."""
    rng = world.rng
    nearest, farthest = NEAR_KM if rng.random() < 0.72 else FAR_KM
    home = account.line.city
    city = world.geography.draw_city_between(rng, home, nearest, farthest)
    if city is None or account.marked or account.home_empty:
        return
    split = account.people > 1 and rng.random() < 0.25
    portable = [one for one in account.devices if one.kind != "tv" and one.abroad is None]
    taken = portable[:1] if split else portable
    if not taken:
        return
    account.marked = True
    stay_ms = int(rng.uniform(1.5, 12) * DAY_MS)
    way_ms = int(journey_h(distance_km(home, city)) * HOUR_MS)
    for device in taken:
        device.away_until_ms = world.now + way_ms + HOUR_MS
    if not split:
        account.home_empty = True
        account.held_until_ms = max(account.held_until_ms, world.now + way_ms + HOUR_MS)
    # Sessions under way end at their next heartbeat; the hour above lies between that and the earliest arrival.
    yield world.now + way_ms + HOUR_MS
    hotel = world.foreign_spot(city)
    roams = rng.random() < 0.25
    for device in taken:
        device.abroad = world.mobile_spot(city) if roams and device.kind == "phone" else hotel
    yield world.now + stay_ms
    for device in taken:
        device.abroad = None
        device.away_until_ms = world.now + way_ms + HOUR_MS
    if not split:
        account.held_until_ms = max(account.held_until_ms, world.now + way_ms + HOUR_MS)
    yield world.now + way_ms + HOUR_MS
    account.home_empty = False
    account.marked = False
