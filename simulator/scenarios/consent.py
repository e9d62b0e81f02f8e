"""Processing without a consent that the law demands."""

from __future__ import annotations

from typing import Final

from schemas.records import EventType
from simulator.config import HOUR_MS
from simulator.devices import Device
from simulator.people import Account
from simulator.population import Registry, decide, home_spot
from simulator.scenarios.common import find_account
from simulator.viewing import draw_title
from simulator.world import Process, World

STEPS: Final[tuple[EventType, ...]] = ("PROFILE", "ACCESS", "SEARCH", "PLAY")


def stage_consent_breach(world: World, registry: Registry, size: float) -> int:
    """Somebody who refused, or withdraws now, is processed for a purpose that needs his consent all the same.

    Opt-in laws (GDPR Art 6(1)(a), UK GDPR, LGPD Art 7, PIPL Art 13, …): any optional purpose. In the United States: sale, which for
    what a person watched needs consent (18 USC 2710(b)(2)(B)) and of which he opted out.
    """
    rng = world.rng

    def suits(one: Account) -> bool:
        asked = one.line.country.consent in ("opt-in", "sale")
        return asked and one.is_established(world.now) and not one.home_empty and not one.exits and (withdraws or not one.consented)

    withdraws = rng.random() < 0.5
    account = find_account(world, suits)
    if account is None:
        return 0
    device = next((one for one in account.devices if one.abroad is None), None)
    if device is None:
        return 0
    account.marked = True
    purposes = ("sale",) if account.line.country.consent == "sale" else ("analytics", "personalisation", "marketing", "sale")
    events = rng.choices((1, 2, 3, 5), weights=(25, 30, 30, 15))[0]
    stale = rng.random() < world.config.unflagged_breaches
    world.spawn(_process(world, account, device, rng.choice(purposes), events, stale=stale))
    return events


def _process(world: World, account: Account, device: Device, purpose: str, events: int, *, stale: bool) -> Process:
    """`stale` leaves the gateway's flag at granted, so that only the consent records show the breach."""
    longest_s = min(4 * HOUR_MS, 0.2 * world.remaining_ms / events) / 1000
    yield world.in_s(30, max(60.0, longest_s))
    if account.consented:
        decide(world, account, device, home_spot(world, account, device), agrees=False)
    session = world.mint.text()
    for _ in range(events):
        yield world.in_s(20, max(40.0, longest_s))
        spot = home_spot(world, account, device)
        kind = world.rng.choice(STEPS)
        title = draw_title(world.rng) if kind == "PLAY" or purpose == "sale" else ""  # what is sold is what a person watched
        world.emit(account, device, kind, spot, "consent_breach", content=title, session=session, purpose=purpose, consented=stale)
    account.marked = False
