"""Machines at work: bulk export and bots."""

from __future__ import annotations

from typing import Final

from schemas.records import EventType
from simulator.devices import Device, Spot
from simulator.people import Account
from simulator.population import Registry, draw_first_plan, home_spot, introduce
from simulator.scenarios.common import find_established, pace_s, soon_ms, strange_device
from simulator.viewing import draw_title
from simulator.world import Process, World

HAULS: Final[tuple[tuple[EventType, ...], ...]] = (
    ("EXPORT", "EXPORT", "DATA_ACCESS"),
    ("BULK_DOWNLOAD", "DOWNLOAD", "DOWNLOAD"),
    ("BULK_DOWNLOAD", "EXPORT", "DATA_ACCESS", "DOWNLOAD"),
)
ERRANDS: Final[tuple[tuple[EventType, ...], ...]] = (
    ("SEARCH",),
    ("ACCESS",),
    ("SEARCH", "ACCESS"),
    ("PLAY", "STOP"),
    ("ACCESS", "PLAY", "STOP"),
)


def stage_bulk_export(world: World, registry: Registry, size: float) -> int:
    """Somebody draws off data or films by the dozen, mostly on a device the account knows."""
    rng = world.rng
    account = find_established(world)
    if account is None:
        return 0
    account.marked = True
    if rng.random() < 0.65:
        device = next((one for one in account.devices if one.kind in ("laptop", "phone") and one.abroad is None), account.devices[0])
        spot = home_spot(world, account, device)
    else:
        device, spot = strange_device(world), world.foreign_spot(world.geography.draw_city(rng))
    events = int(rng.uniform(18, 26 + 16 * min(1.5, size)))
    haul = rng.choice(HAULS)
    world.spawn(_haul(world, account, device, spot, haul, events, pace_s(world, (1, 9), (20, 110), events), soon_ms(world, 24)))
    return events


def _haul(
    world: World,
    account: Account,
    device: Device,
    spot: Spot,
    haul: tuple[EventType, ...],
    events: int,
    pause_s: tuple[float, float],
    start_ms: int,
) -> Process:
    session = world.mint.text()
    yield start_ms
    for _ in range(events):
        kind = world.rng.choice(haul)
        content = draw_title(world.rng) if kind == "DOWNLOAD" else ""
        world.emit(account, device, kind, spot, "bulk_export", content=content, session=session)
        yield world.in_s(*pause_s)


def stage_bot(world: World, registry: Registry, size: float) -> int:
    """A program asks at an interval that hardly varies, from a server or a home line, on an old or a new account."""
    rng = world.rng
    fresh = rng.random() < 0.5
    account = registry.draw_account(plan=draw_first_plan(world)) if fresh else find_established(world)
    if account is None:
        return 0
    account.marked = True
    device = strange_device(world)
    rented = rng.random() < 0.5
    spot = world.exit_spot(vpn=False) if rented else home_spot(world, account, device)
    events = int(rng.uniform(24, 32 + 12 * min(1.5, size)))
    interval_s, _ = pace_s(world, (1.5, 3), (12, 40), events)
    jitter = rng.choice((0.002, 0.01, 0.04))
    world.spawn(
        _repeat(world, account, device, spot, rng.choice(ERRANDS), events, interval_s * rng.uniform(1, 2), jitter, soon_ms(world, 24))
    )
    return events + 1


def _repeat(
    world: World,
    account: Account,
    device: Device,
    spot: Spot,
    errand: tuple[EventType, ...],
    events: int,
    interval_s: float,
    jitter: float,
    start_ms: int,
) -> Process:
    """`jitter` is the relative spread of the interval."""
    session = world.mint.text()
    yield start_ms
    if account.seen_ms < 0:  # opened for this
        introduce(world, account, world.now)
    world.emit(account, device, "LOGIN", spot, "bot", session=session)
    title = draw_title(world.rng)
    for turn in range(events):
        yield world.in_s(interval_s * (1 - jitter), interval_s * (1 + jitter))
        kind = errand[turn % len(errand)]
        if kind == "PLAY":
            title = draw_title(world.rng)
        world.emit(account, device, kind, spot, "bot", content=title if kind in ("PLAY", "STOP") else "", session=session)
