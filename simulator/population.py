"""Draws households and their accounts: plans, devices, habits, lines."""

from __future__ import annotations

import random
from typing import Final

from simulator.config import DAY_MS, PLAN_STREAMS
from simulator.devices import Device, Kind, Spot, draw_device
from simulator.geography import City, address6, draw_address, draw_prefix6
from simulator.people import COMMUTE, DAYTIME, EVENING, NIGHT, Account, Line, Plan
from simulator.world import OPTIONAL_PURPOSES, World

PLANS: Final[tuple[Plan, ...]] = ("trial", "basic", "premium", "vip")
PLAN_SHARES: Final = (6, 44, 42, 8)
PRICES: Final[dict[Plan, float]] = {"trial": 0.0, "basic": 7.99, "premium": 13.99, "vip": 21.99}

AGREED: Final[tuple[str | None, ...]] = (*[None] * 9, *["service"] * 5, *["personalisation"] * 3, *["analytics"] * 2, "marketing")
"""What events of somebody who agreed are processed for; many gateways name no purpose."""
REFUSED: Final[tuple[str | None, ...]] = ("service",)

SHARED_HOMES: Final = 0.05
"""Share of accounts that live behind a campus or office-block NAT."""
FLATMATES: Final = 0.06
"""Share of accounts in the home of the account before, on its line and mostly with a television in common."""
SHARED_SIZE: Final = 60
"""Accounts behind one such NAT, at most; in small populations a quarter of it still gives some."""


class Registry:
    """Draws new accounts for a world and remembers the shared lines there are."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._campus: tuple[Line, int] | None = None
        self._latest: Account | None = None

    def draw_account(self, *, city: City | None = None, plan: Plan | None = None) -> Account:
        """A new account with everything its household has. It is not yet part of the world."""
        world, rng = self.world, self.world.rng
        flatmate = self._latest if city is None and self._latest is not None and rng.random() < FLATMATES else None
        line = flatmate.line if flatmate else self._draw_line(city)
        country = line.country
        people = 1 if line.shared else rng.choices((1, 2, 3, 4, 5), weights=(32, 31, 15, 15, 7))[0]
        chosen = plan or rng.choices(PLANS, weights=PLAN_SHARES)[0]
        hours, sessions_per_day, binge = _draw_habits(rng, people)
        consented = rng.random() >= (0.12 if country.consent == "opt-in" else 0.07)
        exits = tuple(world.exit_spot(vpn=rng.random() < 0.75) for _ in range(rng.randint(1, 3))) if rng.random() < 0.03 else ()
        exit_region = rng.random() < 0.6
        if exits and not exit_region:
            exits = tuple(Spot(one.address, line.city.region, line.city.is_eu, one.network, one.city) for one in exits)
        devices = self._draw_devices(people, line)
        if flatmate and rng.random() < 0.7:
            devices = [one for one in devices if one.kind != "tv"] + [one for one in flatmate.devices if one.kind == "tv"]
        account = Account(
            user_id=f"user_{world.mint.text()}",
            tenant_id=None if world.config.tenants == 1 else f"tenant-{rng.randint(1, world.config.tenants)}",
            line=line,
            plan=chosen,
            limit=PLAN_STREAMS[chosen],
            people=people,
            devices=devices,
            payment_token=f"tok_{world.mint.text()}",
            email_hash=f"{world.mint.text()}{world.mint.text()}",
            hours=hours,
            sessions_per_day=sessions_per_day,
            binge=binge,
            mobile_share=0.55 if hours is COMMUTE else rng.choice((0.0, 0.1, 0.25)),
            exits=exits,
            exit_region=exit_region,
            consented=consented,
            purposes=AGREED if consented else REFUSED,
            consent_string=("1YNN" if consented else "1YYN") if country.code == "US" else None,
            start_ms=world.now,
        )
        if city is None and not line.shared:
            self._latest = account
        return account

    def _draw_line(self, city: City | None) -> Line:
        world, rng = self.world, self.world.rng
        if city is None and rng.random() < SHARED_HOMES:
            line, room = self._campus or (
                self._new_line(world.geography.draw_city(rng), shared=True),
                rng.randint(SHARED_SIZE // 4, SHARED_SIZE),
            )
            self._campus = (line, room - 1) if room > 1 else None
            return line
        return self._new_line(city or world.geography.draw_city(rng), shared=False)

    def _new_line(self, city: City, *, shared: bool) -> Line:
        world, rng = self.world, self.world.rng
        country = world.geography.by_code[city.country]
        prefix6 = None if shared or rng.random() < 0.5 else draw_prefix6(rng, country)
        lasts_ms = int(rng.expovariate(1 / (45 * DAY_MS)))
        return Line(country, city, draw_address(rng, country.networks), prefix6, world.now + lasts_ms, shared)

    def _draw_devices(self, people: int, line: Line) -> list[Device]:
        rng, mint = self.world.rng, self.world.mint
        kinds: list[Kind] = ["phone"] * people
        kinds += ["laptop"] * sum(rng.random() < 0.5 for _ in range(people))
        kinds += ["tablet"] * (rng.random() < 0.35)
        if not line.shared:
            kinds += ["tv"] * rng.choices((0, 1, 2), weights=(12, 63, 25))[0]
        return [draw_device(rng, mint, kind, signed_in=rng.random() < 0.97) for kind in kinds]


def _draw_habits(rng: random.Random, people: int) -> tuple[tuple[float, ...], float, float]:
    """Hours, sessions a day and appetite for another episode."""
    kind = rng.random()
    busy = min(5.0, rng.lognormvariate(-1.0, 0.65) * (0.7 + 0.2 * people))
    if kind < 0.05:
        return NIGHT, busy, rng.uniform(0.3, 0.7)
    if kind < 0.09:  # binge viewers: whole seasons in a day
        return rng.choice((EVENING, NIGHT, DAYTIME)), rng.uniform(0.7, 1.6), rng.uniform(0.82, 0.9)
    if kind < 0.10:  # the screen of a gym or a bar, on from morning to night
        return DAYTIME, rng.uniform(0.8, 1.2), 0.95
    if kind < 0.24:
        return DAYTIME, busy, rng.uniform(0.1, 0.5)
    if kind < 0.42:
        return COMMUTE, busy * 1.2, rng.uniform(0.1, 0.4)
    return EVENING, busy, rng.uniform(0.1, 0.55)


def draw_first_plan(world: World) -> Plan:
    """What somebody new begins with: mostly a trial."""
    return world.rng.choices(PLANS, weights=(65, 25, 10, 0))[0]


def introduce(world: World, account: Account, given_ms: int) -> None:
    """Reports what the account decided about optional processing at `given_ms` (Unix ms), when it was opened."""
    world.consent(account, granted=account.consented, purposes=OPTIONAL_PURPOSES, effective_ms=given_ms)


def decide(world: World, account: Account, device: Device, spot: Spot, *, agrees: bool) -> None:
    """The account agrees to optional processing or withdraws, now: a consent record and an event."""
    account.consented = agrees
    account.purposes = AGREED if agrees else REFUSED
    if account.consent_string is not None:
        account.consent_string = "1YNN" if agrees else "1YYN"
    world.consent(account, granted=agrees, purposes=OPTIONAL_PURPOSES)
    world.emit(account, device, "CONSENT_CHANGE", spot, purpose="", session=world.mint.text())


def home_spot(world: World, account: Account, device: Device) -> Spot:
    """Where a device at home is; renews the line's address when its time is over."""
    line = account.line
    if world.now >= line.renewed_ms and not line.shared:
        line.address = draw_address(world.rng, line.country.networks)
        line.renewed_ms = world.now + int(world.rng.expovariate(1 / (45 * DAY_MS)))
        account.spots.clear()
    wired = device.kind == "tv" and bool(device.interface & 8)
    by_6 = line.prefix6 is not None and bool(device.interface & 16)
    key = (line.address, device.device_id if by_6 else "ethernet" if wired else "wifi")
    spot = account.spots.get(key)
    if spot is None:
        address = address6(line.prefix6, device.interface) if by_6 and line.prefix6 is not None else line.address
        spot = Spot(address, line.city.region, line.city.is_eu, "ethernet" if wired else "wifi", line.city)
        account.spots[key] = spot
    return spot


def pick_device(world: World, account: Account, *, portable: bool = False) -> Device | None:
    """A device of the account that somebody can take up now, or None. `portable` leaves the televisions out."""
    free = [
        one
        for one in account.devices
        if not one.busy
        and one.away_until_ms <= world.now
        and (one.abroad is not None or not account.home_empty)
        and not (portable and one.kind == "tv")
    ]
    if not free:
        return None
    weights = [3.0 if one.kind == "tv" else 1.0 for one in free]
    return world.rng.choices(free, weights=weights)[0]


def place(world: World, account: Account, device: Device) -> Spot:
    """Where a session on this device begins: abroad, through a VPN, on a mobile network or at home."""
    if device.abroad is not None:
        return device.abroad
    if device.kind != "tv" and account.exits and world.rng.random() < 0.6:
        return world.rng.choice(account.exits)
    if device.kind == "phone" and world.rng.random() < account.mobile_share:
        return world.mobile_spot(account.line.city)
    return home_spot(world, account, device)
