"""Accounts that are abused by those who hold them: password sharing and promotion rings."""

from __future__ import annotations

from typing import Final

from simulator.config import HOUR_MS, MINUTE_MS
from simulator.devices import Device, Spot
from simulator.people import Account
from simulator.population import PRICES, Registry, draw_first_plan, home_spot, introduce
from simulator.scenarios.common import find_account, soon_ms, strange_device
from simulator.viewing import draw_title, watch
from simulator.world import Process, World

LINKS: Final = ("device", "address", "payment", "email")


def stage_sharing(world: World, registry: Registry, size: float) -> int:
    """Several households watch on one account at the same time, at least one stream more than the plan allows."""
    rng = world.rng
    owner = find_account(world, lambda one: one.limit <= 4 and one.is_established(world.now) and not one.home_empty)
    if owner is None:
        return 0
    owner.marked = True
    guests = owner.limit + rng.choices((0, 1, 2), weights=(45, 35, 20))[0]
    minutes = rng.uniform(32, 45 + 15 * min(1.5, size))
    homes: list[tuple[Device, Spot]] = []
    for _ in range(guests):
        abroad = rng.random() < 0.35
        city = world.geography.draw_city(rng) if abroad else rng.choice(owner.line.country.cities)
        homes.append((strange_device(world), world.foreign_spot(city)))
    world.spawn(_share(world, owner, homes, minutes, soon_ms(world, 18)))
    return int((guests + 1) * (minutes * MINUTE_MS / world.beat_ms * 1.1 + 2) + guests)


def _share(world: World, owner: Account, homes: list[tuple[Device, Spot]], minutes: float, start_ms: int) -> Process:
    yield start_ms
    # The household's own evening is part of it: what it watched before ends first, and nothing honest begins meanwhile.
    wait_ms = 3 * world.beat_ms
    owner.held_until_ms = max(owner.held_until_ms, world.now + wait_ms + int((minutes + 40) * MINUTE_MS))
    yield world.now + wait_ms
    own = next((one for one in owner.devices if one.abroad is None and not one.busy), owner.devices[0])
    world.spawn(_guest(world, owner, own, home_spot(world, owner, own), minutes, 0.0))
    for device, spot in homes:
        world.spawn(_guest(world, owner, device, spot, minutes, world.rng.uniform(20, 600)))


def _guest(world: World, owner: Account, device: Device, spot: Spot, minutes: float, wait_s: float) -> Process:
    session = world.mint.text()
    yield world.now + int(wait_s * 1000)
    if wait_s:
        world.emit(owner, device, "LOGIN", spot, "sharing", session=session)
        yield world.in_s(5, 40)
    yield from watch(world, owner, device, spot, session, [minutes], "sharing")


def stage_ring(world: World, registry: Registry, size: float) -> int:
    """Five to nine new accounts, chained or tied by a device, an address, a card or an e-mail address, collect promotions."""
    rng = world.rng
    members = rng.randint(5, 7 if size < 0.7 else 9)
    city = world.geography.draw_city(rng)
    accounts = [registry.draw_account(city=city, plan=draw_first_plan(world)) for _ in range(members)]
    own = [(strange_device(world), world.foreign_spot(city)) for _ in accounts]
    star = rng.random() < 0.35
    kind = rng.choice(LINKS)
    places: list[list[tuple[Device, Spot]]] = [[own[0]]]
    for at in range(1, members):
        other = 0 if star else at - 1
        link = kind if star else LINKS[(LINKS.index(kind) + at) % len(LINKS)]
        places.append([own[at], _tie(accounts, own, at, other, link)])
    spread_ms = int(min(rng.choice((1, 6, 36)) * HOUR_MS, 0.3 * world.remaining_ms))
    events = 0
    for account, spots in zip(accounts, places, strict=True):
        promotions = rng.randint(1, 3)
        world.spawn(_collect(world, account, spots, promotions, spread_ms, world.now + int(rng.random() * spread_ms)))
        events += 4 + promotions
    return events


def _tie(accounts: list[Account], own: list[tuple[Device, Spot]], at: int, other: int, link: str) -> tuple[Device, Spot]:
    """Ties account `at` to `other`; gives the device and place where the two meet."""
    if link == "payment":
        accounts[at].payment_token = accounts[other].payment_token
    elif link == "email":
        accounts[at].email_hash = accounts[other].email_hash
    elif link == "device":
        return own[other][0], own[at][1]
    else:
        return own[at][0], own[other][1]
    return own[at]


def _collect(world: World, account: Account, spots: list[tuple[Device, Spot]], promotions: int, spread_ms: int, start_ms: int) -> Process:
    """Signs up, gives a card, takes the promotions, tries the goods. Each place is used at least once."""
    rng = world.rng
    session = world.mint.text()
    longest_s = max(20.0, spread_ms / 1000 / 6)
    yield start_ms
    device, spot = spots[0]
    introduce(world, account, world.now)
    world.emit(account, device, "LOGIN", spot, "ring", session=session)
    device, spot = spots[-1]
    yield world.in_s(15, longest_s)
    world.emit(account, device, "PAYMENT", spot, "ring", session=session, amount=PRICES[account.plan])
    for _ in range(promotions):
        yield world.in_s(15, longest_s)
        device, spot = rng.choice(spots)
        world.emit(
            account, device, "PURCHASE", spot, "ring", content=draw_title(rng), session=session, amount=rng.choice((0.99, 2.99, 4.99))
        )
    title = draw_title(rng)
    yield world.in_s(15, longest_s)
    world.emit(account, device, "PLAY", spot, "ring", content=title, session=session)
    yield world.in_s(60, 280)
    world.emit(account, device, "STOP", spot, "ring", content=title, session=session)
