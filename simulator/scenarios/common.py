"""What scenarios share: finding whom they befall, and pacing."""

from __future__ import annotations

from collections.abc import Callable

from simulator.config import HOUR_MS
from simulator.devices import Device, Kind, draw_device
from simulator.people import Account
from simulator.world import World


def find_account(world: World, suits: Callable[[Account], bool], tries: int = 80) -> Account | None:
    """An account that suits, among `tries` drawn at random, or None."""
    for _ in range(tries):
        account = world.rng.choice(world.accounts)
        if suits(account):
            return account
    return None


def find_established(world: World) -> Account | None:
    """A lived-in account without a part in a scenario, or None."""
    return find_account(world, lambda one: one.is_established(world.now))


def strange_device(world: World) -> Device:
    """A device the victim never had: what people carry, as often as people carry it."""
    kinds: tuple[Kind, ...] = ("laptop", "phone", "tablet")
    return draw_device(world.rng, world.mint, world.rng.choices(kinds, weights=(5, 4, 1))[0])


def soon_ms(world: World, longest_h: float) -> int:
    """A time within `longest_h` hours, and early enough that a scenario still fits in."""
    return world.now + int(world.rng.random() * min(longest_h * HOUR_MS, 0.3 * world.remaining_ms))


def pace_s(world: World, hasty: tuple[float, float], careful: tuple[float, float], events: int) -> tuple[float, float]:
    """Shortest and longest pause between events (seconds): six in ten are hasty, the rest careful; all end in time."""
    shortest, longest = hasty if world.rng.random() < 0.6 else careful
    fits_s = 0.5 * world.remaining_ms / 1000 / max(1, events)
    return min(shortest, fits_s / 4), min(longest, fits_s)
