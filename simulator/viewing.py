"""What viewers do on an ordinary day: sign in, look around, watch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Final

from simulator.config import HONEST, MINUTE_MS
from simulator.devices import Device, Spot
from simulator.people import Account
from simulator.population import pick_device, place
from simulator.world import Process, World

TITLES: Final = 3000
ERRORS: Final = ("NETWORK_ERROR", "BUFFER_STALL", "DRM_ERROR", "CDN_TIMEOUT", "DEVICE_ERROR")


@cache
def _catalogue() -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Titles and cumulative popularity, by Zipf's law with exponent 0.9."""
    titles = tuple(f"movie_{100 + rank}" if rank % 5 == 0 else f"series_{100 + rank}_e{1 + rank % 9}" for rank in range(TITLES))
    return titles, tuple(accumulate(1 / (rank + 2) ** 0.9 for rank in range(TITLES)))


def draw_title(rng: random.Random) -> str:
    """A title, as likely as it is popular."""
    titles, cumulative = _catalogue()
    return rng.choices(titles, cum_weights=cumulative)[0]


def live(world: World, account: Account) -> Process:
    """An account's life: whenever somebody sits down, a session begins."""
    yield account.start_ms
    rng = world.rng
    while True:
        yield account.next_session_ms(rng, world.now)
        if world.now < account.held_until_ms:
            continue
        begin_session(world, account)
        if account.people >= 3 and rng.random() < 0.2:  # a family evening: somebody else watches something else
            begin_session(world, account)


def begin_session(world: World, account: Account) -> None:
    """Somebody of the household takes up a free device, if there is one."""
    device = pick_device(world, account)
    if device is None:
        return
    account.sessions += 1
    device.busy = True
    world.spawn(_session(world, account, device, place(world, account, device)))


def _session(world: World, account: Account, device: Device, spot: Spot) -> Process:
    rng = world.rng
    session = world.mint.text()
    yield from sign_in(world, account, device, spot, session)
    if rng.random() < 0.2:
        yield world.in_s(2, 20)
        world.emit(account, device, "PROFILE", spot, session=session)
    for _ in range(rng.choices((0, 1, 2, 3, 5), weights=(55, 25, 12, 6, 2))[0]):
        yield world.in_s(3, 45)
        world.emit(account, device, "SEARCH", spot, session=session)
    yield world.in_s(1, 25)
    if account.streams >= account.limit:
        world.emit(account, device, "ERROR", spot, session=session, error="STREAM_LIMIT")
    elif rng.random() < 0.93:
        yield from watch(world, account, device, spot, session, draw_evening(rng, account, device))
    if rng.random() < 0.03:
        yield world.in_s(1, 30)
        world.emit(account, device, "LOGOUT", spot, session=session)
        device.signed_in = False
    device.busy = False


def sign_in(world: World, account: Account, device: Device, spot: Spot, session: str) -> Process:
    """Shows the token or asks for the password, which some mistype."""
    rng = world.rng
    if device.signed_in and rng.random() < 0.95:
        if rng.random() < 0.5:
            world.emit(account, device, "TOKEN_REFRESH", spot, session=session)
        return
    while rng.random() < 0.12:
        world.emit(account, device, "LOGIN_FAILED", spot, session=session, error="AUTH_FAILED")
        yield world.in_s(6, 40)
    world.emit(account, device, "LOGIN", spot, session=session)
    device.signed_in = True


def draw_evening(rng: random.Random, account: Account, device: Device) -> list[float]:
    """How many minutes each title of a session is watched: at most 14 of them."""
    shortest, longest = (4, 45) if device.kind != "tv" else (85, 130) if rng.random() < 0.3 else (20, 55)
    minutes = [rng.uniform(shortest, longest)]
    while len(minutes) < 14 and rng.random() < account.binge:
        minutes.append(rng.uniform(20, 50))
    return minutes


def watch(
    world: World, account: Account, device: Device, spot: Spot, session: str, minutes: Sequence[float], label: str = HONEST
) -> Process:
    """Plays titles one after the other, with heartbeats; holds one of the account's streams until the last stop.

    Where a stop is never reported (a killed app) the stream is held until two heartbeats were missed, so that the viewers of a
    plan never have more streams open than it allows, in the eyes of a service that waits that long.
    """
    rng, beat_ms = world.rng, world.beat_ms
    account.streams += 1
    device.busy = True
    for length in minutes:
        title = draw_title(rng)
        world.emit(account, device, "PLAY", spot, label, content=title, session=session)
        end_ms = world.now + int(length * MINUTE_MS)
        while world.now + beat_ms < end_ms:
            yield world.now + beat_ms + rng.randint(-900, 900)
            if label == HONEST and (world.now < account.held_until_ms or world.now < device.away_until_ms):
                end_ms = world.now
                break
            world.emit(account, device, "HEARTBEAT", spot, label, content=title, session=session)
            mood = rng.random()
            if mood < 0.03:
                yield world.in_s(5, 120)
                world.emit(account, device, "SEEK", spot, label, content=title, session=session)
            elif mood < 0.06:
                yield world.in_s(5, 120)
                world.emit(account, device, "PAUSE", spot, label, content=title, session=session)
                yield world.in_s(20, 600)
                world.emit(account, device, "PLAY", spot, label, content=title, session=session)
            elif mood < 0.065:
                yield world.in_s(5, 120)
                world.emit(account, device, "ERROR", spot, label, content=title, session=session, error=rng.choice(ERRORS))
        if rng.random() < 0.03:
            yield world.now + 2 * beat_ms + 2000
            break
        yield max(end_ms, world.now + 1000)
        world.emit(account, device, "STOP", spot, label, content=title, session=session)
        if label == HONEST and (world.now < account.held_until_ms or world.now < device.away_until_ms):
            break
        yield world.in_s(2, 15)
    account.streams -= 1
    device.busy = False
