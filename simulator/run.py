"""Runs a simulation: a lazy stream of labelled records in the order in which they reach the gateway."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.records import RawEvent
from simulator.campaigns import direct
from simulator.config import DAY_MS, SimulationConfig
from simulator.dirt import soil
from simulator.geography import load_geography
from simulator.life import fortune
from simulator.population import Registry, introduce
from simulator.viewing import live
from simulator.world import Labelled, World


@dataclass(frozen=True, slots=True)
class LabelledEvent:
    """An event with the truth about it: `honest`, a scenario's name, `malformed` or `duplicate`."""

    event: RawEvent
    label: str


def records(config: SimulationConfig) -> Iterator[Labelled]:
    """Events and consent records in event-time order (in order of arrival where dirt was asked for).

    Lazy: memory grows with the accounts (about 5 kB each), not with the events. The same configuration gives the same records.
    `config.events` counts raw events only; consent records come on top.
    """
    clean = _clean(config)
    stream = soil(clean, config) if config.dirt_rate else clean
    if config.events is None:
        yield from stream
        return
    left = config.events
    for one in stream:
        if isinstance(one.record, RawEvent):
            left -= 1
        yield one
        if left == 0:
            return


def generate(config: SimulationConfig) -> Iterator[LabelledEvent]:
    """Only the events of `records`."""
    for one in records(config):
        if isinstance(one.record, RawEvent):
            yield LabelledEvent(one.record, one.label)


def _clean(config: SimulationConfig) -> Iterator[Labelled]:
    world = World(config, load_geography())
    registry = Registry(world)
    for _ in range(config.population):
        account = registry.draw_account()
        if world.rng.random() < 0.06:  # asleep since before the beginning
            account.held_until_ms = config.start_ms + int(world.rng.uniform(0.1, 0.9) * world.period_ms)
        world.accounts.append(account)
    for account in world.accounts:
        introduce(world, account, config.start_ms - int(world.rng.uniform(1, 300) * DAY_MS))
        yield from world.out
        world.out.clear()
        world.spawn(live(world, account))
    world.spawn(fortune(world, registry))
    world.spawn(direct(world, registry))
    end_ms = None if config.events is not None else config.start_ms + int(config.period_days * DAY_MS)
    queue = world.queue
    while end_ms is None or queue[0][0] < end_ms:
        world.now, _, process = queue[0]
        # What the process spawns comes later in the queue, so it is still its root afterwards.
        following = next(process, None)
        if following is None:
            heapq.heappop(queue)
        else:
            heapq.heapreplace(queue, (max(following, world.now), world.tick(), process))
        if world.out:
            yield from world.out
            world.out.clear()
