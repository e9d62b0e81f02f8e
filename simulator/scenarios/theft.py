"""Stolen credentials: takeover, credential stuffing, and a token that is in two places."""

from __future__ import annotations

from typing import Final

from schemas.records import EventType
from simulator.config import HOUR_MS, MINUTE_MS
from simulator.devices import Device, Spot
from simulator.geography import distance_km
from simulator.people import Account
from simulator.population import Registry
from simulator.scenarios.common import find_account, find_established, pace_s, soon_ms, strange_device
from simulator.viewing import draw_title
from simulator.world import Process, World

LOOT: Final[tuple[tuple[tuple[EventType, ...], tuple[int, ...]], ...]] = (
    (("PURCHASE", "PROFILE", "ACCOUNT_CHANGE", "PAYMENT"), (55, 15, 15, 15)),
    (("EXPORT", "DATA_ACCESS", "PROFILE", "ACCOUNT_CHANGE"), (35, 30, 20, 15)),
    (("ACCOUNT_CHANGE", "PROFILE", "PLAY", "HEARTBEAT", "SEARCH"), (15, 20, 15, 35, 15)),
)
"""What thieves are after: goods, data, or an account to resell."""

FAR_KM: Final = 3000.0


def stage_takeover(world: World, registry: Registry, size: float) -> int:
    """A thief signs in from elsewhere on a device of his own, changes the account and takes what he came for."""
    rng = world.rng
    victim = find_established(world)
    if victim is None:
        return 0
    victim.marked = True
    wrong = rng.choices((0, 1, 2, 3), weights=(40, 30, 20, 10))[0]
    kinds, weights = rng.choice(LOOT)
    loot = rng.choices(kinds, weights=weights, k=int(rng.uniform(6, 10 + 12 * min(1.0, size))))
    if "ACCOUNT_CHANGE" not in loot:
        loot[min(1, len(loot) - 1)] = "ACCOUNT_CHANGE"
    steps: list[EventType] = [*_repeated("LOGIN_FAILED", wrong), "LOGIN", *loot]
    pause = pace_s(world, (3, 60), (90, 1500), len(steps))
    world.spawn(_act(world, victim, strange_device(world), _hideout(world, victim), steps, pause, "takeover", soon_ms(world, 24)))
    return len(steps)


def _repeated(kind: EventType, times: int) -> list[EventType]:
    return [kind] * times


def _hideout(world: World, victim: Account) -> Spot:
    """Where a thief connects from; a quarter claim the victim's region all the same."""
    rng = world.rng
    draw = rng.random()
    if draw < 0.4:
        spot = world.exit_spot(vpn=rng.random() < 0.5)
    else:
        home = victim.line.city
        city = world.geography.draw_city_between(rng, home, 50 if draw < 0.55 else 800, 700 if draw < 0.55 else 20_000)
        spot = world.foreign_spot(city or world.geography.draw_city(rng))
    if rng.random() < 0.25:
        return Spot(spot.address, victim.line.city.region, victim.line.city.is_eu, spot.network, spot.city)
    return spot


def _act(
    world: World,
    account: Account,
    device: Device,
    spot: Spot,
    steps: list[EventType],
    pause_s: tuple[float, float],
    label: str,
    start_ms: int,
) -> Process:
    """Goes through the steps with these pauses."""
    session = world.mint.text()
    title = draw_title(world.rng)
    yield start_ms
    for kind in steps:
        world.emit(
            account,
            device,
            kind,
            spot,
            label,
            content=title if kind in ("PLAY", "HEARTBEAT", "PURCHASE") else "",
            session=session,
            error="AUTH_FAILED" if kind == "LOGIN_FAILED" else None,
            amount=round(world.rng.uniform(15, 180), 2) if kind == "PURCHASE" else None,
        )
        yield world.in_s(*pause_s)


def stage_credential_stuffing(world: World, registry: Registry, size: float) -> int:
    """One list of stolen passwords, tried from one to three sources on many accounts; few of them fit."""
    rng = world.rng
    crowd = min(len(world.accounts), int(rng.uniform(28, 40 + 20 * min(1.5, size))))
    sources = [
        (
            world.exit_spot(vpn=False) if rng.random() < 0.5 else world.foreign_spot(world.geography.draw_city(rng)),
            [strange_device(world) for _ in range(rng.choices((1, 5), weights=(8, 2))[0])],
        )
        for _ in range(rng.randint(1, 3))
    ]
    tries: list[tuple[Account, EventType]] = []
    for account in rng.sample(world.accounts, crowd):
        tries += [(account, "LOGIN_FAILED")] * rng.choices((1, 2, 3), weights=(60, 28, 12))[0]
    rng.shuffle(tries)
    for account, _ in rng.sample(tries, len(tries) // 25):
        at = rng.randrange(len(tries) // 2, len(tries))
        tries[at:at] = [(account, "LOGIN"), (account, "PROFILE")]
    world.spawn(_stuff(world, sources, tries, pace_s(world, (0.3, 4), (15, 90), len(tries)), soon_ms(world, 24)))
    return len(tries)


def _stuff(
    world: World,
    sources: list[tuple[Spot, list[Device]]],
    tries: list[tuple[Account, EventType]],
    pause_s: tuple[float, float],
    start_ms: int,
) -> Process:
    yield start_ms
    spot, devices = sources[0]
    for account, kind in tries:
        if kind != "PROFILE":  # what follows a hit comes from where the hit came from
            spot, devices = world.rng.choice(sources)
            device = world.rng.choice(devices)
        error = "AUTH_FAILED" if kind == "LOGIN_FAILED" else None
        world.emit(account, device, kind, spot, "credential_stuffing", session=world.mint.text(), error=error)
        yield world.in_s(*pause_s)


def stage_impossible_travel(world: World, registry: Registry, size: float) -> int:
    """A copied token shows up far away while its owner was just seen at home: the way would take 1,300 km/h or much more."""
    rng = world.rng

    def suits(one: Account) -> bool:
        at_home = one.seen_at is not None and one.seen_at.city is one.line.city
        return at_home and one.is_established(world.now) and not one.exits and world.now - one.seen_ms < HOUR_MS

    victim = find_account(world, suits, tries=len(world.accounts) // 4 + 80)
    if victim is None or victim.seen_device is None:
        return 0
    city = world.geography.draw_city_between(rng, victim.line.city, FAR_KM, 20_000)
    if city is None:
        return 0
    victim.marked = True
    way_ms = distance_km(victim.line.city, city) / rng.uniform(1300, 2500) * HOUR_MS
    gap_ms = rng.uniform(4, 35) * MINUTE_MS if rng.random() < 0.6 else way_ms
    gap_ms = min(gap_ms, 0.3 * world.remaining_ms)
    device = victim.seen_device if rng.random() < 0.55 else strange_device(world)
    steps: list[EventType] = ["TOKEN_REFRESH" if device is victim.seen_device else "LOGIN", "PLAY"]
    steps += rng.choices(("HEARTBEAT", "SEARCH", "PROFILE"), weights=(70, 15, 15), k=rng.randint(2, 6))
    start_ms = max(world.now, int(victim.seen_ms + gap_ms))
    world.spawn(_act(world, victim, device, world.foreign_spot(city), steps, (60, 320), "impossible_travel", start_ms))
    return len(steps)
