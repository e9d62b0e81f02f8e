"""Redis as a cache: everything in it can be lost at any time, and reading it never fails and never waits long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import redis
import structlog

log: Final = structlog.get_logger("usher.cache")

PREFIX: Final = "usher:"
TAIL_KEY: Final = PREFIX + "decisions"
"""Stream of the latest decisions of all users."""
READ_TIMEOUT_S: Final = 0.25
REST_S: Final = 1.0
"""How long a cache that failed is left alone, so that a slow Redis costs one time-out a second and not one a request."""
_CHUNK: Final = 500


class RecentDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as the cache keeps it: what every redelivery of it has in common, so no processing times.

    Fields:
        event_id, tenant_id, user_id, event_type, region: of the event.
        event_time: event time (Unix ms).
        outcome, severity, risk, reasons: of the verdict; reasons are codes, strongest first.
        segment: segment of the user.
        breaches: what is breached, as law/rule.
        ring_id, ring_size: ring of the user.
    """

    event_id: str
    tenant_id: str
    user_id: str
    event_type: str
    region: str
    event_time: int
    outcome: str
    severity: str
    risk: float
    reasons: tuple[str, ...]
    segment: str
    breaches: tuple[str, ...]
    ring_id: str | None = None
    ring_size: int = 0


@dataclass(slots=True)
class CacheCounts:
    """What a cache was asked and how it answered, since it was made."""

    hits: int = 0
    misses: int = 0
    errors: int = 0


def user_decisions_key(tenant_id: str, user_id: str) -> str:
    """Key of a user's recent decisions. The tenant's length stands in it, so that no two pairs share a key."""
    return f"{PREFIX}user:{len(tenant_id)}:{tenant_id}:{user_id}:decisions"


_decode_recent: Final = msgspec.json.Decoder(RecentDecision).decode


def connect(url: str, timeout_s: float) -> redis.Redis:
    """A client whose every command ends within `timeout_s`, without retries of its own."""
    return redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=None, health_check_interval=0)


class Cache:
    """Batch reads and writes that never raise while Redis is empty, slow or gone: then everything is a miss.

    Args:
        client: from `connect`, with a short time-out.
        clock: monotonic seconds.
    """

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client: Any = client
        self._clock = clock
        self._rests_until = float("-inf")
        self.counts = CacheCounts()

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of `keys` (without the prefix) in their order, None for a miss."""
        found: list[bytes | None] = self._ask(lambda: self._client.mget([PREFIX + key for key in keys]), [None] * len(keys)) if keys else []
        hits = sum(value is not None for value in found)
        self.counts.hits += hits
        self.counts.misses += len(keys) - hits
        return found

    def set_many(self, values: Mapping[str, bytes], ttl_s: float) -> bool:
        """Stores values for `ttl_s` seconds; False if Redis did not take all of them."""
        if not values:
            return True

        def store() -> bool:
            pipeline = self._client.pipeline(transaction=False)
            for key, value in values.items():
                pipeline.set(PREFIX + key, value, px=max(int(ttl_s * 1000), 1))
            return all(pipeline.execute())

        return bool(self._ask(store, False))

    def clear(self, pattern: str) -> int:
        """Deletes the keys that match `pattern` (glob, without the prefix) and returns how many; never blocks Redis for long.

        Raises:
            redis.RedisError: Redis is away; some keys may be deleted. Who clears must know.
        """
        deleted = 0
        chunk: list[bytes] = []
        for key in self._client.scan_iter(match=PREFIX + pattern, count=_CHUNK):
            chunk.append(key)
            if len(chunk) >= _CHUNK:
                deleted += self._client.unlink(*chunk)
                chunk.clear()
        return deleted + (self._client.unlink(*chunk) if chunk else 0)

    def recent(self, tenant_id: str, user_id: str, limit: int) -> list[RecentDecision]:
        """A user's latest decisions by event time, newest first; empty where there are none or Redis is away."""
        found = self._ask(lambda: self._client.zrange(user_decisions_key(tenant_id, user_id), 0, limit - 1, desc=True), [])
        self.counts.hits += bool(found)
        self.counts.misses += not found
        return [_decode_recent(value) for value in found]

    def tail(self, after: str, limit: int) -> list[tuple[str, RecentDecision]]:
        """Decisions of all users stored after the stream id `after` (`0` is from the oldest kept), with their ids, oldest first."""
        found = self._ask(lambda: self._client.xrange(TAIL_KEY, min=f"({after}" if after != "0" else "-", count=limit), [])
        return [(identity.decode(), _decode_recent(fields[b"decision"])) for identity, fields in found]

    def _ask(self, question: Callable[[], Any], otherwise: Any) -> Any:
        if self._clock() < self._rests_until:
            self.counts.errors += 1
            return otherwise
        try:
            return question()
        except redis.RedisError as error:
            self.counts.errors += 1
            self._rests_until = self._clock() + REST_S
            log.warning("the cache is away, going on without it", cause=type(error).__name__)
            return otherwise
