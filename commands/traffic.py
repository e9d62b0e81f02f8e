"""Simulated traffic: printed, counted, or sent live into Kafka with the clock of now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from rich.console import Console

from schemas.codec import Codec
from schemas.records import ConsentRecord
from schemas.topics import CONSENTS, RAW
from simulator import SimulationConfig, describe, generate, records, to_json_line
from simulator.config import DAY_MS, DEFAULT_START_MS, EVENTS_PER_USER_DAY, MINUTE_MS
from streams.produce import Produced, produce_records

LIVE_USERS: Final = (500, 30_000)
"""Fewest and most accounts of a live simulation; about 4 kB of memory each."""
LIVE_BACKLOG_MS: Final = 45 * MINUTE_MS
"""Live traffic begins this long ago, so that it has sessions under way when somebody looks."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to simulate.

    Attributes:
        events: how many.
        seed: the same seed gives the same events.
        start: ISO 8601 time of the beginning; None: a fixed Monday.
        misbehaviour: share of misbehaving events in [0, 0.2].
        dirt: share of broken, late and repeated records in [0, 0.5].
    """

    events: int
    seed: int
    start: str | None = None
    misbehaviour: float = 0.015
    dirt: float = 0.0

    def config(self) -> SimulationConfig:
        """The simulator's configuration.

        Raises:
            ValueError: a value is out of range or `start` is no time.
        """
        start_ms = DEFAULT_START_MS
        if self.start is not None:
            at = datetime.fromisoformat(self.start)
            start_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        return SimulationConfig(
            seed=self.seed, events=self.events, start_ms=start_ms, misbehaviour_rate=self.misbehaviour, dirt_rate=self.dirt
        )


def print_lines(request: Request, labels: bool, out: BinaryIO) -> None:
    """Writes the events as JSON lines."""
    for one in generate(request.config()):
        out.write(to_json_line(one, labels).encode() + b"\n")
    out.flush()


def print_summary(request: Request, console: Console) -> None:
    """Prints counts by label."""
    summary = describe(generate(request.config()))
    console.print(f"{summary.events:,} events of {summary.users:,} users, {summary.misbehaviour_share:.2%} misbehaving")
    console.print(summary.table())


def live_config(seed: int, rate_per_s: float, now_ms: int) -> SimulationConfig:
    """A population that makes about `rate_per_s` events a second by itself, as far as memory allows, from a short while ago on."""
    fewest, most = LIVE_USERS
    users = min(most, max(fewest, round(rate_per_s * DAY_MS / 1000 / EVENTS_PER_USER_DAY)))
    return SimulationConfig(seed=seed, users=users, days=3650.0, start_ms=now_ms - LIVE_BACKLOG_MS)


def _never_early(stream: Iterator[Any], stop: Callable[[], bool]) -> Iterator[tuple[Any, str, Any]]:
    """Holds records back until their time has come: no event reaches a gateway before it happened."""
    for one in stream:
        while not stop() and (ahead_s := one.at_ms / 1000 - time.time()) > 0:
            time.sleep(min(ahead_s, 0.2))
        yield (CONSENTS if isinstance(one.record, ConsentRecord) else RAW), one.record.user_id, one.record


def send_live(
    seed: int,
    bootstrap_servers: str,
    codec: Codec,
    rate_per_s: float,
    stop: Callable[[], bool],
    on_progress: Callable[[Produced], None] = lambda done: None,
) -> Produced:
    """Sends traffic that happens now, at most `rate_per_s` records a second, until `stop`.

    Raises:
        ProduceError: Kafka did not take all of it.
    """
    stream = records(live_config(seed, rate_per_s, time.time_ns() // 1_000_000))
    return produce_records(bootstrap_servers, codec, _never_early(stream, stop), rate_per_s, on_progress, stop)
