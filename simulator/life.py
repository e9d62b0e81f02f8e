"""What happens to honest people now and then, much of which looks like misbehaviour from afar.

Each fate has a rate (per account and day) and a process or function. Rates are assumptions, chosen so that in a month of a
thousand accounts every fate happens tens of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from schemas.records import EventType
from simulator.config import DAY_MS, HOUR_MS, MINUTE_MS
from simulator.devices import Device, Kind, Spot, draw_device
from simulator.people import Account, Plan
from simulator.population import PRICES, Registry, decide, draw_first_plan, home_spot, introduce, pick_device, place
from simulator.travel import travel
from simulator.viewing import ERRORS, draw_evening, draw_title, live, watch
from simulator.world import Process, World

BIGGER: Final[dict[Plan, Plan]] = {"trial": "basic", "basic": "premium", "premium": "vip", "vip": "vip"}


@dataclass(frozen=True, slots=True)
class Fate:
    """Something that happens to an account `per_day` times a day on average."""

    name: str
    per_day: float
    happens: Callable[[World, Registry, Account], Process]


def _at_hand(world: World, account: Account) -> tuple[Device, Spot] | None:
    device = pick_device(world, account, portable=True)
    return None if device is None else (device, place(world, account, device))


def forget_password(world: World, registry: Registry, account: Account) -> Process:
    """Two to six wrong passwords in a few minutes; most then reset it."""
    found = _at_hand(world, account)
    if found is None:
        return
    device, spot = found
    session = world.mint.text()
    yield world.now
    for _ in range(world.rng.choices((2, 3, 4, 5, 6), weights=(35, 30, 20, 10, 5))[0]):
        world.emit(account, device, "LOGIN_FAILED", spot, session=session, error="AUTH_FAILED")
        yield world.in_s(5, 60)
    if world.rng.random() < 0.6:
        yield world.in_s(60, 400)
        world.emit(account, device, "ACCOUNT_CHANGE", spot, session=session)
        yield world.in_s(5, 40)
    world.emit(account, device, "LOGIN", spot, session=session)
    device.signed_in = True


def lose_network(world: World, registry: Registry, account: Account) -> Process:
    """A bad network: a burst of device errors and failed token refreshes."""
    device = pick_device(world, account)
    if device is None:
        return
    spot, session, title = place(world, account, device), world.mint.text(), draw_title(world.rng)
    yield world.now
    for _ in range(world.rng.randint(3, 14)):
        if world.rng.random() < 0.15:
            world.emit(account, device, "TOKEN_REFRESH_FAILED", spot, session=session, error="NETWORK_ERROR")
        else:
            world.emit(account, device, "ERROR", spot, content=title, session=session, error=world.rng.choice(ERRORS[:4]))
        yield world.in_s(2, 45)


def replace_phone(world: World, registry: Registry, account: Account) -> Process:
    """A new phone takes the place of an old one and signs in."""
    old = next((one for one in account.devices if one.kind == "phone" and not one.busy and one.abroad is None), None)
    if old is None or account.marked:
        return
    new = draw_device(world.rng, world.mint, "phone")
    account.devices[account.devices.index(old)] = new
    yield world.now
    spot, session = place(world, account, new), world.mint.text()
    world.emit(account, new, "LOGIN", spot, session=session)
    for _ in range(world.rng.randint(0, 2)):
        yield world.in_s(5, 90)
        world.emit(account, new, "PROFILE", spot, session=session)


def buy_device(world: World, registry: Registry, account: Account) -> Process:
    """A household gets a television, tablet or laptop more; it signs in at its first session."""
    yield world.now
    kinds: tuple[Kind, ...] = ("tv", "tablet", "laptop")
    kind = world.rng.choices(kinds, weights=(5, 3, 2))[0]
    account.devices.append(draw_device(world.rng, world.mint, kind, signed_in=False))


def change_mind(world: World, registry: Registry, account: Account) -> Process:
    """Withdraws the consent to optional processing, or gives it."""
    found = _at_hand(world, account)
    if found is None or account.marked:
        return
    yield world.now
    decide(world, account, *found, agrees=not account.consented)


def ask_for_data(world: World, registry: Registry, account: Account) -> Process:
    """Looks at what is stored and takes a copy, as data-protection laws allow (GDPR Art 15 and 20)."""
    found = _at_hand(world, account)
    if found is None:
        return
    device, spot = found
    session = world.mint.text()
    yield world.now
    for _ in range(world.rng.randint(1, 3)):
        world.emit(account, device, "DATA_ACCESS", spot, session=session, purpose="service")
        yield world.in_s(20, 300)
    world.emit(account, device, "EXPORT", spot, session=session, purpose="service")
    if world.rng.random() < 0.1:
        yield world.in_s(60, 900)
        world.emit(account, device, "DATA_DELETION", spot, session=session, purpose="service")


def load_up(world: World, registry: Registry, account: Account) -> Process:
    """Downloads three to twelve titles for a journey."""
    found = _at_hand(world, account)
    if found is None:
        return
    device, spot = found
    session = world.mint.text()
    yield world.now
    for _ in range(world.rng.randint(3, 12)):
        world.emit(account, device, "DOWNLOAD", spot, content=draw_title(world.rng), session=session)
        yield world.in_s(20, 420)


def rent(world: World, registry: Registry, account: Account) -> Process:
    """Rents a film or two, seldom a handful, and pays for each."""
    found = _at_hand(world, account)
    if found is None:
        return
    device, spot = found
    session = world.mint.text()
    yield world.now
    for _ in range(world.rng.choices((1, 2, 4), weights=(80, 15, 5))[0]):
        amount = world.rng.choice((2.99, 3.99, 4.99, 9.99, 14.99))
        world.emit(account, device, "PURCHASE", spot, content=draw_title(world.rng), session=session, amount=amount)
        yield world.in_s(40, 600)


def pay(world: World, registry: Registry, account: Account) -> Process:
    """The monthly fee."""
    if account.plan == "trial":
        return
    device = account.devices[0]
    yield world.now
    world.emit(account, device, "PAYMENT", home_spot(world, account, device), amount=PRICES[account.plan])


def change_plan(world: World, registry: Registry, account: Account) -> Process:
    """Takes a bigger plan, at once."""
    found = _at_hand(world, account)
    if found is None or account.plan == "vip" or account.marked:
        return
    device, spot = found
    session = world.mint.text()
    yield world.now
    account.take_plan(BIGGER[account.plan])
    world.emit(account, device, "ACCOUNT_CHANGE", spot, session=session)
    yield world.in_s(20, 90)
    world.emit(account, device, "PAYMENT", spot, session=session, amount=PRICES[account.plan])


_TIDYING: Final[tuple[EventType, ...]] = ("PROFILE", "ACCESS", "SEARCH", "ACCOUNT_CHANGE")


def tidy_up(world: World, registry: Registry, account: Account) -> Process:
    """Looks through profiles, lists and settings."""
    found = _at_hand(world, account)
    if found is None:
        return
    device, spot = found
    session = world.mint.text()
    yield world.now
    for _ in range(world.rng.randint(2, 7)):
        world.emit(account, device, world.rng.choices(_TIDYING, weights=(40, 35, 20, 5))[0], spot, session=session)
        yield world.in_s(4, 90)


def visit_friend(world: World, registry: Registry, account: Account) -> Process:
    """Signs in on a friend's television for an evening: two accounts on one device and address."""
    near = [one for one in world.rng.sample(world.accounts, min(40, len(world.accounts))) if one.line.city is account.line.city]
    friend = next((one for one in near if one is not account and not one.home_empty), None)
    screen = next((one for one in friend.devices if one.kind == "tv" and not one.busy), None) if friend else None
    if friend is None or screen is None or account.streams >= account.limit or account.home_empty:
        return
    session = world.mint.text()
    screen.busy = True
    yield world.now
    spot = home_spot(world, friend, screen)
    world.emit(account, screen, "LOGIN", spot, session=session)
    yield world.in_s(10, 90)
    if account.streams < account.limit:
        yield from watch(world, account, screen, spot, session, draw_evening(world.rng, account, screen))
    world.emit(account, screen, "LOGOUT", spot, session=session)
    screen.busy = False


def fall_asleep(world: World, registry: Registry, account: Account) -> Process:
    """A dormant account: nobody watches for one to four weeks; then all devices have to sign in again."""
    if account.marked:
        return
    yield world.now
    account.held_until_ms = world.now + int(world.rng.uniform(7, 28) * DAY_MS)
    yield account.held_until_ms
    for device in account.devices:
        device.signed_in = False


def join(world: World, registry: Registry, account: Account) -> Process:
    """Somebody new signs up, mostly for a trial. (`account` only tells that one more household is born.)"""
    new = registry.draw_account(plan=draw_first_plan(world))
    device = new.devices[0]
    device.signed_in = True
    spot, session = place(world, new, device), world.mint.text()
    yield world.now
    introduce(world, new, world.now)
    world.emit(new, device, "LOGIN", spot, session=session)
    yield world.in_s(30, 240)
    world.emit(new, device, "PAYMENT", spot, session=session, amount=PRICES[new.plan])
    yield world.in_s(5, 120)
    world.emit(new, device, "PROFILE", spot, session=session)
    new.start_ms = world.now
    world.accounts.append(new)
    world.spawn(live(world, new))


FATES: Final[tuple[Fate, ...]] = (
    Fate("travel", 0.0045, travel),
    Fate("forget_password", 0.006, forget_password),
    Fate("lose_network", 0.02, lose_network),
    Fate("replace_phone", 0.0025, replace_phone),
    Fate("buy_device", 0.002, buy_device),
    Fate("change_mind", 0.0025, change_mind),
    Fate("ask_for_data", 0.001, ask_for_data),
    Fate("load_up", 0.008, load_up),
    Fate("rent", 0.02, rent),
    Fate("pay", 0.033, pay),
    Fate("change_plan", 0.001, change_plan),
    Fate("tidy_up", 0.02, tidy_up),
    Fate("visit_friend", 0.003, visit_friend),
    Fate("fall_asleep", 0.0025, fall_asleep),
    Fate("join", 0.004, join),
)


def fortune(world: World, registry: Registry) -> Process:
    """Deals out fates for ever: one Poisson process over all accounts, kept to waking hours of the one it meets."""
    rng = world.rng
    weights = [one.per_day for one in FATES]
    total_per_ms = sum(weights) / DAY_MS
    while True:
        yield world.now + 1 + int(rng.expovariate(total_per_ms * len(world.accounts)))
        account = rng.choice(world.accounts)
        fate = rng.choices(FATES, weights=weights)[0]
        if world.now < account.held_until_ms:
            continue
        world.spawn(_when_awake(world, registry, account, fate))


def _when_awake(world: World, registry: Registry, account: Account, fate: Fate) -> Process:
    """Waits for the morning where it is night for the account."""
    hour = (world.now + account.line.city.offset_ms) // HOUR_MS % 24
    if hour < 7:
        yield world.now + (7 - hour) * HOUR_MS + world.rng.randint(0, 4 * 60) * MINUTE_MS
    yield from fate.happens(world, registry, account)
